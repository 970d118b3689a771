"""What a stage hands to the next one: paths and digests, never live handles."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from tasks.digests import file_digest


class Record(BaseModel):
    """Base of all models that travel between steps: immutable, nothing unknown, JSON in and out."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def safe_relative_path(path: str) -> str:
    """Return `path` if it names something below a root and nothing else; raise ValueError otherwise."""
    parts = PurePosixPath(path).parts
    if not path or path.startswith("/") or "\\" in path or ".." in parts or str(PurePosixPath(path)) != path:
        raise ValueError(f"{path!r} is not a plain relative path with forward slashes")
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise ValueError(f"{path!r} has control characters")
    if not parts:
        raise ValueError("the root itself is no file")
    return path


R = TypeVar("R", bound=Record)
RelativePath = Annotated[str, AfterValidator(safe_relative_path)]
# Programs are given these as arguments and lines of files: none may look like an option or begin a new line.
HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_:][A-Za-z0-9_.:-]*$", max_length=255)]
UserName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.][A-Za-z0-9_.@+\\-]*$", max_length=255)]
OneLine = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Artifact(Record):
    """One finished file of a stage.

    Attributes
    ----------
    path
        Relative to the site's root, with forward slashes.
    bytes
        Size of the file.
    digest
        ``algorithm:hex`` of its content.
    made_by
        Stage and schema, for example ``camnet-patches/1``.
    key
        Content key: what it was made from and how (see `tasks.caching`).
    """

    path: RelativePath
    bytes: int = Field(ge=0)
    digest: str
    made_by: str
    key: str

    def under(self, root: Path) -> Path:
        """Where the file lies at the site with this root."""
        return root / self.path


def describe(root: Path, path: Path, *, made_by: str, key: str) -> Artifact:
    """Describe the finished file `path` below `root`; reads the file once for its digest."""
    return Artifact(
        path=path.relative_to(root).as_posix(),
        bytes=path.stat().st_size,
        digest=file_digest(path),
        made_by=made_by,
        key=key,
    )


def read_record(path: Path, model: type[R]) -> R | None:
    """Read a record that a stage left when it had finished; None when there is none, or one of another version."""
    try:
        return model.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None


def read_lines(path: Path, model: type[R]) -> list[R]:
    """Read records that were appended, one a line; none when there is no file. A line that was cut off is left out."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    records = []
    for line in lines:
        with suppress(ValidationError):
            records.append(model.model_validate_json(line))
    return records


def all_present(root: Path, artifacts: Iterable[Artifact]) -> bool:
    """Tell whether all files are there with their sizes (their digests are checked where they are read)."""
    try:
        return all(artifact.under(root).stat().st_size == artifact.bytes for artifact in artifacts)
    except (FileNotFoundError, NotADirectoryError):
        return False

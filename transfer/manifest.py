"""The manifest: which files a transfer moves, with their sizes and digests.

It is all that the computation and the transfers have in common. A manifest is written last, and
atomically: if it is there, all that it names is complete.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, field_validator

from tasks import atomic
from tasks.artifacts import Record, RelativePath
from tasks.digests import bytes_digest, file_digest
from tasks.errors import InputError, IntegrityError

Kind = Literal["patches", "thumbnail", "annotation", "weights", "scores", "report", "log"]
PIXEL_KINDS: frozenset[Kind] = frozenset({"patches", "thumbnail"})
"""Kinds that show tissue; a resident site keeps them."""

MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 256 << 20
_MAX_BYTES = 1 << 62
_AGAIN = "make the manifest again with the stage that wrote the files"

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


def _utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{text!r} cannot be written as UTF-8") from error
    return text


class Entry(Record):
    """One file of a manifest.

    Attributes
    ----------
    path
        Relative to the manifest's folder, with forward slashes.
    kind
        What the file holds; data policies decide by it.
    bytes
        Size of the file.
    rows
        Patches or scores in it, where that means something.
    digest
        ``sha256:<hex>`` of its content.
    """

    path: Annotated[RelativePath, AfterValidator(_utf8)]
    kind: Kind
    bytes: int = Field(ge=0, le=_MAX_BYTES)
    rows: int | None = Field(None, ge=0, le=_MAX_BYTES)
    digest: Digest


class Manifest(Record):
    """An ordered, self-checking list of files.

    Attributes
    ----------
    run
        Run that made the files.
    site
        Site where they lie.
    entries
        Sorted by path. No path occurs twice, differs from another only in case or in the composition of
        its accents, or is a folder of another: such files could not lie side by side everywhere.
    """

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    schema_name: Literal["camnet-manifest/1"] = Field("camnet-manifest/1", alias="schema")
    run: str = Field(min_length=1, max_length=200)
    site: str = Field(min_length=1, max_length=63)
    entries: tuple[Entry, ...]

    @field_validator("entries")
    @classmethod
    def _canonical(cls, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        paths = [entry.path for entry in entries]
        if paths != sorted(paths):
            raise ValueError("the entries are not sorted by path")
        _refuse_collisions(paths)
        return entries

    @cached_property
    def digest(self) -> str:
        """``sha256:<hex>`` of the canonical JSON (keys sorted, no spaces, UTF-8)."""
        content = self.model_dump(mode="json", include=set(Manifest.model_fields))
        return bytes_digest(json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())

    @property
    def total_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(entry.bytes for entry in self.entries)


class _StoredManifest(Manifest):
    """A manifest as it lies in its file, with the digest of the rest."""

    stored_digest: Digest = Field(alias="digest")


def manifest_of(
    root: Path, files: Iterable[tuple[str, Kind, int | None, str | None]], *, run: str, site: str
) -> Manifest:
    """Describe files below `root`.

    Parameters
    ----------
    files
        Relative path, kind, rows, and the digest where it is known already (it is computed otherwise).

    Raises
    ------
    InputError
        A file is missing, is a link, or lies outside of `root`; a path is not portable.
    """
    root = root.resolve()
    try:
        entries = [_entry_of(root, *file) for file in files]
        return Manifest(run=run, site=site, entries=tuple(sorted(entries, key=lambda entry: entry.path)))
    except ValidationError as error:
        raise InputError(_first_problems(error), subject=root, remedy="rename the file") from error


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write `manifest` with its own digest, atomically; call it after all files are complete."""
    content = manifest.model_dump(mode="json") | {"digest": manifest.digest}
    atomic.write_bytes(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def read_manifest(path: Path) -> Manifest:
    """Read a manifest and check it against its own digest.

    Raises
    ------
    InputError
        The file is missing, too large, no JSON, of another schema, or names paths, sizes or digests that
        make no sense.
    IntegrityError
        It was changed after it was written.
    """
    try:
        stored = _StoredManifest.model_validate_json(_limited_bytes(path), strict=True)
    except ValidationError as error:
        raise InputError(f"is not a manifest: {_first_problems(error)}", subject=path, remedy=_AGAIN) from error
    manifest = Manifest(run=stored.run, site=stored.site, entries=stored.entries)
    if manifest.digest != stored.stored_digest:
        raise IntegrityError("was changed after it was written (its digest does not fit)", subject=path, remedy=_AGAIN)
    return manifest


def _entry_of(root: Path, path: str, kind: Kind, rows: int | None, digest: str | None) -> Entry:
    file = root / path
    if file.is_symlink() or not file.is_file() or not file.resolve().is_relative_to(root):
        raise InputError("is not a plain file below the root", subject=file, remedy="put the file itself there")
    return Entry(path=path, kind=kind, rows=rows, bytes=file.stat().st_size, digest=digest or file_digest(file))


def _refuse_collisions(paths: list[str]) -> None:
    seen: dict[str, str] = {}
    for path in paths:
        folded = _folded(path)
        if folded in seen:
            raise ValueError(f"{path!r} and {seen[folded]!r} are the same name on some file systems")
        seen[folded] = path
    for folded, path in seen.items():
        for folder in PurePosixPath(folded).parents:
            if str(folder) in seen:
                raise ValueError(f"{seen[str(folder)]!r} is a file and a folder of {path!r}")


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _limited_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            # Asked before, so that what is too long is not read into memory first.
            fits = os.fstat(file.fileno()).st_size <= MAX_MANIFEST_BYTES
            data = file.read(MAX_MANIFEST_BYTES + 1) if fits else b""
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", subject=path, remedy="check the path") from error
    if not fits or len(data) > MAX_MANIFEST_BYTES:
        raise InputError(f"has more than {MAX_MANIFEST_BYTES >> 20} MiB", subject=path, remedy=_AGAIN)
    return data


def _first_problems(error: ValidationError) -> str:
    problems = [
        f"{'.'.join(str(part) for part in problem['loc']) or 'file'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_input=False)[:3]
    ]
    more = error.error_count() - len(problems)
    return "; ".join(problems) + (f"; and {more} more" if more else "")

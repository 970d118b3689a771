"""Exports shards for other tools, each shard once: what is finished is found again by its receipt."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tasks import atomic
from tasks.artifacts import Record, RelativePath, read_record
from tasks.caching import content_key
from tasks.errors import InputError
from tasks.patches.shards.find import shard_stem
from tasks.patches.shards.names import safe_name
from tasks.patches.shards.reading import shard_digest
from tasks.patches.store import Shard, open_shard

RECEIPTS = ".camnet-export"


class ExportedFile(Record):
    """One file of an export, relative to its folder."""

    path: RelativePath
    bytes: int


class Written(Record):
    """What an exporter made of one shard.

    Attributes
    ----------
    files
        In the order in which they were written.
    patches
        Patches in them.
    left_out
        Patches that the format has no place for.
    """

    files: tuple[ExportedFile, ...]
    patches: int
    left_out: int = 0


class Exporter(Protocol):
    """One format. The same shard always gives the same files."""

    @property
    def format(self) -> str:
        """Name, version and options: all that the files depend on beside the shard."""
        ...

    def existing(self, folder: Path, stem: str) -> list[Path]:
        """Files in `folder` that an export of a shard of this name would replace."""
        ...

    def write(self, shard: Shard, folder: Path, stem: str) -> Written:
        """Write the files of one shard, each of them atomically."""
        ...


class Receipt(Record):
    """Which shard was exported how; without `written` it was begun and not finished."""

    format: str
    shard: str
    digest: str
    written: Written | None = None


class Exported(Record):
    """The export of one shard; `reused` if it was found finished."""

    shard: Path
    written: Written
    reused: bool


def export_shard(path: Path, folder: Path, exporter: Exporter) -> Exported:
    """Export the shard `path` into `folder`, unless that was done already.

    Killed at any point, the same call goes on and ends with the same files.

    Raises
    ------
    IntegrityError
        The shard is damaged.
    InputError
        The folder holds files of these names that come from elsewhere, or the format cannot hold this slide.
    """
    digest = shard_digest(path)
    key = content_key(exporter.format, inputs=[path.name, digest], config=None, code=[])
    receipt_path = folder / RECEIPTS / f"{key}.json"
    receipt = read_record(receipt_path, Receipt)
    if receipt is not None and receipt.written is not None and _all_there(folder, receipt.written):
        return Exported(shard=path, written=receipt.written, reused=True)
    stem = safe_name(shard_stem(path))
    with open_shard(path) as shard:
        if receipt is None:
            _refuse_foreign(exporter.existing(folder, stem), folder)
            receipt = Receipt(format=exporter.format, shard=stem, digest=digest)
            atomic.write_text(receipt_path, receipt.model_dump_json(indent=1))
        written = exporter.write(shard, folder, stem)
    atomic.write_text(receipt_path, receipt.model_copy(update={"written": written}).model_dump_json(indent=1))
    return Exported(shard=path, written=written, reused=False)


def _all_there(folder: Path, written: Written) -> bool:
    try:
        return all((folder / file.path).stat().st_size == file.bytes for file in written.files)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _refuse_foreign(existing: list[Path], folder: Path) -> None:
    if existing:
        raise InputError(
            "is there already, from another shard of this name or with other options",
            subject=existing[0],
            remedy=f"export into another folder than {folder}, or remove it",
        )

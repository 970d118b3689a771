"""Folders in which files wait for other names, beside where they come from or go to."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from transfer.carrier import Load
from transfer.scratch import scratch_errors

_PREFIX, _SUFFIX = ".camnet-", ".staging"


def lay_out(loads: Sequence[Load], root: Path, folder: Path) -> Path:
    """Make a folder of links that have the names of the partial files and lead to their sources below `root`."""
    with scratch_errors():
        for load in loads:
            link = folder / load.partial_path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(root.absolute() / load.source_path)
    return folder


@contextmanager
def staging_folder(root: Path | None = None) -> Iterator[Path]:
    """Give an empty folder in `root` (the folder for temporary files) as long as the block lasts."""
    with nullcontext() if root else scratch_errors():
        root = root or Path(tempfile.gettempdir())
        sweep_staging(root)
        folder, lock = _locked_folder(root)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked_folder(root: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, suffix=_SUFFIX, dir=root))
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # swept by another process before it was locked
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)


def sweep_staging(root: Path) -> None:
    """Remove the staging folders in `root` whose process has died."""
    for folder in root.glob(f"{_PREFIX}*{_SUFFIX}"):
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue  # it has just gone, or is no folder of ours
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue  # its process lives
        finally:
            os.close(lock)

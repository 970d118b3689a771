"""The folder in which a training works until its model is finished."""

from __future__ import annotations

import fcntl
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_NAME = "lock"


@contextmanager
def attempt_folder(output: Path) -> Iterator[Path]:
    """Give an empty folder beside `output`; it is removed at the end, whatever happens.

    What killed attempts at the same output left is removed first. An attempt that lives holds a lock in its
    folder, which the kernel takes away when it dies, so it is told apart without a look at process numbers.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    for folder in output.parent.glob(f".{output.name}.*.part"):
        _remove_if_dead(folder)
    work = output.with_name(f".{output.name}.{secrets.token_hex(4)}.part")
    work.mkdir()
    try:
        with (work / LOCK_NAME).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _remove_if_dead(folder: Path) -> None:
    try:
        with (folder / LOCK_NAME).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except (BlockingIOError, FileNotFoundError):
        # It lives, or it is just being made or removed.
        return

"""The folder in which a training works until its model is finished."""

from __future__ import annotations

import fcntl
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.errors import RetryableFault

LOCK_NAME = "lock"


@contextmanager
def attempt_folder(output: Path) -> Iterator[Path]:
    """Give an empty folder beside `output`; it is removed at the end, whatever happens.

    What killed attempts at the same output left is removed first. An attempt that lives holds a lock in its
    folder, which the kernel takes away when it dies, so it is told apart without a look at process numbers.

    Raises
    ------
    RetryableFault
        Another attempt at the same output lives.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    work = output.with_name(f".{output.name}.{secrets.token_hex(4)}.part")
    work.mkdir()
    try:
        with (work / LOCK_NAME).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # After the own lock: of two that begin at once, one at least sees the other.
            for folder in output.parent.glob(f".{output.name}.*.part"):
                if folder != work:
                    _remove_if_dead(folder, output)
            yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _remove_if_dead(folder: Path, output: Path) -> None:
    try:
        with (folder / LOCK_NAME).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        raise RetryableFault(
            "another process trains this model now",
            subject=output,
            remedy="wait for its end: the same command then finds the model finished, or goes on from its checkpoint",
        ) from None
    except FileNotFoundError:
        # It is just being made, and will see us, or removed.
        return

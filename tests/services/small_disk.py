"""File systems that are full in no time."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")


@contextmanager
def small_disk(folder: Path, size_kib: int) -> Iterator[Path]:
    """Mount a file system of `size_kib` on a new folder.

    At the end it is unmounted, which fails when a file in it is still open.
    """
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "camnet-test", folder], check=True)
    try:
        yield folder
    except BaseException:  # of a failed test too: the mount must not stay, even while a file is open
        subprocess.run(["umount", "-l", folder], check=True)
        raise
    subprocess.run(["umount", folder], check=True)

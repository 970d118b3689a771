"""A folder for what a benchmark makes while it measures."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def own_folder(parent: Path, output: Path) -> Iterator[Path]:
    """Give a path below `parent`, always the same for an output folder, at which nothing is before and after."""
    folder = parent / hashlib.sha256(str(output).encode()).hexdigest()[:12]
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)

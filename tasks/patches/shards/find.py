"""Which shards are meant by the paths that a user names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tasks.errors import InputError
from tasks.patches.shard_names import SUFFIX


def find_shards(paths: Iterable[Path]) -> list[Path]:
    """List the shards: files as they are named, and all ``*.patches.h5`` below a folder, sorted; none twice.

    Raises
    ------
    InputError
        A path is not there, or a folder holds no shard.
    """
    return list(find_places(paths))


def find_places(paths: Iterable[Path]) -> dict[Path, Path]:
    """Find the shards as `find_shards` does, each with its path below the folder that was named (or its name).

    Raises
    ------
    InputError
        As `find_shards`.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            below = sorted(file for file in path.rglob(f"*{SUFFIX}") if not _is_hidden(file.relative_to(path)))
            if not below:
                raise InputError(f"holds no shard (*{SUFFIX})", subject=path, remedy="check the path")
            for file in below:
                found.setdefault(file, file.relative_to(path))
        elif path.exists():
            found.setdefault(path, Path(path.name))
        else:
            raise InputError("is not there", subject=path, remedy="check the path")
    return found


def shard_stem(path: Path) -> str:
    """Name of a shard without what all shards' names end with."""
    return path.name.removesuffix(SUFFIX).removesuffix(".h5")


def _is_hidden(path: Path) -> bool:
    # Shards that are being written have such names.
    return any(part.startswith(".") for part in path.parts)

"""Which CamNet runs here."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_ROOMS = ("tasks", "transfer", "flows", "deployments")


@cache
def software() -> str:
    """Give version and digest of the code: the same where the same results are made."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for room in _ROOMS:
        for source in sorted((root / room).rglob("*.py")):
            digest.update(source.relative_to(root).as_posix().encode() + b"\0" + source.read_bytes())
    try:
        number = version("camnet")
    except PackageNotFoundError:
        number = "not installed"
    return f"{number}, code {digest.hexdigest()[:16]}"

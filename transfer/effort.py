"""What moving a file took."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Effort:
    """What one attempt at a file took; filled in as it goes, so that a failed attempt has its figures too."""

    streams: int = 1
    wire_bytes: int = 0
    wire_seconds: float = 0.0
    startup_seconds: float = 0.0
    verify_seconds: float = 0.0
    verified_by: str | None = None
    bytes_resent: int = 0

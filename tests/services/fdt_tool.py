"""A tool for FDT that is `stand_in_fdt`, for tests."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from transfer.servers import FdtTool


def stand_in(folder: Path, *, poll_s: float = 0.02) -> FdtTool:
    """Write the program and a jar into a folder; a `poll_s` of 1 is FDT's own."""
    folder.mkdir(parents=True, exist_ok=True)
    jar, java = folder / "fdt.jar", folder / "java"
    jar.write_bytes(b"PK")
    program = Path(__file__).parent / "stand_in_fdt.py"
    command = shlex.join([f"STAND_IN_POLL_S={poll_s}", sys.executable, "-I", str(program)])
    java.write_text(f'#!/bin/sh\nexec env {command} "$@"\n')
    java.chmod(0o755)
    return FdtTool(jar=jar, java=str(java), port=20_000 + os.getpid() * 40 % 10_000, ports=40)

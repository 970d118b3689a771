"""Options that several commands share."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from tasks.artifacts import Record

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="run configuration (TOML)")]
WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", "-w", help="folder of the runs and, embedded, of the sites")
]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]

DEFAULT_WORKSPACE = Path("camnet-workspace")


def print_json(value: object) -> None:
    """Print a record, or plain JSON, on standard output."""
    text = value.model_dump_json(indent=1) if isinstance(value, Record) else json.dumps(value, indent=1)
    sys.stdout.write(text + "\n")

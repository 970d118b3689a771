"""The camnet command as a user runs it: a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRAIN = """
[preprocess]
patch_px = 96
tumour_patches = 40
normal_patches = 40
grid_stride_px = 96

[train]
architecture = "CamNetSmall"
epochs = 1
batch_size = 16
optimizer = "adam"

[explain]
top_patches = 2
"""


def stored_as(encoding: str) -> str:
    """Give TRAIN with another encoding of the shards."""
    return TRAIN.replace("[preprocess]", f'[preprocess]\nencoding = "{encoding}"')


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    output: str
    errors: str

    @property
    def error(self) -> dict[str, Any]:
        """The error that it told, as JSON: the last line of standard error."""
        told: dict[str, Any] = json.loads(self.errors.strip().splitlines()[-1])
        return told


def camnet(*arguments: str | Path, environment: dict[str, str] | None = None, timeout_s: float = 600) -> Done:
    """Run ``camnet`` and wait for its end."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("camnet")), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def write_config(path: Path, slides: Path, *, name: str = "test", more: str = TRAIN) -> Path:
    """Write a run configuration for a small cohort."""
    top, tables = more.split("[", 1)
    path.write_text(f'name = "{name}"\nseed = 5\n{top}\n[cohort]\nslides = "{slides}"\n\n[{tables}')
    return path


def write_sites(folder: Path, *, ssh: str = "", policy: str = "open") -> Path:
    """Write site files for two folders of this machine; `ssh` is the [ssh] table of site-b."""
    folder.mkdir()
    (folder / "site-a.toml").write_text(f'name = "site-a"\nroot = "site-a"\npolicy = "{policy}"\n[dask]\nworkers = 2\n')
    (folder / "site-b.toml").write_text(f'name = "site-b"\nroot = "site-b"\n[horovod]\nslots = 2\n{ssh}')
    return folder

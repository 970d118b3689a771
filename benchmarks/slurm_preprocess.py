#!/usr/bin/env python
"""``camnet benchmark preprocess`` on a real Slurm of this machine, whose virtual nodes have one core each.

    python benchmarks/slurm_preprocess.py --nodes 3 --folder FOLDER -- --workers 1,2,3 --slides 1,3 --repeats 3

What follows ``--`` are options of that command. A Slurm (munge, a controller, virtual nodes) is started for it and
stopped at the end; nothing in /etc is used. The nodes share the processors of this machine: with more workers than it
has, time does not shrink, and the model of the report knows that. On a cluster the command itself is all that is
needed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main() -> int:
    """Start Slurm, run the command, give its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=3, help="virtual nodes")
    parser.add_argument("--folder", type=Path, required=True, help="for report, slides and logs")
    parser.add_argument("options", nargs="*", help="of camnet benchmark preprocess")
    given = parser.parse_args()
    from tests.services.slurm import running_slurm, slurm_sites

    folder: Path = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    sites = folder / "sites"
    if not sites.is_dir():
        slurm_sites(sites, minimum_jobs=1, maximum_jobs=given.nodes)
    command = [str(Path(sys.executable).with_name("camnet")), "benchmark", "preprocess", "--site", "site-a"]
    command += ["--sites-folder", str(sites), "--workspace", str(folder), "--output", str(folder / "report")]
    with running_slurm(nodes=given.nodes) as slurm:
        return subprocess.run(
            [*command, *given.options], env={**os.environ, **slurm.environment}, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main())

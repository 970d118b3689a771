"""Opens the clusters of sites and tells why their workers do not come.

A program of its own: Dask and asyncio leave things to the garbage collector that pytest would call errors.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_ENOUGH_S = 60.0


@dataclass(frozen=True)
class Case:
    """A site file, and variables that are set while its cluster is open."""

    site: Path
    environment: dict[str, str]


def troubles(cases: dict[str, Case], environment: dict[str, str]) -> dict[str, dict[str, str]]:
    """Give for each case the error that ends the waiting: type, subject, cause and remedy."""
    told = {name: {"site": str(case.site), "environment": case.environment} for name, case in cases.items()}
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(told),
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=True,
    )
    found: dict[str, dict[str, str]] = json.loads(done.stdout)
    return found


def _trouble(path: Path) -> dict[str, str | None]:
    from deployments.sites import load_site
    from flows.open_cluster import open_cluster
    from flows.site_flow import describe_error
    from tasks.errors import CamNetError

    try:
        with open_cluster(load_site(path, workspace=path.parent), run="test", tasks=4) as cluster:
            cluster.begin()
            deadline = time.monotonic() + _ENOUGH_S
            while time.monotonic() < deadline:
                cluster.check()
                time.sleep(0.1)
    except CamNetError as error:
        return describe_error(error)
    return {"type": "no error"}


def _main() -> None:
    before = dict(os.environ)
    found = {}
    for name, case in json.load(sys.stdin).items():
        os.environ.update(case["environment"])
        found[name] = _trouble(Path(case["site"]))
        os.environ.update(before)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    _main()

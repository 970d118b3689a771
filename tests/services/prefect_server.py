"""A real Prefect server and real process workers for tests; all stopped by PID."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from deployments.process_group import start_group, stop_group
from flows.environment import DEFAULTS
from flows.server import running_server

REPOSITORY = Path(__file__).resolve().parents[2]


@contextmanager
def server_with_workers(
    folder: Path, pools: Sequence[str], more: Mapping[str, str] | None = None
) -> Iterator[dict[str, str]]:
    """Run a server and one process worker a pool; give the environment in which they are reached.

    The workers, and all that they start, have the variables `more` too.
    """
    with ExitStack() as stack:
        url = stack.enter_context(running_server(folder / "server"))
        environment = {**os.environ, **DEFAULTS, "PREFECT_API_URL": url, "PREFECT_HOME": str(folder / "home")}
        environment |= more or {}
        for pool in pools:
            prefect(environment, "work-pool", "create", "--type", "process", pool)
        prefect(environment, "deploy", "--all", "--prefect-file", str(REPOSITORY / "deployments" / "prefect.yaml"))
        for pool in pools:
            log = stack.enter_context((folder / f"worker-{pool}.log").open("wb"))
            worker = start_group(
                [
                    sys.executable,
                    "-m",
                    "prefect",
                    "worker",
                    "start",
                    "--pool",
                    pool,
                    "--name",
                    pool,
                    "--type",
                    "process",
                ],
                log,
                environment,
            )
            stack.callback(stop_group, worker)
        yield environment


def prefect(environment: dict[str, str], *arguments: str, failing: bool = False) -> str:
    """Run a prefect command and give its output; an end that is not the expected one shows it."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode != 0) == failing, done.stdout + done.stderr
    return done.stdout


def asked(environment: dict[str, str], path: str, question: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """What the server's API says."""
    request = Request(  # noqa: S310  # the server of this test
        f"{environment['PREFECT_API_URL']}/{path}/filter",
        data=json.dumps(question or {}).encode(),
        headers={"content-type": "application/json"},
    )
    with urlopen(request, timeout=30) as answer:  # noqa: S310  # the server of this test
        found: list[dict[str, Any]] = json.load(answer)
    return found

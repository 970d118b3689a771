"""The Prefect server that a run reports to: the configured one, or one of our own while the run lasts."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from deployments.process_group import start_group, stop_group
from tasks.errors import RetryableFault

log = logging.getLogger(__name__)
_STARTUP_S = 180.0
_DRAIN_S = 10.0


@contextmanager
def prefect_api(home: Path) -> Iterator[str]:
    """Give the URL of a Prefect API that this process and its children use inside the block.

    When a server is configured (``PREFECT_API_URL`` or the active profile), it is used. Otherwise one
    is started on a free loopback port with its database in `home`, so that the history of runs
    stays, and stopped at the end. Prefect's own ephemeral mode does not serve here: each process of
    a Dask cluster would start its own server.

    Raises
    ------
    RetryableFault
        The server did not answer in three minutes, or ended by itself.
    """
    configured = get_current_settings().api.url
    if configured:
        yield configured
        return
    with running_server(home) as url, _environment(PREFECT_API_URL=url), temporary_settings({PREFECT_API_URL: url}):
        try:
            yield url
        finally:
            _send_what_waits()


@contextmanager
def running_server(home: Path, *, host: str = "127.0.0.1", port: int | None = None) -> Iterator[str]:
    """Run a Prefect server with its database in `home`; give its API's URL."""
    home.mkdir(parents=True, exist_ok=True)
    port = port or free_port(host)
    url = f"http://{host}:{port}/api"
    environment = {**os.environ, "PREFECT_HOME": str(home.resolve()), "PREFECT_UI_API_URL": url}
    environment.pop("PREFECT_API_URL", None)
    output = home / "server.log"
    with output.open("ab") as log_file:
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", str(port)]
        server = start_group(command, log_file, environment)
        try:
            _wait_until_healthy(url, server, output)
            yield url
        finally:
            stop_group(server)


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port of `host` that is free now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _send_what_waits() -> None:
    # Both workers would otherwise try for a minute, at exit, to reach a server that has gone.
    EventsWorker.drain_all(timeout=_DRAIN_S)
    APILogWorker.drain_all(timeout=_DRAIN_S)


def _wait_until_healthy(url: str, server: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + _STARTUP_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RetryableFault(f"the Prefect server ended with status {server.returncode}", subject=output)
        try:
            with urlopen(f"{url}/health", timeout=2) as answer:  # noqa: S310  # a URL of our own making
                if answer.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(0.2)
    raise RetryableFault(f"the Prefect server did not answer in {_STARTUP_S:.0f} s", subject=output)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

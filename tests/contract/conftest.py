"""The servers of the contract suite, and every way over them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.loopback_sshd import LoopbackSshd, loopback_sshd
from tests.services import globus_route
from tests.services.globus_service import GlobusService, globus_service
from tests.services.gridftp import gridftp_servers
from tests.services.sshd_route import WAYS, Route, account_of, route_of
from transfer.servers import GridftpServer

FOLDER = "two sites; $(touch camnet-was-here) 'x'"
"""Where the sites lie: a shell that read it would leave a file behind."""


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with loopback_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="session")
def globus() -> Iterator[GlobusService]:
    with globus_service() as service:
        yield service


@pytest.fixture(scope="session")
def servers(sshd: LoopbackSshd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, GridftpServer]]:
    with gridftp_servers(tmp_path_factory.mktemp("gridftp"), account_of(sshd)) as servers:
        yield servers


@pytest.fixture(params=[*WAYS, *globus_route.WAYS])
def route(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    sshd: LoopbackSshd,
    servers: dict[str, GridftpServer],
    globus: GlobusService,
    monkeypatch: pytest.MonkeyPatch,
) -> Route:
    if request.param in globus_route.WAYS:
        for name, value in globus.environment.items():
            monkeypatch.setenv(name, value)
        return globus_route.globus_route(tmp_path / FOLDER, globus, request.param)
    return route_of(tmp_path / FOLDER, request.param, account_of(sshd), servers=servers)

"""Fixtures of the tests that run whole stages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.loopback_sshd import LoopbackSshd, loopback_sshd
from flows.server import running_server
from tests.services.cohort import small_cohort


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight small slides of eight patients, half of them with tumour."""
    folder = tmp_path_factory.mktemp("cohort")
    small_cohort(folder, slides=8, side_px=1536)
    return folder


@pytest.fixture(scope="session")
def prefect_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prefect server for all tests of the session."""
    with running_server(tmp_path_factory.mktemp("prefect")) as url:
        yield url


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    """A real SSH server on a free loopback port."""
    with loopback_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def ssh_table(sshd: LoopbackSshd) -> str:
    """The [ssh] table of a site that is reached through `sshd`."""
    return (
        f'[ssh]\nhost = "{sshd.host}"\nport = {sshd.port}\nuser = "{sshd.user}"\n'
        f'key = "{sshd.key}"\nknown_hosts = "{sshd.known_hosts}"\n'
    )

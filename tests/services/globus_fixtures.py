"""Fixtures of the Globus tests; a test file imports those that it uses."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from globus_sdk.transport import RetryConfig

from tests.services.globus_route import WAYS, globus_route
from tests.services.globus_service import GlobusService, globus_service
from tests.services.sshd_route import Route
from transfer import globus_login


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[GlobusService]:
    """A service that the SDK is led to; what it repeats, it repeats soon."""
    monkeypatch.setattr(globus_login, "RetryConfig", functools.partial(RetryConfig, max_sleep=0.01))
    with globus_service() as service:
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        yield service


@pytest.fixture(params=WAYS)
def route(request: pytest.FixtureRequest, tmp_path: Path, service: GlobusService) -> Route:
    """Two collections, each of `WAYS`."""
    return globus_route(tmp_path / "sites", service, request.param)

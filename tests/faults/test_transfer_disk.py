"""Destinations that are full, read-only or not ours."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.loopback_sshd import LoopbackSshd, loopback_sshd
from tests.services.sshd_route import QUICK, Route, account_of, random_bytes, route_of

WAYS = ("local", "sftp push", "sftp pull", "streams push", "streams pull")
DISK_BYTES = 1 << 20
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with loopback_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(params=WAYS)
def route(request: pytest.FixtureRequest, tmp_path: Path, sshd: LoopbackSshd) -> Iterator[Route]:
    """A route whose destination is a file system of 1 MiB."""
    route = route_of(tmp_path / "sites", request.param, account_of(sshd))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", route.there], check=True)
    try:
        yield route
    finally:
        subprocess.run(["umount", "-l", route.there], check=True)


def test_a_full_disk_is_named_and_left_as_it_was(route: Route) -> None:
    route.put({"big.bin": random_bytes(2 * DISK_BYTES), "small.bin": b"small"})
    (route.there / "big.bin").write_bytes(b"what was there")
    big, small = route.move(route.batch("big.bin", "small.bin"))
    assert (big.state, big.kind) == ("failed", "permanent")
    assert "no space left" in str(big.error).lower()
    assert str(big.remedy).startswith("free some space there")
    assert small.state == "done"
    assert (route.there / "big.bin").read_bytes() == b"what was there"
    assert route.litter() == []
    assert [row.path for row in route.ledger.read()] == ["big.bin", "small.bin"]  # no attempt that cannot help


def test_the_same_call_succeeds_when_there_is_room(route: Route) -> None:
    route.put({"big.bin": random_bytes(DISK_BYTES * 3 // 4)})
    (route.there / "in the way").write_bytes(bytes(DISK_BYTES // 2))
    batch = route.batch("big.bin")
    assert route.move(batch)[0].kind == "permanent"
    (route.there / "in the way").unlink()
    assert route.move(batch)[0].state == "done"
    assert route.digest_there("big.bin") == batch.entries[0].digest


def test_a_read_only_file_system_is_named(route: Route) -> None:
    route.put({"a.bin": random_bytes(200_000)})
    (route.there / "a.bin").write_bytes(b"what was there")
    subprocess.run(["mount", "-o", "remount,ro", route.there], check=True)
    (outcome,) = route.move(route.batch("a.bin"), QUICK)
    assert (outcome.state, outcome.kind) == ("failed", "permanent")
    assert "read-only file system" in str(outcome.error).lower()
    assert str(outcome.remedy).startswith("mount that file system writable")
    assert len(route.ledger.read()) == 1
    assert (route.there / "a.bin").read_bytes() == b"what was there"

"""Destinations and sources whose account loses a permission or meets a limit while a file is on its way."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.loopback_sshd import LoopbackSshd, loopback_sshd
from tests.services.small_disk import needs_root
from tests.services.sshd_route import CHUNK_BYTES, QUICK, Route, account_of, random_bytes, route_of

NOBODY = 65534
FILE_BYTES = 20 * CHUNK_BYTES
LIMIT_BYTES = FILE_BYTES * 7 // 10
SLOW = QUICK.model_copy(update={"limit_mb_per_s": 2.0})


@pytest.fixture(scope="module")
def humble_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    """A server whose account may not do everything, whoever runs the tests."""
    drop = f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups" if os.geteuid() == 0 else ""
    setting = f'ForceCommand exec {drop} sh -c "$SSH_ORIGINAL_COMMAND"'
    with loopback_sshd(tmp_path_factory.mktemp("sshd"), settings=[setting]) as server:
        yield server


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody reaches, which those of pytest are not."""
    folder = Path(tempfile.mkdtemp(prefix="camnet-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def route_as_nobody(folder: Path, way: str, sshd: LoopbackSshd) -> Route:
    route = route_of(folder / "sites", way, account_of(sshd))
    route.put({"a.bin": random_bytes(FILE_BYTES), "b.bin": b"b"})
    for path in (route.here, route.there, *route.here.iterdir()):
        os.chown(path, NOBODY, NOBODY)
    return route


@needs_root
@pytest.mark.parametrize("way", ["sftp push", "streams push", "scp push", "rsync push"])
def test_a_permission_to_write_that_is_lost_half_way_is_named(
    open_folder: Path, humble_sshd: LoopbackSshd, way: str
) -> None:
    route = route_as_nobody(open_folder, way, humble_sshd)
    (route.there / "a.bin").write_bytes(b"what was there")
    batch = route.batch("a.bin")

    def take_away(path: str, arrived_bytes: int) -> None:
        if arrived_bytes >= FILE_BYTES // 2:
            for one in (route.there, *route.there.glob(".*.camnet-part")):
                os.chown(one, 0, 0)

    (outcome,) = route.move(batch, SLOW, take_away)
    assert (outcome.state, outcome.kind) == ("failed", "permanent")
    assert "permission denied" in str(outcome.error).lower()
    assert str(outcome.remedy).startswith("give the account write permission")
    assert (route.there / "a.bin").read_bytes() == b"what was there"
    assert len(route.ledger.read()) == 1  # no attempt that cannot help
    for one in (route.there, *route.there.iterdir()):
        os.chown(one, NOBODY, NOBODY)
    assert route.move(batch)[0].state == "done"
    assert route.digest_there("a.bin") == batch.entries[0].digest
    assert route.litter() == []


@needs_root
@pytest.mark.parametrize(("way", "share"), [("sftp pull", 0.0), ("streams pull", 0.5)])  # SFTP keeps the file open
def test_a_permission_to_read_that_is_lost_half_way_is_named(
    open_folder: Path, humble_sshd: LoopbackSshd, way: str, share: float
) -> None:
    route = route_as_nobody(open_folder, way, humble_sshd)
    batch = route.batch("a.bin")

    def take_away(path: str, arrived_bytes: int) -> None:
        if arrived_bytes >= share * FILE_BYTES:
            os.chown(route.here / "a.bin", 0, 0)
            (route.here / "a.bin").chmod(0o600)

    (outcome,) = route.move(batch, SLOW, take_away)
    assert (outcome.state, outcome.kind) == ("failed", "permanent")
    assert "permission denied" in str(outcome.error).lower()
    assert "read permission at the source" in str(outcome.remedy)
    assert list(route.there.iterdir()) == []
    assert len(route.ledger.read()) == 1


@pytest.mark.parametrize("way", ["sftp push", "streams push", "scp push", "rsync push"])
def test_a_limit_of_the_account_that_is_met_at_70_percent_is_named(tmp_path: Path, way: str) -> None:
    """SFTP has one word, "Failure", for a quota and for this limit; a quota would need a file system of its own."""
    blocks = LIMIT_BYTES // 512
    limited = f'trap "" XFSZ; ulimit -f {blocks}; exec sh -c "$SSH_ORIGINAL_COMMAND"'
    setting = f"ForceCommand exec sh -c '{limited}'"
    with loopback_sshd(tmp_path / "sshd", settings=[setting]) as server:
        route = route_of(tmp_path / "sites", way, account_of(server))
        route.put({"a.bin": random_bytes(FILE_BYTES), "b.bin": b"b"})
        (route.there / "a.bin").write_bytes(b"what was there")
        large, small = route.move(route.batch("a.bin", "b.bin"))
    assert (large.state, large.kind, small.state) == ("failed", "permanent", "done")
    assert "quota" in str(large.remedy) or "ulimit -f" in str(large.remedy)
    assert (route.there / "a.bin").read_bytes() == b"what was there"
    assert route.litter() == []

"""A dry run looks and writes nothing, whichever way the destination is reached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.loopback_sshd import LoopbackSshd, loopback_sshd
from tasks.errors import InputError, PolicyRefusal
from tests.services.sshd_route import CHUNK_BYTES, QUICK, Route, account_of, random_bytes, route_of
from transfer.dry_run import dry_run
from transfer.journal import Journal, Target


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with loopback_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(params=["local", "push"])
def route(request: pytest.FixtureRequest, tmp_path: Path, sshd: LoopbackSshd) -> Route:
    return route_of(tmp_path, request.param, account_of(sshd))


def test_it_tells_what_is_there_and_what_is_missing(route: Route) -> None:
    size = 4 * CHUNK_BYTES
    route.put({name: random_bytes(size, seed=1) for name in ("there", "differs", "partly", "missing")})
    batch = route.batch("there", "differs", "partly", "missing")
    (route.there / "there").write_bytes(random_bytes(size, seed=1))
    (route.there / "differs").write_bytes(b"older")
    half = batch.entries[[entry.path for entry in batch.entries].index("partly")]
    target = Target("site-b", str(route.there), "partly", half.bytes, half.digest)
    journal = Journal(route.ledger.path.parent / "journals", target)
    journal.arrive((0, CHUNK_BYTES))
    journal.close()
    before = sorted(path.name for path in route.there.iterdir())
    found = dry_run(batch, protocol="auto", options=QUICK, ledger=route.ledger)
    assert {file.path: (file.state, file.bytes_to_send) for file in found.files} == {
        "there": ("there", 0),
        "differs": ("differs", size),
        "partly": ("partly", size - CHUNK_BYTES),
        "missing": ("missing", size),
    }
    assert found.bytes_to_send == 3 * size - CHUNK_BYTES
    assert found.why.startswith(found.protocol)
    assert sorted(path.name for path in route.there.iterdir()) == before
    assert not route.ledger.path.exists()


def test_the_journal_of_another_version_counts_for_nothing(route: Route) -> None:
    route.put({"a": random_bytes(2 * CHUNK_BYTES)})
    (entry,) = (batch := route.batch("a")).entries
    old = Target("site-b", str(route.there), "a", entry.bytes, "sha256:" + "0" * 64)
    journal = Journal(route.ledger.path.parent / "journals", old)
    journal.arrive((0, CHUNK_BYTES))
    journal.close()
    found = dry_run(batch, protocol="auto", options=QUICK, ledger=route.ledger)
    assert (found.files[0].state, found.bytes_to_send) == ("missing", 2 * CHUNK_BYTES)


def test_a_destination_that_is_not_made_yet_has_nothing(route: Route) -> None:
    route.put({"a": b"abc"})
    route.there.rmdir()
    found = dry_run(route.batch("a"), protocol="sftp", options=QUICK, ledger=route.ledger)
    assert (found.protocol, found.files[0].state) == ("sftp", "missing")
    assert not route.there.exists()


def test_what_may_not_leave_is_refused(tmp_path: Path, sshd: LoopbackSshd) -> None:
    route = route_of(tmp_path, "push", account_of(sshd), policy="resident")
    route.put({"a": b"abc"})
    with pytest.raises(PolicyRefusal):
        dry_run(route.batch("a", kind="patches"), protocol="auto", options=QUICK, ledger=route.ledger)


def test_a_wrong_account_is_told(tmp_path: Path, sshd: LoopbackSshd) -> None:
    account = account_of(sshd).model_copy(update={"known_hosts": tmp_path / "nothing"})
    route = route_of(tmp_path, "push", account)
    route.put({"a": b"abc"})
    with pytest.raises(InputError, match="cannot be read"):
        dry_run(route.batch("a"), protocol="auto", options=QUICK, ledger=route.ledger)

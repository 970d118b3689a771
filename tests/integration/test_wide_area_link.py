"""The link that benchmarks use has the distance and the rate that it was given, and every mover goes over it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.wan import Link, inside, measured_rate_mb_per_s, measured_round_trip_ms, wide_area_link
from deployments.loopback_sshd import loopback_sshd
from tests.services.gridftp import sshftp_server
from tests.services.sshd_route import account_of, random_bytes, route_of
from transfer.model import SshAccount, TransferOptions

pytestmark = pytest.mark.slow
ROUND_TRIP_MS = 20
MANY = TransferOptions(streams=4, chunk_bytes=1 << 20, attempts=2, stall_s=30.0, backoff_s=0.1)


def namespaces() -> set[str]:
    return {path.name for path in Path("/run/netns").glob("camnet-wan-*")}


@dataclass(frozen=True)
class FarAccount:
    """An account at the other end of a link."""

    link: Link
    account: SshAccount


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarAccount]:
    folder = tmp_path_factory.mktemp("far")
    with ExitStack() as stack:
        made = wide_area_link(round_trip_ms=ROUND_TRIP_MS, rate_mbit_per_s=400, loss=0.0002)
        link = stack.enter_context(made)
        with inside(link.there):
            settings = [f"ListenAddress {link.there_address}"]
            server = stack.enter_context(loopback_sshd(folder / "sshd", settings=settings))
        known_hosts = folder / "known_hosts"
        known_hosts.write_text(server.known_hosts.read_text().replace("[127.0.0.1]", f"[{link.there_address}]"))
        account = account_of(server).model_copy(update={"host": link.there_address, "known_hosts": known_hosts})
        yield FarAccount(link, account)


def test_it_is_as_far_and_no_faster_than_it_was_made() -> None:
    before = namespaces()
    with wide_area_link(round_trip_ms=20, rate_mbit_per_s=100) as link:
        assert {link.here, link.there} <= namespaces()
        assert measured_round_trip_ms(link) >= 20
        assert 0 < measured_rate_mb_per_s(link, 4 << 20) <= 12.5
    assert namespaces() == before


# Without globus, whose bytes go from collection to collection, and fdt, for which there is a stand-in only.
@pytest.mark.parametrize(
    "way",
    ["streams push", "streams pull", "tls push", "sftp push", "scp push", "rsync push", "gridftp push"],
)
def test_every_mover_goes_over_it(tmp_path: Path, far: FarAccount, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOBUS_HOSTNAME", far.link.here_address)  # this end's name leads elsewhere
    servers = {"push": sshftp_server(far.account)} if way.startswith("gridftp") else None
    route = route_of(tmp_path / "sites", way, far.account, servers=servers)
    files = {f"{number}.bin": random_bytes(50_000 + number, seed=number) for number in range(2)}
    files["large.bin"] = random_bytes(2_500_000, seed=9)
    route.put(files)
    batch = route.batch(*files)
    with inside(far.link.here):
        began_s = time.monotonic()
        outcomes = route.move(batch, MANY)
        took_s = time.monotonic() - began_s
    assert [(outcome.state, outcome.error) for outcome in outcomes] == [("done", None)] * len(files)
    assert [route.digest_there(entry.path) for entry in batch.entries] == [entry.digest for entry in batch.entries]
    rows = route.ledger.read()
    assert {row.protocol for row in rows} == {route.protocol}
    assert all(row.verified_by for row in rows)
    assert took_s > 5 * ROUND_TRIP_MS / 1e3  # a login alone takes more, so that it was that link
    assert route.litter() == []


def fail_on_a_link() -> None:
    with wide_area_link(round_trip_ms=1, rate_mbit_per_s=100):
        raise RuntimeError("the block fails")


def test_a_block_that_fails_takes_it_away() -> None:
    before = namespaces()
    with pytest.raises(RuntimeError, match="the block fails"):
        fail_on_a_link()
    assert namespaces() == before

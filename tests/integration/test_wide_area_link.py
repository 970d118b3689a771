"""The link that benchmarks use has the distance and the rate that it was given, and carries real SSH."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.wan import inside, measured_rate_mb_per_s, measured_round_trip_ms, wide_area_link
from deployments.loopback_sshd import loopback_sshd
from tests.services.sshd_route import account_of, random_bytes, route_of

pytestmark = pytest.mark.slow


def namespaces() -> set[str]:
    return {path.name for path in Path("/run/netns").glob("camnet-wan-*")}


def test_it_is_as_far_and_no_faster_than_it_was_made() -> None:
    before = namespaces()
    with wide_area_link(round_trip_ms=20, rate_mbit_per_s=100) as link:
        assert {link.here, link.there} <= namespaces()
        assert measured_round_trip_ms(link) >= 20
        assert 0 < measured_rate_mb_per_s(link, 4 << 20) <= 12.5
    assert namespaces() == before


def test_a_mover_goes_over_it(tmp_path: Path) -> None:
    with ExitStack() as stack:
        link = stack.enter_context(wide_area_link(round_trip_ms=10, rate_mbit_per_s=200, loss=0.001))
        with inside(link.there):
            server = stack.enter_context(
                loopback_sshd(tmp_path / "sshd", settings=[f"ListenAddress {link.there_address}"])
            )
        known_hosts = tmp_path / "known_hosts"
        known_hosts.write_text(server.known_hosts.read_text().replace("[127.0.0.1]", f"[{link.there_address}]"))
        account = account_of(server).model_copy(update={"host": link.there_address, "known_hosts": known_hosts})
        route = route_of(tmp_path / "sites", "push", account)
        route.put({"a.bin": random_bytes(300_000)})
        with inside(link.here):
            (outcome,) = route.move(route.batch("a.bin"))
    assert outcome.state == "done", outcome.error


def fail_on_a_link() -> None:
    with wide_area_link(round_trip_ms=1, rate_mbit_per_s=100):
        raise RuntimeError("the block fails")


def test_a_block_that_fails_takes_it_away() -> None:
    before = namespaces()
    with pytest.raises(RuntimeError, match="the block fails"):
        fail_on_a_link()
    assert namespaces() == before

"""The link without root that benchmarks use: as far and as fast as it was made, for all of its connections."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from benchmarks.wan_relay import measured_through_relay, wide_area_relay
from deployments.loopback_sshd import loopback_sshd
from tests.services.sshd_route import QUICK, account_of, random_bytes, route_of


@pytest.mark.parametrize(("round_trip_ms", "rate_mbit_per_s"), [(20, 100), (120, 20)])
def test_it_is_as_far_and_as_fast_as_it_was_made(round_trip_ms: float, rate_mbit_per_s: float) -> None:
    size_bytes = int(rate_mbit_per_s * 1e6 / 8 / 2)  # half a second of it
    measured_ms, mb_per_s = measured_through_relay(
        round_trip_ms=round_trip_ms, rate_mbit_per_s=rate_mbit_per_s, size_bytes=size_bytes
    )
    assert round_trip_ms <= measured_ms < 2 * round_trip_ms + 100
    assert 0.2 * rate_mbit_per_s / 8 < mb_per_s <= 1.02 * rate_mbit_per_s / 8


def test_one_connection_has_no_more_than_its_window_on_the_way() -> None:
    _, mb_per_s = measured_through_relay(
        round_trip_ms=50, rate_mbit_per_s=1000, size_bytes=1 << 20, window_bytes=128 << 10
    )
    # A block is read when there is any room, so that two windows are the most for one of two blocks.
    assert 0.2 < mb_per_s < 2 * 0.131 / 0.05


def test_what_is_there_goes_on_and_what_is_not_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
        with wide_area_relay(port, round_trip_ms=10, rate_mbit_per_s=100) as far_port:
            answered = threading.Thread(target=lambda: answer_reversed(server))
            answered.start()
            with socket.create_connection(("127.0.0.1", far_port), timeout=20) as client:
                client.sendall(b"abc")
                client.shutdown(socket.SHUT_WR)  # the other direction goes on
                assert client.makefile("rb").read() == b"cba"
            answered.join()
            server.close()
            with socket.create_connection(("127.0.0.1", far_port), timeout=20) as client:
                assert client.recv(1) == b""


def answer_reversed(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.sendall(connection.makefile("rb").read()[::-1])


def test_loss_is_refused() -> None:
    with (
        pytest.raises(ValueError, match="cannot lose packets"),
        wide_area_relay(22, round_trip_ms=10, rate_mbit_per_s=100, loss=0.001),
    ):
        pass


def test_a_mover_goes_through_it(tmp_path: Path) -> None:
    with (
        loopback_sshd(tmp_path / "sshd") as server,
        wide_area_relay(server.port, round_trip_ms=10, rate_mbit_per_s=100) as port,
    ):
        route = route_of(tmp_path / "sites", "streams push", account_of(server, port=port))
        route.put({"a.bin": random_bytes(2_000_000)})
        batch = route.batch("a.bin")
        (outcome,) = route.move(batch, QUICK.model_copy(update={"stall_s": 30.0}))
        assert outcome.state == "done", outcome.error
        assert route.digest_there("a.bin") == batch.entries[0].digest
    (row,) = route.ledger.read()
    assert row.megabits_per_s is not None
    assert row.megabits_per_s < 105

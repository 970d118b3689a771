"""FDT: its server at the far side, the time it takes to start, and what goes wrong at either side."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments.loopback_sshd import LoopbackSshd, loopback_sshd
from tasks.errors import InputError
from tests.services.fdt_tool import stand_in
from tests.services.sshd_route import CHUNK_BYTES, QUICK, Route, account_of, random_bytes, route_of

ONE_GROUP = QUICK.model_copy(update={"chunk_bytes": 1 << 20})


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with loopback_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def route(tmp_path: Path, sshd: LoopbackSshd) -> Route:
    route = route_of(tmp_path / "sites", "fdt push", account_of(sshd))
    route.put({"a.bin": random_bytes(3 * CHUNK_BYTES)})
    return route


def with_far_tool(route: Route, **changes: Any) -> Route:  # noqa: ANN401 - fields of FdtTool
    assert route.destination.fdt
    tool = route.destination.fdt.model_copy(update=changes)
    return replace(route, destination=route.destination.model_copy(update={"fdt": tool}))


def with_tool_here(route: Route, **changes: Any) -> Route:  # noqa: ANN401 - as above
    assert route.source.fdt
    tool = route.source.fdt.model_copy(update=changes)
    return replace(route, source=route.source.model_copy(update={"fdt": tool}))


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def running(folder: Path) -> list[list[str]]:
    """Command lines of the FDT programs that belong to a folder."""
    lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if "-noupdates" in line and any(str(folder) in part for part in line)]


def test_start_up_is_counted_apart_from_the_wire(tmp_path: Path, sshd: LoopbackSshd) -> None:
    route = route_of(tmp_path / "sites", "fdt push", account_of(sshd))
    slow_tool = stand_in(tmp_path / "slow", poll_s=0.3)
    route = with_tool_here(with_far_tool(route, java=slow_tool.java), java=slow_tool.java)
    route.put({"a.bin": random_bytes(500_000)})
    route.move(route.batch("a.bin"), QUICK.model_copy(update={"limit_mb_per_s": 1.0}))
    (row,) = route.ledger.read()
    assert row.startup_seconds > 6 * 0.3  # one wait before, five after
    assert row.wire_seconds > 0.2
    assert row.megabits_per_s == pytest.approx(500_000 * 8 / 1e6 / row.wire_seconds)


def test_the_server_ends_with_the_job(route: Route, tmp_path: Path) -> None:
    assert route.move(route.batch("a.bin"))[0].state == "done"
    assert running(tmp_path) == []
    assert route.destination.fdt
    ports = range(route.destination.fdt.port, route.destination.fdt.port + route.destination.fdt.ports)
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_server_ends_also_when_the_client_fails(route: Route, tmp_path: Path) -> None:
    broken = with_tool_here(route, java=script(tmp_path / "java", "echo FDT Session finished with errors; exit 1"))
    (outcome,) = broken.move(broken.batch("a.bin"))
    assert (outcome.state, outcome.kind) == ("failed", "retryable")
    assert len(broken.ledger.read()) == QUICK.attempts
    assert running(tmp_path) == []


def test_ports_that_are_taken_are_passed_over(route: Route) -> None:
    assert route.destination.fdt
    first = route.destination.fdt.port
    route = with_far_tool(route, ports=6)
    with ExitStack() as stack:
        for port in (first, first + 3):  # of the first pair, and of the second
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        assert route.move(route.batch("a.bin"))[0].state == "done"
        (route.there / "a.bin").unlink()
        stack.enter_context(socket.create_server(("127.0.0.1", first + 5)))
        (outcome,) = route.move(route.batch("a.bin"), QUICK.model_copy(update={"attempts": 1}))
    assert (outcome.state, outcome.kind) == ("failed", "retryable")
    assert f"the ports {first} to {first + 5} are taken" in str(outcome.error)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"jar": Path("/no/such.jar")}, "the account has no /no/such.jar"),
        ({"java": "/no/such/java"}, "the account has no program /no/such/java"),
        ({"java": "$(reboot); java"}, r"the account has no program \$\(reboot\); java"),
    ],
)
def test_what_is_missing_there_is_named(route: Route, changes: dict[str, Any], words: str) -> None:
    route = with_far_tool(route, **changes)
    with pytest.raises(InputError, match=words):
        route.move(route.batch("a.bin"))


def test_what_is_missing_here_is_named(route: Route) -> None:
    without_jar = with_tool_here(route, jar=Path("/no/such.jar"))
    with pytest.raises(InputError, match="is no jar that Java can read"):
        without_jar.move(without_jar.batch("a.bin"))
    without_tool = replace(route, source=route.source.model_copy(update={"fdt": None}))
    with pytest.raises(InputError, match="site-a has no FDT, which both ends need"):
        without_tool.move(without_tool.batch("a.bin"))


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("WARNING lia.util.net.copy.FDT Got exception\njava.io.IOException: No space left on device", "permanent"),
        ("java.io.FileNotFoundException: /x/.y.camnet-part (Permission denied)", "permanent"),
        ("java.lang.IllegalArgumentException: port out of range:-1", "retryable"),
        ("lia.util.net.copy.transport.FDTProcolException: Control channel is down", "retryable"),
        ("java.net.ConnectException: Connection refused", "retryable"),
    ],
)
def test_what_fdt_says_is_told_apart(route: Route, tmp_path: Path, said: str, kind: str) -> None:
    (tmp_path / "said").write_text(said + "\n [ Thu ] - GracefulStopper hook finished!\n\n")
    route = with_tool_here(route, java=script(tmp_path / "java", f"cat '{tmp_path / 'said'}'; exit 1"))
    (outcome,) = route.move(route.batch("a.bin"), QUICK.model_copy(update={"attempts": 1}))
    assert (outcome.state, outcome.kind) == ("failed", kind)
    assert said.splitlines()[-1] in str(outcome.error)
    assert "GracefulStopper" not in str(outcome.error)


def test_a_server_that_sees_another_address_is_explained(route: Route, tmp_path: Path) -> None:
    assert route.destination.fdt
    java = script(tmp_path / "java", f"SSH_CLIENT='10.9.8.7 1 22' exec '{route.destination.fdt.java}' \"$@\"")
    route = with_far_tool(route, java=java)
    with pytest.raises(InputError, match="sees another address of this machine"):
        route.move(route.batch("a.bin"))


def test_a_path_that_fdt_would_take_for_two_names_fails_alone(tmp_path: Path, sshd: LoopbackSshd) -> None:
    route = route_of(tmp_path / "sites", "fdt pull", account_of(sshd))
    route.put({"odd / name.bin": b"odd", "fine/a.bin": b"a", "b.bin": b"b"})
    *others, odd = route.move(route.batch("odd / name.bin", "fine/a.bin", "b.bin"), ONE_GROUP)
    assert (odd.state, odd.kind) == ("failed", "permanent")
    assert "takes for two names" in str(odd.error)
    assert [outcome.state for outcome in others] == ["done", "done"]


def test_it_warns_once_that_it_does_not_encrypt(route: Route, caplog: pytest.LogCaptureFixture) -> None:
    assert not route.features.encrypted
    route.put({"b.bin": random_bytes(2 * CHUNK_BYTES)})
    route.move(route.batch("a.bin", "b.bin"))  # a job each
    assert [record.message for record in caplog.records] == [
        "site-a → site-b: fdt neither encrypts nor authenticates; use it inside a trusted network only"
    ]


@pytest.mark.parametrize("trouble", ["killed", "stopped"])
def test_a_server_that_goes_away_in_the_middle_is_started_again(
    route: Route, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr("transfer.fdt._QUIET_S", 0.5)
    route.put({"a.bin": random_bytes(1_000_000)})
    (route.there / "a.bin").write_bytes(b"what was there")
    batch = route.batch("a.bin")
    hit: list[psutil.Process] = []

    def trip(path: str, arrived_bytes: int) -> None:
        if arrived_bytes and not hit:
            assert (route.there / "a.bin").read_bytes() == b"what was there"
            hit.extend(one for one in psutil.process_iter() if is_server(one, tmp_path))
            for process in hit:
                process.kill() if trouble == "killed" else process.suspend()

    options = QUICK.model_copy(update={"limit_mb_per_s": 2.0, "stall_s": 2.0})
    (outcome,) = route.move(batch, options, trip)
    assert hit
    assert outcome.state == "done"
    assert [row.outcome for row in route.ledger.read()] == ["failed", "done"]
    assert route.digest_there("a.bin") == batch.entries[0].digest
    assert route.litter() == []
    assert running(tmp_path) == []


def is_server(process: psutil.Process, folder: Path) -> bool:
    try:
        line = process.cmdline()
    except psutil.Error:
        return False  # it has just ended
    return "-noupdates" in line and "-S" in line and any(str(folder) in part for part in line)

"""What the protocol streams does where its far side is not as it should be."""

from __future__ import annotations

import itertools
import logging
import os
import resource
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from deployments.loopback_sshd import LoopbackSshd, loopback_sshd
from tests.services.chaos_proxy import chaos_proxy
from tests.services.small_disk import needs_root, small_disk
from tests.services.sshd_route import CHUNK_BYTES, QUICK, Route, account_of, random_bytes, route_of
from transfer.brake import Brake
from transfer.model import SshAccount
from transfer.mover import open_mover
from transfer.ranges import Range
from transfer.streams import data_port, wires
from transfer.streams.data_port import DataPort, NoDataPortError
from transfer.streams.far_line import Line
from transfer.streams.far_store import FarStore

FILE_BYTES = 32 * CHUNK_BYTES


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with loopback_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


def put_random(route: Route) -> None:
    route.put({"a.bin": random_bytes(FILE_BYTES)})


def with_ports(sshd: LoopbackSshd, first: int, last: int) -> SshAccount:
    return account_of(sshd).model_copy(update={"data_ports": (first, last)})


@pytest.mark.parametrize("way", ["streams push", "streams pull"])
def test_an_account_without_python_is_served_over_sftp(
    tmp_path: Path, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    with loopback_sshd(tmp_path / "sshd", settings=["ForceCommand internal-sftp"]) as server:
        route = route_of(tmp_path / "sites", way, account_of(server))
        route.put({"a.bin": random_bytes(300_000), "b.bin": b"b"})
        assert [outcome.state for outcome in route.move(route.batch("a.bin", "b.bin"))] == ["done", "done"]
    assert {row.protocol for row in route.ledger.read() if row.outcome == "done"} == {"sftp"}
    assert "runs no python3" in caplog.text


@pytest.mark.parametrize("shell_says", ["echo welcome to the cluster; ", "head -c 2000 /dev/zero; "])
def test_what_the_shell_says_before_is_skipped(tmp_path: Path, shell_says: str) -> None:
    command = f'ForceCommand sh -c "{shell_says}eval \\"$SSH_ORIGINAL_COMMAND\\""'
    with loopback_sshd(tmp_path / "sshd", settings=[command]) as server:
        route = route_of(tmp_path / "sites", "streams push", account_of(server))
        route.put({"a.bin": random_bytes(300_000)})
        assert route.move(route.batch("a.bin"))[0].state == "done"
    assert {row.protocol for row in route.ledger.read()} == {"streams"}


def spoil_blocks(monkeypatch: pytest.MonkeyPatch, spoilt: Iterable[int]) -> None:
    """Flip a bit in those blocks of large files, counted from 1, on their way through this process."""
    calls, numbers = itertools.count(1), set(spoilt)
    arrive = FarStore.piece

    def pass_file(line: Line, descriptor: int, position: int, size: int) -> int:
        line.write(memoryview(flipped(os.pread(descriptor, size, position))))
        return size

    def piece(store: FarStore, path: str, part: Range) -> Iterator[bytes]:
        for block in arrive(store, path, part):
            yield flipped(bytes(block))

    def flipped(block: bytes) -> bytes:
        return bytes([block[0] ^ 1]) + block[1:] if next(calls) in numbers else block

    monkeypatch.setattr(Line, "pass_file", pass_file)
    monkeypatch.setattr(FarStore, "piece", piece)


@pytest.mark.parametrize("way", ["streams push", "streams pull"])
def test_only_the_damaged_pieces_are_sent_again(
    tmp_path: Path, sshd: LoopbackSshd, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = route_of(tmp_path / "sites", way, account_of(sshd))
    route.put({"a.bin": random_bytes(5_000_000)})
    spoil_blocks(monkeypatch, {3})
    batch = route.batch("a.bin")
    assert route.move(batch)[0].state == "done"
    assert route.digest_there("a.bin") == batch.entries[0].digest
    first, second = route.ledger.read()
    assert (first.outcome, first.wire_bytes) == ("failed", 5_000_000)
    assert "were damaged on their way or at rest" in str(first.error)
    assert (second.outcome, second.retries, second.bytes_resent) == ("done", 1, 1 << 20)
    assert second.wire_bytes == 1 << 20


def test_pieces_that_are_always_damaged_end_the_attempts(
    tmp_path: Path, sshd: LoopbackSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = route_of(tmp_path / "sites", "streams push", account_of(sshd))
    put_random(route)
    spoil_blocks(monkeypatch, range(1, 1000))
    (outcome,) = route.move(route.batch("a.bin"))
    assert (outcome.state, outcome.kind) == ("failed", "integrity")
    assert "was damaged on its way, twice; the source is right" in str(outcome.error)
    assert not (route.there / "a.bin").exists()
    assert route.litter() == []


def test_small_files_over_a_connection_that_breaks(tmp_path: Path, sshd: LoopbackSshd) -> None:
    with chaos_proxy(sshd.port) as proxy:
        route = route_of(tmp_path / "sites", "streams push", account_of(sshd, port=proxy.port))
        files = {f"{number:03d}.bin": random_bytes(20_000, seed=number) for number in range(150)}
        route.put(files)
        proxy.arm("drop", after_bytes=1_500_000, direction="up")
        batch = route.batch(*files)
        # What had got its name when the answer was lost is found there by the second attempt.
        assert {outcome.state for outcome in route.move(batch)} <= {"done", "already"}
        assert proxy.fired == 1
    assert {path: (route.there / path).read_bytes() for path in files} == files
    rows = route.ledger.read()
    assert sorted(row.path for row in rows if row.outcome != "failed") == sorted(files)
    assert [row for row in rows if row.outcome == "failed"]  # and what was on its way is in the ledger twice
    assert route.litter() == []


@needs_root
@pytest.mark.parametrize("way", ["streams push", "streams pull"])
def test_a_disk_that_fills_with_small_files_takes_what_fits(tmp_path: Path, sshd: LoopbackSshd, way: str) -> None:
    route = route_of(tmp_path / "sites", way, account_of(sshd))
    files = {f"{number:02d}.bin": random_bytes(40_000, seed=number) for number in range(40)}
    route.put(files)
    route.there.rmdir()
    with small_disk(route.there, 1024):
        outcomes = {outcome.path: outcome for outcome in route.move(route.batch(*files))}
        there = {path.name: path.read_bytes() for path in route.there.iterdir()}
    done = {path for path, outcome in outcomes.items() if outcome.state == "done"}
    assert there == {path: files[path] for path in done}
    assert 10 < len(done) < 40
    failed = [outcome for outcome in outcomes.values() if outcome.state == "failed"]
    assert {outcome.kind for outcome in failed} == {"permanent"}
    assert all("no space left" in str(outcome.error).lower() for outcome in failed)


@pytest.mark.parametrize("way", ["streams push", "streams pull", "tls push", "tls pull"])
def test_a_dead_host_fails_every_file_for_now(tmp_path: Path, sshd: LoopbackSshd, way: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        route = route_of(tmp_path / "x", way, account_of(sshd, port=int(closed.getsockname()[1])))
        files = {f"{number:02d}.bin": b"x" for number in range(70)} | {"large.bin": bytes(2 * CHUNK_BYTES)}
        route.put(files)
        outcomes = route.move(route.batch(*files), QUICK.model_copy(update={"attempts": 2}))
    assert [(outcome.state, outcome.kind) for outcome in outcomes] == [("failed", "retryable")] * len(files)
    assert all("onnection refused" in str(outcome.error) for outcome in outcomes)


def test_one_bad_small_file_does_not_stop_the_others(tmp_path: Path, sshd: LoopbackSshd) -> None:
    route = route_of(tmp_path / "sites", "streams push", account_of(sshd))
    files = {f"{number:02d}.bin": random_bytes(1000, seed=number) for number in range(20)}
    route.put(files)
    batch = route.batch(*files)
    (route.here / "03.bin").unlink()
    (route.here / "07.bin").write_bytes(random_bytes(1000, seed=99))
    (route.there / "11.bin").mkdir()
    states = {outcome.path: outcome.kind for outcome in route.move(batch) if outcome.state == "failed"}
    assert states == {"03.bin": "integrity", "07.bin": "integrity", "11.bin": "permanent"}
    assert len(list(route.there.glob("*.bin"))) == 18
    assert route.litter() == []


def test_thousands_of_small_files_take_few_descriptors(tmp_path: Path, sshd: LoopbackSshd) -> None:
    route = route_of(tmp_path / "sites", "streams push", account_of(sshd))
    files = {f"{number:04d}.bin": b"%d" % number for number in range(1500)}
    route.put(files)
    batch = route.batch(*files)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 250, before[1]))
    try:
        assert {outcome.state for outcome in route.move(batch)} == {"done"}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert {path.name for path in route.there.iterdir()} == set(files)
    assert route.litter() == []


def test_cancelled_in_the_middle_it_goes_on_later(tmp_path: Path, sshd: LoopbackSshd) -> None:
    route = route_of(tmp_path / "sites", "streams push", account_of(sshd))
    put_random(route)
    batch = route.batch("a.bin")
    mover = open_mover("streams", route.source, route.destination, QUICK, route.ledger)

    def stop(path: str, arrived_bytes: int) -> None:
        if arrived_bytes >= FILE_BYTES // 2:
            mover.cancel()

    (outcome,) = mover.move(batch, stop)
    assert (outcome.state, outcome.kind) == ("failed", "retryable")
    assert "cancelled" in str(outcome.error)
    assert route.move(batch)[0].state == "done"
    assert route.ledger.read()[-1].wire_bytes <= FILE_BYTES // 2 + QUICK.streams * CHUNK_BYTES


def test_ports_that_are_taken_or_closed_mean_ssh(
    tmp_path: Path, sshd: LoopbackSshd, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=wires.__name__)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
        route = route_of(tmp_path / "sites", "streams push", with_ports(sshd, port, port))
        put_random(route)
        assert route.move(route.batch("a.bin"))[0].state == "done"
    assert f"data over SSH, because the far side cannot listen at a port from {port} to {port}" in caplog.text


def test_the_wire_is_told(tmp_path: Path, sshd: LoopbackSshd, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=wires.__name__)
    for account, words in [
        (account_of(sshd), "data over SSH, because its site file names no data_ports"),
        (with_ports(sshd, 20000, 29999), "data over TLS 1.3 at port 2"),
    ]:
        route = route_of(tmp_path / words.replace(" ", "-"), "streams push", account)
        route.put({"a.bin": b"abc"})
        caplog.clear()
        assert route.move(route.batch("a.bin"))[0].state == "done"
        assert words in caplog.text


@pytest.fixture
def listening(sshd: LoopbackSshd) -> Iterator[DataPort]:
    port = DataPort(account_of(sshd), (20000, 29999), stall_s=5, brake=Brake())
    try:
        yield port
    finally:
        port.close()


def test_a_data_port_serves_whoever_has_the_token(tmp_path: Path, listening: DataPort) -> None:
    store = FarStore(listening.open, str(tmp_path), "x")
    store.write("a", 0, [b"abc"])
    assert (tmp_path / "a").read_bytes() == b"abc"
    store.close()


def test_a_data_port_serves_nobody_without_the_token(
    tmp_path: Path, listening: DataPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "_token", bytes(32))
    store = FarStore(listening.open, str(tmp_path), "x")
    with pytest.raises((ConnectionError, TimeoutError)):
        store.write("a", 0, [b"abc"])
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_a_data_port_with_another_certificate_is_not_talked_to(
    listening: DataPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, _ = data_port._self_signed()
    monkeypatch.setattr(listening, "_certificate", other)
    with pytest.raises(NoDataPortError, match="certificate verify failed"):
        listening.open()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2])
def test_a_data_port_speaks_tls_1_3_only(listening: DataPort, version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = version
    with socket.create_connection(("127.0.0.1", listening.port)) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain)


def test_the_listener_ends_with_its_ssh_connection(listening: DataPort) -> None:
    channel = listening.open()
    listening.close()
    deadline_s = time.monotonic() + 10

    def talk_on() -> None:
        while time.monotonic() < deadline_s:
            channel.line.send({"op": "ping"})
            channel.line.receive()

    with pytest.raises(ConnectionError):
        talk_on()
    channel.close()
    with pytest.raises(NoDataPortError):
        listening.open()


def test_no_secret_is_in_a_command_line(sshd: LoopbackSshd, listening: DataPort) -> None:
    table = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert "camnet" in table or "python3 -I -S" in table  # the far side is in the list
    for secret in (listening._token.hex(), "PRIVATE KEY"):
        assert secret not in table


def test_no_process_is_left(tmp_path: Path, sshd: LoopbackSshd) -> None:
    children = Path(f"/proc/self/task/{threading.main_thread().native_id}/children")
    before = children.read_text().split()
    route = route_of(tmp_path / "sites", "tls push", account_of(sshd))
    put_random(route)
    assert route.move(route.batch("a.bin"))[0].state == "done"
    assert children.read_text().split() == before


@pytest.mark.parametrize("answer", [b"\0\0\0\x02[]", b"\xff\xff\xff\xff", b'\0\0\0\x0e{"states": 17}', b"\0\0\0\x02{}"])
def test_a_far_side_that_answers_nonsense(
    tmp_path: Path, answer: bytes, monkeypatch: pytest.MonkeyPatch, sshd: LoopbackSshd
) -> None:
    script = tmp_path / "far.sh"
    script.write_text("printf '\\ncamnet-streams/1\\n'; cat '" + str(tmp_path / "answer") + "'; sleep 5\n")
    (tmp_path / "answer").write_bytes(answer)
    with loopback_sshd(tmp_path / "sshd", settings=[f"ForceCommand sh {script}"]) as server:
        route = route_of(tmp_path / "sites", "streams push", account_of(server))
        route.put({"a.bin": random_bytes(200_000)})
        began_s = time.monotonic()
        (outcome,) = route.move(route.batch("a.bin"), QUICK.model_copy(update={"attempts": 1, "stall_s": 2.0}))
    assert (outcome.state, outcome.kind) == ("failed", "retryable")
    assert time.monotonic() - began_s < 20
    assert list(route.there.iterdir()) == []

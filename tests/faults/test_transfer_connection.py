"""What happens to a transfer when the network or the host fails."""

from __future__ import annotations

import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from deployments.loopback_sshd import LoopbackSshd, loopback_sshd
from tasks.errors import InputError, PolicyRefusal
from tests.services.chaos_proxy import ChaosProxy, chaos_proxy
from tests.services.gridftp import sshftp_server
from tests.services.sshd_route import CHUNK_BYTES, QUICK, Route, account_of, random_bytes, route_of
from transfer.remote_digest import RemoteDigests
from transfer.sftp_session import SftpSession
from transfer.streams import data_port
from transfer.streams.far_store import FarStore

CANARY = "canary-never-to-be-seen"
FILE_BYTES = 32 * CHUNK_BYTES
WAYS = [("sftp push", "up"), ("sftp pull", "down"), ("streams push", "up"), ("streams pull", "down")]
PUSHES = ["sftp push", "streams push"]
Direction = Literal["up", "down"]


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with loopback_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def proxy(sshd: LoopbackSshd) -> Iterator[ChaosProxy]:
    with chaos_proxy(sshd.port) as proxy:
        yield proxy


def proxied(folder: Path, way: str, sshd: LoopbackSshd, proxy: ChaosProxy) -> Route:
    route = route_of(folder / way, way, account_of(sshd, port=proxy.port))
    route.put({"a.bin": random_bytes(FILE_BYTES)})
    return route


def check_recovered(route: Route, proxy: ChaosProxy, *, retries: int = 1) -> None:
    """One fault, then success; what was sent twice is at most a chunk a stream."""
    rows = route.ledger.read()
    assert proxy.fired == 1
    assert [row.outcome for row in rows] == ["failed"] * retries + ["done"]
    assert [row.retries for row in rows] == list(range(retries + 1))
    resent = sum(row.bytes_resent for row in rows)
    assert resent <= QUICK.streams * CHUNK_BYTES
    # All that was put on the wire is the file once, and at most what the ledger says was sent again.
    assert FILE_BYTES <= sum(row.wire_bytes for row in rows) <= FILE_BYTES + resent
    # Whoever carries it counts the same, beside what SSH or TLS and our script need (about 40 kB a connection).
    carried_bytes = proxy.passed_bytes["up" if route.destination.ssh else "down"]
    assert carried_bytes <= 1.01 * FILE_BYTES + QUICK.streams * CHUNK_BYTES + 60_000 * proxy.connections
    assert route.litter() == []


@pytest.mark.parametrize(("way", "direction"), WAYS)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_dropped_connection_is_taken_up_where_it_was(
    tmp_path: Path, sshd: LoopbackSshd, proxy: ChaosProxy, way: str, direction: Direction, share: float
) -> None:
    route = proxied(tmp_path, way, sshd, proxy)
    proxy.arm("drop", after_bytes=int(share * FILE_BYTES), direction=direction)
    batch = route.batch("a.bin")
    assert route.move(batch)[0].state == "done"
    assert route.digest_there("a.bin") == batch.entries[0].digest
    check_recovered(route, proxy)


@pytest.mark.parametrize(("way", "direction"), WAYS)
def test_a_drop_after_the_last_byte_and_before_the_rename(
    tmp_path: Path, sshd: LoopbackSshd, proxy: ChaosProxy, way: str, direction: Direction
) -> None:
    route = proxied(tmp_path, way, sshd, proxy)
    batch = route.batch("a.bin")

    def cut_at_the_end(path: str, arrived_bytes: int) -> None:
        if arrived_bytes == FILE_BYTES and not proxy.fault_is("drop"):
            proxy.arm("drop", after_bytes=0, direction="up")

    assert route.move(batch, progress=cut_at_the_end)[0].state == "done"
    assert route.digest_there("a.bin") == batch.entries[0].digest
    rows = route.ledger.read()
    assert sum(row.wire_bytes for row in rows) == FILE_BYTES
    assert len(rows) == (2 if way.endswith("push") else 1)  # after a pull's last byte there is nothing left to ask


@pytest.mark.parametrize(("way", "direction"), WAYS)
def test_a_flipped_bit_on_the_way_breaks_the_connection_and_not_the_file(
    tmp_path: Path, sshd: LoopbackSshd, proxy: ChaosProxy, way: str, direction: Direction
) -> None:
    route = proxied(tmp_path, way, sshd, proxy)
    proxy.arm("flip", after_bytes=FILE_BYTES // 2, direction=direction)
    batch = route.batch("a.bin")
    assert route.move(batch)[0].state == "done"
    assert route.digest_there("a.bin") == batch.entries[0].digest
    check_recovered(route, proxy)


@pytest.mark.parametrize(
    ("way", "direction", "fault"),
    [*((*way, "stall") for way in WAYS), ("sftp pull", "down", "trickle"), ("streams push", "up", "trickle")],
)
def test_a_stall_is_noticed_by_the_lack_of_progress(
    tmp_path: Path,
    sshd: LoopbackSshd,
    proxy: ChaosProxy,
    way: str,
    direction: Direction,
    fault: Literal["stall", "trickle"],
) -> None:
    route = proxied(tmp_path, way, sshd, proxy)
    proxy.arm(fault, after_bytes=FILE_BYTES // 2, direction=direction)
    start = time.monotonic()
    assert route.move(route.batch("a.bin"), QUICK.model_copy(update={"stall_s": 1.0}))[0].state == "done"
    assert time.monotonic() - start < 30  # at a byte a second it would take days
    assert "no progress for 1 s" in str(route.ledger.read()[0].error)
    check_recovered(route, proxy)


@pytest.mark.parametrize("protocol_way", PUSHES)
def test_attempts_end_and_the_next_call_goes_on(
    tmp_path: Path, sshd: LoopbackSshd, proxy: ChaosProxy, protocol_way: str
) -> None:
    route = proxied(tmp_path, protocol_way, sshd, proxy)
    proxy.arm("drop", after_bytes=FILE_BYTES // 2, direction="up")
    batch = route.batch("a.bin")
    (failed,) = route.move(batch, QUICK.model_copy(update={"attempts": 1}))
    assert (failed.state, failed.kind) == ("failed", "retryable")
    assert not (route.there / "a.bin").exists()
    assert route.move(batch)[0].state == "done"
    assert route.digest_there("a.bin") == batch.entries[0].digest
    last = route.ledger.read()[-1]
    assert last.wire_bytes <= FILE_BYTES // 2 + 4 * CHUNK_BYTES
    assert last.bytes_resent <= QUICK.streams * CHUNK_BYTES


@pytest.mark.parametrize("way", PUSHES)
def test_a_dead_host_is_tried_again_and_then_named(tmp_path: Path, sshd: LoopbackSshd, way: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        route = route_of(tmp_path / "x", way, account_of(sshd, port=int(closed.getsockname()[1])))
        route.put({"a.bin": b"a", "b.bin": b"b", "c.bin": b"c"})
        outcomes = route.move(route.batch("a.bin", "b.bin", "c.bin"), QUICK.model_copy(update={"streams": 1}))
    assert [(outcome.state, outcome.kind) for outcome in outcomes] == [("failed", "retryable")] * 3
    # They travel together, and find out together.
    assert [row.path for row in route.ledger.read()] == ["a.bin", "b.bin", "c.bin"] * 3


@pytest.mark.parametrize("way", PUSHES)
@pytest.mark.parametrize("case", ["unknown", "changed", "revoked", "certificate authority only"])
def test_a_host_that_cannot_prove_itself_is_refused(tmp_path: Path, sshd: LoopbackSshd, case: str, way: str) -> None:
    host, kind, key = sshd.known_hosts.read_text().split()
    other = "AAAAC3NzaC1lZDI1NTE5AAAAIGtleV9vZl9zb21lYm9keV9lbHNlX2FsdG9nZXRoZXJf"
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(
        {
            "unknown": f"elsewhere.example {kind} {key}\n",
            "changed": f"{host} {kind} {other}\n",
            "revoked": f"{host} {kind} {key}\n@revoked * {kind} {key}\n",
            "certificate authority only": f"@cert-authority * {kind} {key}\n",
        }[case]
    )
    before = known_hosts.read_bytes()
    account = account_of(sshd).model_copy(update={"known_hosts": known_hosts})
    route = route_of(tmp_path / "x", way, account)
    route.put({"a.bin": b"abc"})
    with pytest.raises(InputError) as refusal:
        route.move(route.batch("a.bin"))
    assert str(known_hosts) in refusal.value.cause
    assert str(known_hosts) in str(refusal.value.remedy)
    assert f"127.0.0.1:{sshd.port}" in str(refusal.value.subject)
    assert ("somebody may be in between" in refusal.value.cause) == (case == "changed")
    assert (f"line 2 of {known_hosts} calls revoked" in refusal.value.cause) == (case == "revoked")
    assert (f"line 1 of {known_hosts}" in refusal.value.cause) == (case == "changed")
    assert known_hosts.read_bytes() == before
    assert list(route.there.iterdir()) == []


@pytest.mark.parametrize("way", PUSHES)
def test_wrong_keys_are_the_users_mistake(tmp_path: Path, sshd: LoopbackSshd, way: str) -> None:
    stranger = tmp_path / "stranger"
    with loopback_sshd(stranger):  # only to have another key pair
        pass
    (tmp_path / "nonsense").write_text("no key at all")
    for key, words in [
        (stranger / "client_key", "refuses the key"),
        (tmp_path / "nonsense", "is no usable private key"),
        (tmp_path / "missing", "cannot be read"),
    ]:
        route = route_of(tmp_path / f"x-{key.name}", way, account_of(sshd).model_copy(update={"key": key}))
        route.put({"a.bin": b"abc"})
        with pytest.raises(InputError, match=words):
            route.move(route.batch("a.bin"))


@pytest.mark.parametrize("way", [*PUSHES, "tls push", "scp push", "rsync push", "fdt push", "gridftp push"])
def test_a_refused_batch_opens_no_connection(tmp_path: Path, sshd: LoopbackSshd, way: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        account = account_of(sshd, port=int(listener.getsockname()[1]))
        server = sshftp_server(account_of(sshd))
        route = route_of(tmp_path / "x", way, account, policy="resident", servers={"push": server})
        route.put({"a.bin": b"pixels"})
        batch = route.batch("a.bin", kind="patches")
        with pytest.raises(PolicyRefusal):
            route.move(batch)
        assert select.select([listener], [], [], 0.3)[0] == []
        # The same listener does see a batch that may go, so that the silence above means something.
        impatient = QUICK.model_copy(update={"attempts": 1, "stall_s": 0.5})
        assert route.move(route.batch("a.bin", kind="scores"), impatient)[0].kind == "retryable"
        assert select.select([listener], [], [], 0.3)[0] == [listener]


@pytest.fixture
def data_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChaosProxy]:
    """Stands before the data port of the first listener that a transfer starts."""
    with ExitStack() as stack:
        listener = data_port.DataPort.__init__
        proxy = stack.enter_context(chaos_proxy(0))

        def listen(self: data_port.DataPort, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - handed on
            listener(self, *arguments, **options)
            proxy.target_port, self.port = self.port, proxy.port

        monkeypatch.setattr(data_port.DataPort, "__init__", listen)
        yield proxy


@pytest.mark.parametrize(
    ("way", "direction", "fault", "share"),
    [
        *(("tls push", "up", "drop", share) for share in (0.0, 0.01, 0.5, 0.999)),
        ("tls pull", "down", "drop", 0.5),
        ("tls push", "up", "flip", 0.5),
        ("tls pull", "down", "trickle", 0.5),
    ],
)
def test_a_data_connection_that_fails_is_opened_again(
    tmp_path: Path,
    sshd: LoopbackSshd,
    data_proxy: ChaosProxy,
    way: str,
    direction: Direction,
    fault: Literal["drop", "flip", "trickle"],
    share: float,
) -> None:
    route = route_of(tmp_path / "x", way, account_of(sshd))
    route.put({"a.bin": random_bytes(FILE_BYTES)})
    batch = route.batch("a.bin")
    armed = threading.Event()

    def arm(path: str, arrived_bytes: int) -> None:
        if not armed.is_set():
            armed.set()
            data_proxy.arm(fault, after_bytes=int(share * FILE_BYTES), direction=direction)

    start = time.monotonic()
    options = QUICK.model_copy(update={"stall_s": 2.0}) if fault == "trickle" else QUICK
    assert route.move(batch, options, arm)[0].state == "done"
    assert time.monotonic() - start < 30  # at a byte a second it would take days
    assert route.digest_there("a.bin") == batch.entries[0].digest
    check_recovered(route, data_proxy)


def test_a_group_whose_answer_is_lost_is_found_there(
    tmp_path: Path, sshd: LoopbackSshd, proxy: ChaosProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The far side has renamed its files when the connection breaks: nothing is sent a second time."""
    route = route_of(tmp_path / "x", "streams push", account_of(sshd, port=proxy.port))
    files = {f"{number}.bin": random_bytes(1000, seed=number) for number in range(5)}
    route.put(files)
    committed = FarStore.committed

    def break_off(self: FarStore, count: int) -> list[bool]:
        deadline_s = time.monotonic() + 10
        while len(list(route.there.glob("*.bin"))) < 5 and time.monotonic() < deadline_s:
            time.sleep(0.01)
        proxy.arm("drop", after_bytes=0, direction="up")
        self._line.send({"op": "ping"})
        return committed(self, count)

    with monkeypatch.context() as patch:
        patch.setattr(FarStore, "committed", break_off)
        outcomes = route.move(route.batch(*files))
    assert proxy.fired == 1
    assert {path: (route.there / path).read_bytes() for path in files} == files
    assert {outcome.state for outcome in outcomes} <= {"done", "already"}
    assert sum(row.wire_bytes for row in route.ledger.read() if row.retries) == 0
    assert route.litter() == []


def test_a_digest_takes_as_long_as_it_takes_while_the_far_side_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pings: list[SftpSession] = []
    ping = SftpSession.ping

    def counted_ping(self: SftpSession) -> None:
        pings.append(self)
        ping(self)

    monkeypatch.setattr(SftpSession, "ping", counted_ping)
    with slow_digests(tmp_path, monkeypatch) as server:
        route = route_of(tmp_path / "x", "sftp push", account_of(server))
        route.put({"a.bin": random_bytes(2 * CHUNK_BYTES)})
        assert route.move(route.batch("a.bin"))[0].state == "done"
    (row,) = route.ledger.read()
    assert row.verified_by == "sha256sum at the far side"
    assert row.verify_seconds > 1.5
    assert len(pings) >= 2


def test_a_black_hole_while_nothing_is_sent_is_noticed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with slow_digests(tmp_path, monkeypatch) as server, chaos_proxy(server.port) as proxy:
        route = route_of(tmp_path / "x", "sftp push", account_of(server, port=proxy.port))
        route.put({"a.bin": random_bytes(2 * CHUNK_BYTES)})

        ping = SftpSession.ping

        def into_the_hole(self: SftpSession) -> None:
            has_arrived = any(part.stat().st_size == 2 * CHUNK_BYTES for part in route.there.glob(".*.camnet-part"))
            if has_arrived and not proxy.fault_is("stall"):
                proxy.arm("stall", after_bytes=0, direction="up")
            ping(self)

        monkeypatch.setattr(SftpSession, "ping", into_the_hole)
        options = QUICK.model_copy(update={"stall_s": 2.0, "attempts": 2})
        assert route.move(route.batch("a.bin"), options)[0].state == "done"
        assert proxy.fired == 1
    failed, done = route.ledger.read()
    assert "no progress for 2 s" in str(failed.error)
    assert (done.outcome, done.wire_bytes) == ("done", 0)


@contextmanager
def slow_digests(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackSshd]:
    """A server whose account has no Python, and whose sha256sum says nothing for longer than we are silent."""
    digest = RemoteDigests.digest

    def digest_impatiently(self: RemoteDigests, name: bytes) -> str | None:
        if self.program and self._channel is not None:
            self._channel.settimeout(0.3)
        return digest(self, name)

    monkeypatch.setattr(RemoteDigests, "digest", digest_impatiently)
    programs = folder / "programs"
    programs.mkdir()
    for name in ("sh", "xargs", "sleep"):
        (programs / name).symlink_to(str(shutil.which(name)))
    slow = programs / "sha256sum"
    slow.write_text(
        f'#!/bin/sh\ncase "$*" in */dev/null) ;; *) sleep 2;; esac\nexec {shutil.which("sha256sum")} "$@"\n'
    )
    slow.chmod(0o755)
    setting = f'ForceCommand PATH={programs}; export PATH; eval "$SSH_ORIGINAL_COMMAND"'
    with loopback_sshd(folder / "slow sshd", settings=[setting]) as server:
        yield server


@pytest.mark.parametrize("way", PUSHES)  # the programs begin with the connection of sftp
@pytest.mark.parametrize("asked", ["passphrase", "password"])
def test_nobody_is_asked_for_a_password(tmp_path: Path, sshd: LoopbackSshd, way: str, asked: str) -> None:
    account = account_of(sshd)
    with ExitStack() as stack:
        if asked == "passphrase":
            key = Path(shutil.copy(account.key, tmp_path / "locked"))
            key.chmod(0o600)
            subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", CANARY, "-f", key], check=True)
            account, words = account.model_copy(update={"key": key}), "is no usable private key"
        else:
            settings = ["Match all", "PubkeyAuthentication no", "PasswordAuthentication yes"]
            server = stack.enter_context(loopback_sshd(tmp_path / "sshd", settings=settings))
            account, words = account_of(server), "refuses the key"
        route = route_of(tmp_path / "x", way, account)
        route.put({"a.bin": b"abc"})
        start = time.monotonic()
        with pytest.raises(InputError, match=words) as refusal:
            route.move(route.batch("a.bin"))
    assert time.monotonic() - start < 10
    assert refusal.value.remedy
    assert all(row.retries == 0 for row in route.ledger.read())

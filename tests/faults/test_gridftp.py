"""GridFTP servers that die, are full, or refuse us; what the tool cannot do."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from deployments.loopback_sshd import LoopbackSshd, loopback_sshd
from tasks.errors import InputError
from tests.services.gridftp import Grid, ftp_server, gsiftp_server, make_grid, sshftp_server
from tests.services.small_disk import needs_root, small_disk
from tests.services.sshd_route import QUICK, Route, account_of, random_bytes, route_of
from transfer.model import Endpoint, SshAccount, TransferOptions
from transfer.mover import open_mover
from transfer.servers import GridftpServer

OPTIONS = QUICK.model_copy(update={"chunk_bytes": 512 << 10, "stall_s": 60.0})
SEGMENT_BYTES = 64 * OPTIONS.chunk_bytes
FILE_BYTES = 2 * SEGMENT_BYTES + 12_345_678


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with loopback_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="module")
def ftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GridftpServer]:
    with ftp_server(tmp_path_factory.mktemp("ftp")) as server:
        yield server


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    return make_grid(tmp_path_factory.mktemp("grid") / "of tests")


def route_over(folder: Path, way: str, account: SshAccount, server: GridftpServer) -> Route:
    return route_of(folder / "sites", f"gridftp {way}", account, servers={way: server})


def daemon_of(server: GridftpServer) -> psutil.Process:
    """The process that listens at the server's port."""
    port = int(server.url.rpartition(":")[2])
    mine = psutil.Process().children(recursive=True)
    return next(one for one in mine if port in {at.laddr.port for at in one.net_connections() if at.status == "LISTEN"})


def hit_in_second_segment(
    route: Route, daemon: psutil.Process, hit: Callable[[psutil.Process], None] = psutil.Process.kill
) -> None:
    """Kill what serves the transfer as soon as some of the second segment has arrived, or do something else to it."""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        sizes = [path.stat().st_size for path in route.there.glob(".*.camnet-part")]
        sessions = daemon.children() if sizes and sizes[0] > SEGMENT_BYTES else []
        for process in sessions:
            try:
                hit(process)
            except psutil.NoSuchProcess:
                break  # the first segment's, on its way out
        else:
            if sessions:
                return
        time.sleep(0.001)


def at(share: float, act: Callable[[], object]) -> Callable[[str, int], None]:
    """Act once when so much of the file has arrived."""
    done: list[object] = []

    def progress(path: str, arrived_bytes: int) -> None:
        if arrived_bytes >= share * FILE_BYTES and not done:
            done.append(act())

    return progress


@pytest.mark.parametrize("way", ["pull", "third-party"])
def test_accounts_carry_encrypted(tmp_path: Path, sshd: LoopbackSshd, way: str) -> None:
    route = route_over(tmp_path, way, account_of(sshd), sshftp_server(account_of(sshd)))
    route.put({"a.bin": random_bytes(300_000), "b.bin": b"b", "c.bin": b"c"})
    batch = route.batch("a.bin", "b.bin", "c.bin")
    mover = open_mover("gridftp", batch.source, batch.destination, OPTIONS, route.ledger)
    assert mover.features.encrypted
    assert [outcome.state for outcome in mover.move(batch)] == ["done"] * 3
    assert route.digest_there("a.bin") == batch.entries[0].digest


def test_a_server_with_certificates_sends_to_an_account(tmp_path: Path, sshd: LoopbackSshd, grid: Grid) -> None:
    with gsiftp_server(tmp_path / "server", grid) as server:
        route = route_over(tmp_path, "third-party", account_of(sshd), server)
        there = route.destination.model_copy(update={"gridftp": sshftp_server(account_of(sshd))})
        mixed = replace(route, destination=there)
        mixed.put({"a.bin": random_bytes(300_000), "b.bin": b"b"})
        assert [outcome.state for outcome in mixed.move(mixed.batch("a.bin", "b.bin"), OPTIONS)] == ["done"] * 2


@pytest.mark.parametrize("way", ["push", "pull", "third-party"])
def test_a_server_that_is_killed_costs_one_segment(
    tmp_path: Path, sshd: LoopbackSshd, ftp: GridftpServer, way: str
) -> None:
    route = route_over(tmp_path, way, account_of(sshd), ftp)
    route.put({"a.bin": random_bytes(FILE_BYTES)})
    batch = route.batch("a.bin")
    killer = threading.Thread(target=hit_in_second_segment, args=(route, daemon_of(ftp)), daemon=True)
    killer.start()
    (outcome,) = route.move(batch, OPTIONS)
    killer.join(timeout=1)
    assert outcome.state == "done"
    assert route.digest_there("a.bin") == batch.entries[0].digest
    failed, done = route.ledger.read()
    assert (failed.outcome, done.outcome, done.retries) == ("failed", "done", 1)
    assert done.bytes_resent <= SEGMENT_BYTES
    assert done.wire_bytes <= FILE_BYTES - SEGMENT_BYTES
    assert route.litter() == []


def test_an_interrupted_transfer_goes_on_with_its_segment(
    tmp_path: Path, sshd: LoopbackSshd, ftp: GridftpServer
) -> None:
    route = route_over(tmp_path, "push", account_of(sshd), ftp)
    route.put({"a.bin": random_bytes(FILE_BYTES)})
    batch = route.batch("a.bin")

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        route.move(batch, OPTIONS, at(0.55, interrupt))
    assert not (route.there / "a.bin").exists()
    assert route.move(batch, OPTIONS)[0].state == "done"
    assert route.digest_there("a.bin") == batch.entries[0].digest
    assert route.ledger.read()[-1].wire_bytes <= FILE_BYTES - SEGMENT_BYTES
    assert route.litter() == []


def test_a_cancelled_transfer_leaves_no_process_and_the_next_call_goes_on(tmp_path: Path, sshd: LoopbackSshd) -> None:
    route = route_over(tmp_path, "push", account_of(sshd), sshftp_server(account_of(sshd)))
    route.put({"a.bin": random_bytes(FILE_BYTES)})
    batch = route.batch("a.bin")
    mover = open_mover("gridftp", batch.source, batch.destination, OPTIONS, route.ledger)
    seen: list[psutil.Process] = []

    def cancel() -> None:
        seen.extend(psutil.Process(sshd.pid).children(recursive=True))
        mover.cancel()

    (outcome,) = mover.move(batch, at(0.3, cancel))
    assert (outcome.state, outcome.kind) == ("failed", "retryable")
    assert "cancelled" in str(outcome.error)
    assert [process for process in psutil.Process().children(recursive=True) if process.name() == "ssh"] == []
    deadline_s = time.monotonic() + 20
    while any(process.is_running() for process in seen) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert seen
    assert not any(process.is_running() for process in seen)
    (row,) = route.ledger.read()  # no attempt after that
    assert row.outcome == "failed"
    assert list(route.there.glob("*.bin")) == []
    assert route.move(batch, OPTIONS)[0].state == "done"
    assert route.digest_there("a.bin") == batch.entries[0].digest
    assert route.litter() == []


@needs_root
@pytest.mark.parametrize("way", ["push", "third-party"])
def test_a_full_disk_is_named_and_left_clean(tmp_path: Path, sshd: LoopbackSshd, ftp: GridftpServer, way: str) -> None:
    route = route_over(tmp_path, way, account_of(sshd), ftp)
    route.put({"a.bin": random_bytes(2_000_000), "b.bin": b"b"})
    batch = route.batch("a.bin", "b.bin")
    route.there.rmdir()
    with small_disk(route.there, 1024):
        full, fine = route.move(batch, QUICK.model_copy(update={"chunk_bytes": 8 << 20}))
        assert (full.state, full.kind, fine.state) == ("failed", "permanent", "done")
        assert "no space left" in str(full.error).lower()
        assert "free some space" in str(full.remedy)
        assert route.litter() == []


def test_names_too_long_for_a_list_arrive(tmp_path: Path, sshd: LoopbackSshd, ftp: GridftpServer) -> None:
    route = route_over(tmp_path, "third-party", account_of(sshd), ftp)
    names = ["%" * 200, "%41", "plain", "#hash", "~ {a,b} [c]"]
    route.put({name: name.encode() for name in names})
    assert {outcome.state for outcome in route.move(route.batch(*names))} == {"done"}
    assert {name: (route.there / name).read_bytes() for name in names} == {name: name.encode() for name in names}


@pytest.mark.parametrize(
    ("wrong", "words", "remedy"),
    [
        ("expired", "a certificate has expired", "new proxy"),
        ("missing", "there is no proxy certificate", "new proxy"),
        ("untrusted", "not of a trusted authority", "certificates in"),
        ("unknown", "refuses the login", "gridmap"),
    ],
)
def test_wrong_certificates_are_the_users_to_mend(
    tmp_path: Path, sshd: LoopbackSshd, grid: Grid, wrong: str, words: str, remedy: str
) -> None:
    with gsiftp_server(tmp_path / "server", grid) as server:
        match wrong:
            case "expired":
                server = server.model_copy(update={"proxy": grid.expired})
            case "missing":
                server = server.model_copy(update={"proxy": tmp_path / "no proxy"})
            case "untrusted":
                (tmp_path / "none").mkdir()
                server = server.model_copy(update={"certificates": tmp_path / "none"})
            case "unknown":
                (grid.folder / "gridmap").write_text("")
        route = route_over(tmp_path, "push", account_of(sshd), server)
        route.put({"a.bin": b"a"})
        with pytest.raises(InputError, match=words) as raised:
            route.move(route.batch("a.bin"))
        assert remedy in str(raised.value.remedy)
        assert "PRIVATE KEY" not in str(raised.value)


@pytest.mark.parametrize("wrong", ["host key", "key", "nobody there", "program"])
def test_accounts_that_cannot_be_used(tmp_path: Path, sshd: LoopbackSshd, wrong: str) -> None:
    account = account_of(sshd)
    server = sshftp_server(account)
    with loopback_sshd(tmp_path / "data node") as node:
        match wrong:
            case "host key":
                server = server.model_copy(update={"url": f"sshftp://127.0.0.1:{node.port}"})
                words = "the host key is not the known one"
            case "key":
                known_hosts = tmp_path / "known_hosts"
                known_hosts.write_text(account.known_hosts.read_text() + node.known_hosts.read_text())
                account = account.model_copy(update={"known_hosts": known_hosts})
                server = server.model_copy(update={"url": f"sshftp://127.0.0.1:{node.port}"})
                words = "an account refuses the key"
            case "nobody there":
                server = server.model_copy(update={"url": "sshftp://127.0.0.1:1"})
                words = "refused"
            case _:
                server = server.model_copy(update={"server": "/no/such/program"})
                words = "end-of-file"
        route = route_over(tmp_path, "push", account, server)
        route.put({"a.bin": b"a"})
        if wrong in ("host key", "key"):
            with pytest.raises(InputError, match=words):
                route.move(route.batch("a.bin"))
        else:
            (outcome,) = route.move(route.batch("a.bin"))
            assert (outcome.state, outcome.kind) == ("failed", "retryable")
            assert words in str(outcome.error).lower()
            assert route.litter() != []  # what has arrived is kept for the next call


def test_what_the_tool_cannot_do_is_refused(tmp_path: Path, sshd: LoopbackSshd, ftp: GridftpServer) -> None:
    route = route_over(tmp_path, "push", account_of(sshd), ftp)
    there = route.destination

    def refused(destination: Endpoint, words: str, options: TransferOptions = QUICK) -> None:
        with pytest.raises(InputError, match=words):
            open_mover("gridftp", route.source, destination, options, route.ledger)

    refused(there, "cannot be held to a rate", QUICK.model_copy(update={"limit_mb_per_s": 1.0}))
    refused(there.model_copy(update={"gridftp": None}), "has a GridFTP server")
    refused(there.model_copy(update={"ssh": None}), "has a GridFTP server")
    secret = ftp.model_copy(update={"encrypted": True})
    refused(there.model_copy(update={"gridftp": secret}), "cannot encrypt")
    sender = Endpoint(site="site-c", root="/data", ssh=there.ssh, gridftp=sshftp_server(account_of(sshd)))
    with pytest.raises(InputError, match="cannot encrypt"):
        open_mover("gridftp", sender, there, QUICK, route.ledger)
    refused(there.model_copy(update={"root": "relative"}), "is not absolute")
    assert not open_mover("gridftp", route.source, there, QUICK, route.ledger).features.encrypted
    assert list(route.there.iterdir()) == []


def tool_that(folder: Path, *, first_call: str) -> None:
    """Put a ``globus-url-copy`` into a folder whose first call does something else than the real one."""
    folder.mkdir()
    tool = folder / "globus-url-copy"
    real = shutil.which("globus-url-copy")
    called = folder / "called"
    tool.write_text(f'#!/bin/sh\n[ -e "{called}" ] && exec {real} "$@"\n: > "{called}"\n{first_call}\n')
    tool.chmod(0o755)


SHORT = """for last; do :; done
head -c 100000 /dev/zero > "$(find "$WHERE" -name '.*.camnet-part')"
"""


@pytest.mark.parametrize(
    ("first_call", "said"),
    [
        ("exit 0", "was damaged on its way or at rest"),
        (f"{SHORT} exit 0", "was damaged on its way or at rest"),
        (f"{SHORT} echo 'error: globus_xio: An end of file occurred' >&2; exit 1", "end of file"),
        (f"{SHORT} echo 'about to retry from restart marker 0-99999' >&2; exit 1", "restart marker 0-99999"),
    ],
    ids=["nothing", "short", "cut off", "partial marker"],
)
def test_what_the_tool_says_is_not_believed(
    tmp_path: Path,
    sshd: LoopbackSshd,
    ftp: GridftpServer,
    monkeypatch: pytest.MonkeyPatch,
    first_call: str,
    said: str,
) -> None:
    route = route_over(tmp_path, "push", account_of(sshd), ftp)
    tool_that(tmp_path / "bin", first_call=first_call)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("WHERE", str(route.there))
    route.put({"a.bin": random_bytes(300_000)})
    (route.there / "a.bin").write_bytes(b"what was there")
    batch = route.batch("a.bin")
    seen: list[bytes] = []
    (outcome,) = route.move(
        batch,
        QUICK,
        lambda path, arrived: seen.append((route.there / "a.bin").read_bytes() if arrived < 300_000 else b""),
    )
    assert outcome.state == "done"
    assert set(seen) <= {b"what was there", b""}
    failed, done = route.ledger.read()
    assert (failed.outcome, done.outcome) == ("failed", "done")
    assert said in str(failed.error)
    assert route.digest_there("a.bin") == batch.entries[0].digest
    assert route.litter() == []


def test_a_tool_that_always_brings_too_little_never_gives_the_final_name(
    tmp_path: Path, sshd: LoopbackSshd, ftp: GridftpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = route_over(tmp_path, "push", account_of(sshd), ftp)
    tool_that(tmp_path / "bin", first_call=f'rm "$(dirname "$0")/called"\n{SHORT} exit 0')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("WHERE", str(route.there))
    route.put({"a.bin": random_bytes(300_000)})
    (route.there / "a.bin").write_bytes(b"what was there")
    (outcome,) = route.move(route.batch("a.bin"))
    assert (outcome.state, outcome.kind) == ("failed", "integrity")
    assert (route.there / "a.bin").read_bytes() == b"what was there"
    assert route.litter() == []


def test_a_server_that_stands_still_is_left(tmp_path: Path, sshd: LoopbackSshd, ftp: GridftpServer) -> None:
    route = route_over(tmp_path, "push", account_of(sshd), ftp)
    route.put({"a.bin": random_bytes(FILE_BYTES)})
    batch = route.batch("a.bin")
    daemon = daemon_of(ftp)
    stopper = threading.Thread(target=hit_in_second_segment, args=(route, daemon, psutil.Process.suspend), daemon=True)
    stopper.start()
    try:
        (outcome,) = route.move(batch, OPTIONS.model_copy(update={"stall_s": 3.0}))
    finally:
        stopper.join(timeout=1)
        for process in daemon.children():
            process.kill()
    assert outcome.state == "done"
    assert "nothing moved for 3 s" in str(route.ledger.read()[0].error)
    assert route.digest_there("a.bin") == batch.entries[0].digest


def test_a_source_that_changes_on_the_way_is_noticed(tmp_path: Path, sshd: LoopbackSshd, ftp: GridftpServer) -> None:
    route = route_over(tmp_path, "push", account_of(sshd), ftp)
    route.put({"a.bin": random_bytes(3 * 64 * QUICK.chunk_bytes)})
    (route.there / "a.bin").write_bytes(b"what was there")
    batch = route.batch("a.bin")

    def change(path: str, arrived_bytes: int) -> None:
        if arrived_bytes:
            with (route.here / "a.bin").open("r+b") as file:
                file.seek(-1000, 2)
                file.write(bytes(1000))

    (outcome,) = route.move(batch, QUICK, change)
    assert (outcome.state, outcome.kind) == ("failed", "integrity")
    assert "was changed after the manifest" in str(outcome.error)
    assert (route.there / "a.bin").read_bytes() == b"what was there"
    assert route.litter() == []

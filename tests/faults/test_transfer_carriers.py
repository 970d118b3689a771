"""What happens to programs that carry files when the network, the disk, the source or the program itself fails."""

from __future__ import annotations

import itertools
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import psutil
import pytest

from deployments.loopback_sshd import LoopbackSshd, loopback_sshd
from tasks.errors import InputError, RetryableFault
from tests.services.chaos_proxy import ChaosProxy, chaos_proxy
from tests.services.gridftp import sshftp_server
from tests.services.small_disk import needs_root, small_disk
from tests.services.sshd_route import QUICK, Route, account_of, random_bytes, route_of
from transfer.brake import Brake
from transfer.carrier import Carrier, Load, Watch
from transfer.fdt import FdtCarrier
from transfer.file_move import FileMove
from transfer.local import LocalStore
from transfer.model import Batch, Outcome, SshAccount, TransferOptions
from transfer.mover import open_mover
from transfer.program import run_program
from transfer.rsync import RsyncCarrier
from transfer.scp import ScpCarrier

REPOSITORY = Path(__file__).resolve().parent.parent.parent
FILE_BYTES = 4 << 20
CARRIERS: dict[str, type[ScpCarrier] | type[RsyncCarrier] | type[FdtCarrier]] = {
    "scp": ScpCarrier,
    "rsync": RsyncCarrier,
    "fdt": FdtCarrier,
}
OVER_SSH: list[tuple[str, Literal["up", "down"]]] = [
    ("scp push", "up"),
    ("scp pull", "down"),
    ("rsync push", "up"),
    ("rsync pull", "down"),
]
SLOW = QUICK.model_copy(update={"limit_mb_per_s": 1.0})

MOVE = """
import sys
from pathlib import Path
from transfer.ledger import Ledger
from transfer.model import Batch, TransferOptions
from transfer.mover import open_mover

batch = Batch.model_validate_json(Path(sys.argv[1]).read_bytes())
options = TransferOptions.model_validate_json(sys.argv[2])
mover = open_mover(sys.argv[4], batch.source, batch.destination, options, Ledger(Path(sys.argv[3])))
mover.move(batch, lambda path, arrived_bytes: print(arrived_bytes, flush=True))
"""


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with loopback_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def proxy(sshd: LoopbackSshd) -> Iterator[ChaosProxy]:
    with chaos_proxy(sshd.port) as proxy:
        yield proxy


def programs_of(*marks: Path) -> list[str]:
    """Command lines of the programs that have one of the paths in them: what a transfer has left running."""
    lines = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue  # it has just ended
        if any(str(mark) in line for mark in marks) and process.pid != psutil.Process().pid:
            lines.append(line)
    return lines


def check_all_gone(*marks: Path) -> None:
    """Wait until no program is left; what was killed with its parent takes a moment to be buried."""
    late_at_s = time.monotonic() + 15
    while left := programs_of(*marks):
        assert time.monotonic() < late_at_s, left
        time.sleep(0.05)


def states(outcomes: Sequence[Outcome]) -> list[tuple[str, str | None]]:
    return [(outcome.state, outcome.kind) for outcome in outcomes]


@pytest.mark.parametrize(("way", "direction"), OVER_SSH)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999, 1.0])
def test_a_dropped_connection_is_survived(
    tmp_path: Path, sshd: LoopbackSshd, proxy: ChaosProxy, way: str, direction: Literal["up", "down"], share: float
) -> None:
    route = route_of(tmp_path / "sites", way, account_of(sshd, port=proxy.port))
    route.put({"a.bin": random_bytes(FILE_BYTES)})
    batch = route.batch("a.bin")
    proxy.arm("drop", after_bytes=int(share * FILE_BYTES), direction=direction)
    assert states(route.move(batch)) == [("done", None)]
    assert route.digest_there("a.bin") == batch.entries[0].digest
    *failed, done = route.ledger.read()
    assert proxy.fired == 1
    assert done.outcome == "done"
    assert {(row.outcome, row.retries) for row in failed} <= {("failed", 0), ("failed", 1)}
    if way.startswith("rsync") and share == 0.999:
        assert done.wire_bytes < FILE_BYTES // 2
        assert done.bytes_resent == 0
    assert route.litter() == []


@pytest.mark.parametrize(
    ("way", "direction", "fault"),
    [(*OVER_SSH[0], "stall"), (*OVER_SSH[3], "stall"), (*OVER_SSH[2], "trickle")],
)
def test_a_stall_ends_the_program(
    tmp_path: Path,
    sshd: LoopbackSshd,
    proxy: ChaosProxy,
    way: str,
    direction: Literal["up", "down"],
    fault: Literal["stall", "trickle"],
) -> None:
    route = route_of(tmp_path / "sites", way, account_of(sshd, port=proxy.port))
    route.put({"a.bin": random_bytes(FILE_BYTES)})
    batch = route.batch("a.bin")
    proxy.arm(fault, after_bytes=FILE_BYTES // 2, direction=direction)
    assert states(route.move(batch, QUICK.model_copy(update={"stall_s": 3.0}))) == [("done", None)]
    assert route.digest_there("a.bin") == batch.entries[0].digest
    # A login that takes longer than stall_s, on a busy machine, is one more attempt.
    *failed, done = route.ledger.read()
    assert {row.outcome for row in failed} == {"failed"}
    assert done.outcome == "done"
    assert proxy.fired == 1


def test_a_byte_a_second_is_a_stall(tmp_path: Path) -> None:
    """Programs whose data is not encrypted bring every byte for itself."""
    came = itertools.count()
    with pytest.raises(RetryableFault, match=r"nothing moved for 0\.6 s"):
        run_program(["sleep", "20"], brake=Brake(), stall_s=0.6, arrived_bytes=lambda: next(came))
    assert next(came) > 2


@pytest.mark.parametrize(("way", "direction"), OVER_SSH[::3])
def test_a_flipped_bit_on_the_way_breaks_the_connection_and_not_the_file(
    tmp_path: Path, sshd: LoopbackSshd, proxy: ChaosProxy, way: str, direction: Literal["up", "down"]
) -> None:
    route = route_of(tmp_path / "sites", way, account_of(sshd, port=proxy.port))
    route.put({"a.bin": random_bytes(FILE_BYTES)})
    batch = route.batch("a.bin")
    proxy.arm("flip", after_bytes=FILE_BYTES // 2, direction=direction)
    assert states(route.move(batch)) == [("done", None)]
    assert proxy.fired == 1
    assert route.digest_there("a.bin") == batch.entries[0].digest
    assert [row.outcome for row in route.ledger.read()] == ["failed", "done"]
    assert route.litter() == []


@pytest.mark.parametrize(
    ("way", "times"), [("scp push", 1), ("scp push", 9), ("rsync pull", 9), ("fdt push", 9), ("gridftp push", 9)]
)
def test_damaged_bytes_are_sent_again_once_and_never_get_the_final_name(
    tmp_path: Path, sshd: LoopbackSshd, monkeypatch: pytest.MonkeyPatch, way: str, times: int
) -> None:
    servers = {"push": sshftp_server(account_of(sshd))}
    route = route_of(tmp_path / "sites", way, account_of(sshd), servers=servers)
    route.put({"a.bin": random_bytes(300_000)})
    (route.there / "a.bin").write_bytes(b"what was there")
    batch = route.batch("a.bin")
    finish, damaged = FileMove.finish, itertools.count()

    def damage_and_finish(self: FileMove, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - handed on
        if next(damaged) < times:
            (partial,) = route.there.glob(".*.camnet-part")
            with partial.open("r+b") as file:
                byte = file.read(1)[0]
                file.seek(0)
                file.write(bytes([byte ^ 1]))
        finish(self, *arguments, **options)

    monkeypatch.setattr(FileMove, "finish", damage_and_finish)
    (outcome,) = route.move(batch)
    rows = route.ledger.read()
    assert "was damaged on its way or at rest" in str(rows[0].error)
    assert [row.bytes_resent for row in rows] == [0, 300_000]
    if times == 1:
        assert outcome.state == "done"
        assert route.digest_there("a.bin") == batch.entries[0].digest
    else:
        assert (outcome.state, outcome.kind) == ("failed", "integrity")
        assert "damaged on its way, twice" in str(outcome.error)
        assert (route.there / "a.bin").read_bytes() == b"what was there"
    assert route.litter() == []


@pytest.mark.parametrize("way", ["scp push"])
def test_a_drop_after_the_last_byte_and_before_the_rename_sends_nothing_again(
    tmp_path: Path, sshd: LoopbackSshd, proxy: ChaosProxy, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    route = route_of(tmp_path / "sites", way, account_of(sshd, port=proxy.port))
    route.put({"a.bin": random_bytes(300_000)})
    batch = route.batch("a.bin")
    finish = FileMove.finish

    def cut_and_finish(self: FileMove, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - handed on
        if not proxy.fault_is("drop"):
            proxy.arm("drop", after_bytes=0, direction="up")
        finish(self, *arguments, **options)

    monkeypatch.setattr(FileMove, "finish", cut_and_finish)
    assert states(route.move(batch)) == [("done", None)]
    assert proxy.fired == 1
    assert route.digest_there("a.bin") == batch.entries[0].digest
    assert [(row.outcome, row.wire_bytes) for row in route.ledger.read()] == [("failed", 300_000), ("done", 0)]
    assert route.litter() == []


def test_a_new_version_does_not_go_on_from_the_old_partial(tmp_path: Path, sshd: LoopbackSshd) -> None:
    route = route_of(tmp_path / "sites", "rsync push", account_of(sshd))
    route.put({"a.bin": random_bytes(1_000_000)})

    def interrupt(path: str, arrived_bytes: int) -> None:
        if arrived_bytes:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        route.move(route.batch("a.bin"), SLOW, interrupt)
    (old,) = route.there.glob(".*.camnet-part")
    assert old.stat().st_size > 0
    route.put({"a.bin": random_bytes(1_000_000, seed=5)})
    batch = route.batch("a.bin")
    assert states(route.move(batch)) == [("done", None)]
    assert route.ledger.read()[-1].wire_bytes == 1_000_000
    assert route.digest_there("a.bin") == batch.entries[0].digest
    assert not old.exists()


@needs_root
@pytest.mark.parametrize(
    ("way", "trouble"),
    [
        *((way, "full") for way in ("scp push", "rsync push", "fdt push", "gridftp push")),
        ("rsync pull", "read-only"),
        ("streams push", "read-only"),
    ],
)
def test_a_folder_for_temporary_files_that_is_of_no_use_is_named(
    tmp_path: Path, sshd: LoopbackSshd, monkeypatch: pytest.MonkeyPatch, way: str, trouble: str
) -> None:
    servers = {"push": sshftp_server(account_of(sshd))}
    route = route_of(tmp_path / "sites", way, account_of(sshd), servers=servers)
    route.put({"a.bin": random_bytes(100_000)})
    batch = route.batch("a.bin")
    with small_disk(tmp_path / "tmp", 64) as folder:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        if trouble == "full":
            (folder / "in the way").write_bytes(bytes(64 << 10))
        else:
            subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        (outcome,) = route.move(batch)
        if outcome.state == "done":  # a full one has room for files without a byte, and more is not always needed
            assert trouble == "full"
        else:
            assert outcome.kind == "permanent"
            assert str(outcome.error).startswith(f"{folder}: the folder for temporary files")
            assert "set TMPDIR" in str(outcome.remedy)
            assert route.litter() == []
    monkeypatch.undo()
    assert states(route.move(batch))[0][0] in ("done", "already")


@needs_root
@pytest.mark.parametrize("way", ["scp push", "rsync push", "fdt pull"])
def test_a_full_disk_is_named_and_takes_only_what_does_not_fit(tmp_path: Path, sshd: LoopbackSshd, way: str) -> None:
    route = route_of(tmp_path / "sites", way, account_of(sshd))
    route.put({"big.bin": random_bytes(FILE_BYTES), "small.bin": b"small"})
    route.there.rmdir()
    with small_disk(route.there, 1024):
        big, small = route.move(
            route.batch("big.bin", "small.bin"), QUICK.model_copy(update={"chunk_bytes": FILE_BYTES})
        )
        assert (big.state, big.kind, small.state) == ("failed", "permanent", "done")
        assert "no space left" in str(big.error).lower()
        assert str(big.remedy).startswith("free some space there")
        assert route.litter() == []
        assert [path.name for path in route.there.iterdir()] == ["small.bin"]


@pytest.mark.parametrize(
    ("program", "said", "status", "kind", "remedy"),
    [
        ("scp", 'scp: dest open "./x": Permission denied', 1, "permanent", "give the account write permission"),
        ("scp", "scp: write remote: Quota exceeded", 1, "permanent", "ask for more quota"),
        ("scp", "ssh: connect to host x: Permission denied (whatever)", 255, "retryable", "nothing is lost"),
        ("scp", "scp: something new", 1, "retryable", "nothing is lost"),
        ("rsync", "rsync: mkstemp failed: Permission denied (13)", 23, "permanent", "give the account write"),
        ("rsync", "rsync error: timeout in data send/receive (code 30)", 30, "retryable", "nothing is lost"),
    ],
)
def test_what_programs_say_is_told_apart(
    tmp_path: Path,
    sshd: LoopbackSshd,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    said: str,
    status: int,
    kind: str,
    remedy: str,
) -> None:
    (tmp_path / "bin").mkdir()
    stub = tmp_path / "bin" / program
    stub.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit {status}\n")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    route = route_of(tmp_path / "sites", f"{program} push", account_of(sshd))
    route.put({"a.bin": b"abc", "b.bin": b"b"})
    outcomes = route.move(route.batch("a.bin", "b.bin"))
    assert states(outcomes) == [("failed", kind)] * 2
    assert all(said in str(outcome.error) for outcome in outcomes)
    assert all(str(outcome.remedy).startswith(remedy) for outcome in outcomes)
    if kind == "retryable":
        assert len(route.ledger.read()) == 2 * QUICK.attempts


def test_an_old_scp_is_refused(tmp_path: Path, sshd: LoopbackSshd, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    stub = tmp_path / "bin/scp"
    stub.write_text("#!/bin/sh\necho 'unknown option -- s' >&2\necho 'usage: scp [-346BCpqrTv]' >&2\nexit 1\n")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    route = route_of(tmp_path / "sites", "scp push", account_of(sshd))
    route.put({"a.bin": b"abc"})
    with pytest.raises(InputError, match="too old"):
        route.move(route.batch("a.bin"))


@pytest.mark.parametrize("way", ["scp push", "rsync pull", "fdt push"])
def test_a_source_that_changes_on_the_way_is_noticed(tmp_path: Path, sshd: LoopbackSshd, way: str) -> None:
    route = route_of(tmp_path / "sites", way, account_of(sshd))
    route.put({"a.bin": random_bytes(1 << 20)})
    (route.there / "a.bin").write_bytes(b"what was there")
    batch = route.batch("a.bin")

    def change(path: str, arrived_bytes: int) -> None:
        if arrived_bytes:
            with (route.here / "a.bin").open("r+b") as file:
                file.seek(-1000, 2)
                file.write(bytes(1000))

    (outcome,) = route.move(batch, SLOW, change)
    assert (outcome.state, outcome.kind) == ("failed", "integrity")
    assert "was changed after the manifest" in str(outcome.error)
    assert (route.there / "a.bin").read_bytes() == b"what was there"
    assert route.litter() == []


@pytest.mark.parametrize(
    ("way", "case"),
    [
        *((way, case) for way in ("scp push", "rsync pull", "fdt push") for case in ("unknown", "changed")),
        ("scp push", "revoked"),
        ("scp push", "authority"),
    ],
)
def test_a_host_that_cannot_prove_itself_is_refused(tmp_path: Path, sshd: LoopbackSshd, way: str, case: str) -> None:
    route = route_of(tmp_path / "sites", way, stranger_of(sshd, tmp_path, case))
    route.put({"a.bin": b"abc"})
    with pytest.raises(InputError, match="known_hosts"):
        route.move(route.batch("a.bin"))
    assert list(route.there.iterdir()) == []


@pytest.mark.parametrize("protocol", ["scp", "rsync"])
@pytest.mark.parametrize("case", ["unknown", "changed", "revoked", "authority"])
def test_the_program_itself_refuses_it_too(tmp_path: Path, sshd: LoopbackSshd, protocol: str, case: str) -> None:
    """The control connection has refused before; should the host change between the two, the program does."""
    route = route_of(tmp_path / "sites", f"{protocol} push", stranger_of(sshd, tmp_path, case))
    route.put({"a.bin": b"abc"})
    carrier = CARRIERS[protocol](route.source, route.destination, QUICK)
    load = Load("a.bin", ".a.camnet-part", 3, 0, 3)
    watch = Watch(lambda: LocalStore(route.there), [load], lambda path, arrived_bytes: None)
    with pytest.raises(RetryableFault, match="Host key verification failed"):
        carrier.carry([load], watch, Brake())
    assert list(route.there.iterdir()) == []


def stranger_of(sshd: LoopbackSshd, folder: Path, case: str) -> SshAccount:
    """Give the account with a known_hosts that has no key of the server, or another one, or revokes it."""
    host, kind, key = sshd.known_hosts.read_text().split()
    other = "AAAAC3NzaC1lZDI1NTE5AAAAIF9rZXlfb2Zfc29tZWJvZHlfZWxzZV9hdF9hbGxf"
    known_hosts = folder / "known_hosts"
    lines = {
        "unknown": f"elsewhere.example {kind} {key}\n",
        "changed": f"{host} {kind} {other}\n",
        "revoked": f"{host} {kind} {key}\n@revoked * {kind} {key}\n",
        "authority": f"@cert-authority * {kind} {key}\n",
    }
    known_hosts.write_text(lines[case])
    return account_of(sshd).model_copy(update={"known_hosts": known_hosts})


@pytest.mark.parametrize("way", ["scp push", "rsync pull", "fdt push"])
def test_a_program_that_is_missing_here_is_named(
    tmp_path: Path, sshd: LoopbackSshd, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    route = route_of(tmp_path / "sites", way, account_of(sshd))
    route.put({"a.bin": b"abc"})
    batch = route.batch("a.bin")
    if way == "fdt push":
        assert batch.source.fdt
        source = batch.source.model_copy(update={"fdt": batch.source.fdt.model_copy(update={"java": "no-such-java"})})
        batch = batch.model_copy(update={"source": source})
    monkeypatch.setenv("PATH", str(tmp_path))
    mover = open_mover(way.split()[0], batch.source, batch.destination, QUICK, route.ledger)
    with pytest.raises(InputError, match="no such program on this machine"):
        mover.move(batch)


@pytest.mark.parametrize("way", ["rsync push", "rsync pull"])
def test_an_rsync_that_is_missing_there_is_named(tmp_path: Path, way: str) -> None:
    with loopback_sshd(tmp_path / "sshd", settings=["SetEnv PATH=/nowhere"]) as server:
        route = route_of(tmp_path / "sites", way, account_of(server))
        route.put({"a.bin": b"abc"})
        with pytest.raises(InputError, match="has no program rsync"):
            route.move(route.batch("a.bin"))
        assert route.litter() == []


@pytest.mark.parametrize("way", ["local", "relay"])
def test_rsync_and_fdt_have_one_far_end(tmp_path: Path, sshd: LoopbackSshd, way: str) -> None:
    route = route_of(tmp_path / "sites", way, account_of(sshd))
    for protocol in ("rsync", "fdt"):
        with pytest.raises(InputError, match="SSH account"):
            open_mover(protocol, route.source, route.destination, QUICK, route.ledger)


@pytest.mark.parametrize("way", ["scp pull", "rsync push", "rsync pull", "fdt push"])
def test_killed_it_leaves_no_program_and_the_next_call_finishes(tmp_path: Path, sshd: LoopbackSshd, way: str) -> None:
    route = route_of(tmp_path / "sites", way, account_of(sshd))
    route.put({"a.bin": random_bytes(FILE_BYTES), "b.bin": b"b"})
    batch = route.batch("a.bin", "b.bin")
    move_and_kill(route, batch, SLOW)
    check_all_gone(tmp_path / "sites", sshd.folder / "known_hosts")
    assert [path.name for path in route.there.glob("*.bin")] == []
    assert states(route.move(batch)) == [("done", None)] * 2
    assert {entry.path: route.digest_there(entry.path) for entry in batch.entries} == {
        entry.path: entry.digest for entry in batch.entries
    }
    large = next(row for row in route.ledger.read() if row.path == "a.bin" and row.outcome == "done")
    if way.startswith("rsync"):
        assert large.wire_bytes < FILE_BYTES
    assert route.litter() == []


@pytest.mark.parametrize("way", ["scp push", "rsync push", "rsync pull"])
def test_killed_before_the_rename_nothing_is_sent_again(
    tmp_path: Path, sshd: LoopbackSshd, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    route = route_of(tmp_path / "sites", way, account_of(sshd))
    route.put({"a.bin": random_bytes(300_000)})
    batch = route.batch("a.bin")

    def die(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("transfer.file_move.FileMove.finish", die)
        with pytest.raises(KeyboardInterrupt):
            route.move(batch)
    assert states(route.move(batch)) == [("done", None)]
    assert route.ledger.read()[-1].wire_bytes == 0
    assert route.digest_there("a.bin") == batch.entries[0].digest


def test_killed_with_a_group_half_pulled_its_folder_is_swept(tmp_path: Path, sshd: LoopbackSshd) -> None:
    route = route_of(tmp_path / "sites", "rsync pull", account_of(sshd))
    files = {f"{number}.bin": random_bytes(400_000, seed=number) for number in range(6)}
    route.put(files)
    batch = route.batch(*files)
    one_group = QUICK.model_copy(update={"chunk_bytes": FILE_BYTES})
    move_and_kill(route, batch, one_group.model_copy(update={"limit_mb_per_s": 1.0}))
    check_all_gone(tmp_path / "sites", sshd.folder / "known_hosts")
    assert len(list(route.there.glob(".camnet-*.staging"))) == 1
    assert states(route.move(batch, one_group)) == [("done", None)] * 6
    assert sorted(path.name for path in route.there.iterdir()) == sorted(files)
    assert route.litter() == []


def move_and_kill(route: Route, batch: Batch, options: TransferOptions) -> None:
    """Move in a process of its own, and kill that when the first bytes have arrived."""
    file = route.ledger.path.parent / "batch.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(batch.model_dump_json())
    arguments = [str(file), options.model_dump_json(), str(route.ledger.path), route.protocol]
    with subprocess.Popen([sys.executable, "-c", MOVE, *arguments], cwd=REPOSITORY, stdout=subprocess.PIPE) as process:
        assert process.stdout
        for line in process.stdout:
            if int(line) > 0:
                break
        process.kill()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("way", ["scp push", "rsync pull", "fdt push"])
def test_cancelled_from_another_thread_no_program_is_left(tmp_path: Path, sshd: LoopbackSshd, way: str) -> None:
    route = route_of(tmp_path / "sites", way, account_of(sshd))
    route.put({"a.bin": random_bytes(50 << 20)})  # 50 s at the limit
    batch = route.batch("a.bin")
    mover = open_mover(route.protocol, route.source, route.destination, SLOW, route.ledger)
    seen: list[int] = []
    outcomes: list[Outcome] = []
    moving = Thread(
        target=lambda: outcomes.extend(mover.move(batch, lambda path, arrived_bytes: seen.append(arrived_bytes)))
    )
    moving.start()
    while not any(seen):
        assert moving.is_alive()
        time.sleep(0.05)
    mover.cancel()
    moving.join(timeout=30)
    assert not moving.is_alive()
    assert states(outcomes) == [("failed", "retryable")]
    assert "was cancelled" in str(outcomes[0].error)
    check_all_gone(tmp_path / "sites", sshd.folder / "known_hosts")
    assert states(route.move(batch)) == [("done", None)]
    assert route.digest_there("a.bin") == batch.entries[0].digest


@pytest.mark.parametrize("way", ["scp push", "rsync push", "rsync pull", "fdt pull"])
def test_one_bad_file_does_not_take_the_group_with_it(
    tmp_path: Path, sshd: LoopbackSshd, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    route = route_of(tmp_path / "sites", way, account_of(sshd))
    files = {f"{name}.bin": random_bytes(20_000, seed=ord(name)) for name in "abc"}
    route.put(files)
    batch = route.batch(*files)
    carrier = CARRIERS[route.protocol]
    carry = carrier.carry

    def carry_without_b(self: Carrier, loads: Sequence[Load], watch: Watch, brake: Brake) -> float:
        (route.here / "b.bin").unlink(missing_ok=True)  # after it was looked at
        return carry(self, loads, watch, brake)  # type: ignore[arg-type]  # whichever of the three it is

    monkeypatch.setattr(carrier, "carry", carry_without_b)
    assert states(route.move(batch)) == [("done", None), ("failed", "integrity"), ("done", None)]
    assert sorted(path.name for path in route.there.iterdir()) == ["a.bin", "c.bin"]
    assert {row.outcome for row in route.ledger.read() if row.path != "b.bin"} <= {"done", "failed"}


def test_a_host_that_went_away_costs_no_wait_for_each_file(tmp_path: Path, sshd: LoopbackSshd) -> None:
    with chaos_proxy(sshd.port) as proxy:
        route = route_of(tmp_path / "sites", "scp push", account_of(sshd, port=proxy.port))
        files = {f"{number}.bin": b"x" for number in range(20)}
        route.put(files)
        batch = route.batch(*files)
        proxy.arm("drop", after_bytes=0, direction="down")
        before = proxy.connections
        outcomes = route.move(batch, QUICK.model_copy(update={"attempts": 1}))
        assert states(outcomes) == [("failed", "retryable")] * 20
        assert proxy.connections == before + 1
        assert states(route.move(batch)) == [("done", None)] * 20


def test_scp_goes_between_two_accounts_of_their_own(tmp_path: Path, sshd: LoopbackSshd) -> None:
    with loopback_sshd(tmp_path / "other") as other:
        route = route_of(tmp_path / "sites", "scp relay", account_of(sshd))
        destination = route.destination.model_copy(update={"ssh": with_odd_paths(account_of(other), tmp_path)})
        route.put({"a.bin": random_bytes(100_000)})
        batch = route.batch("a.bin").model_copy(update={"destination": destination})
        assert states(route.move(batch)) == [("done", None)]
        assert route.digest_there("a.bin") == batch.entries[0].digest


@pytest.mark.parametrize("way", ["scp push", "rsync pull"])
def test_files_of_the_account_may_have_any_name(tmp_path: Path, sshd: LoopbackSshd, way: str) -> None:
    route = route_of(tmp_path / "sites", way, with_odd_paths(account_of(sshd), tmp_path))
    route.put({"a.bin": b"abc"})
    assert states(route.move(route.batch("a.bin"))) == [("done", None)]


def with_odd_paths(account: SshAccount, folder: Path) -> SshAccount:
    odd = folder / 'it\'s a "key", 100% \\ $HOME #1'
    odd.mkdir()
    key = Path(shutil.copy(account.key, odd))
    return account.model_copy(update={"key": key, "known_hosts": Path(shutil.copy(account.known_hosts, odd))})


def test_a_partial_file_of_several_streams_is_not_appended_to(tmp_path: Path, sshd: LoopbackSshd) -> None:
    """What sftp left has holes that its size does not show; rsync begins anew."""
    route = route_of(tmp_path / "sites", "push", account_of(sshd))
    route.put({"a.bin": random_bytes(FILE_BYTES)})
    batch = route.batch("a.bin")

    def interrupt(path: str, arrived_bytes: int) -> None:
        if arrived_bytes >= FILE_BYTES // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        route.move(batch, progress=interrupt)
    rsync = open_mover("rsync", route.source, route.destination, QUICK, route.ledger)
    assert states(rsync.move(batch)) == [("done", None)]
    row = route.ledger.read()[-1]
    assert (row.outcome, row.retries) == ("done", 0)
    assert route.digest_there("a.bin") == batch.entries[0].digest
    assert route.litter() == []

"""What happens to a transfer while others work on the same files.

What `transfer.carried` or `transfer.engine` does for all its protocols is asked of one or two of them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.services.sshd_route import CHUNK_BYTES, QUICK, Route, random_bytes
from transfer.journal import Journal, Target
from transfer.model import Batch

SEGMENT_BYTES = 64 * CHUNK_BYTES
SMALL_BYTES = 4 << 20
HOLD = "import fcntl, sys; file = open(sys.argv[1], 'a'); fcntl.flock(file, 2); print(flush=True); sys.stdin.read()"


def target_of(batch: Batch) -> Target:
    (entry,) = batch.entries
    return Target(batch.destination.site, batch.destination.root, entry.path, entry.bytes, entry.digest)


@contextmanager
def held_by_another(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Let a process of its own hold the lock of a journal until it is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-I", "-S", "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"\n"
            yield holder
        finally:
            holder.kill()


@pytest.mark.parametrize("route", ["local", "streams push", "sftp pull", "rsync push"], indirect=True)
def test_the_lock_of_a_living_process_is_respected_and_that_of_a_dead_one_is_not(route: Route) -> None:
    route.put({"a.bin": random_bytes(3 * CHUNK_BYTES)})
    batch = route.batch("a.bin")
    journal = route.ledger.path.parent / "journals" / target_of(batch).journal_name()
    with held_by_another(journal) as holder:
        (outcome,) = route.move(batch, QUICK.model_copy(update={"attempts": 2}))
        assert (outcome.state, outcome.kind) == ("failed", "retryable")
        assert "another process is moving this file" in str(outcome.error)
        assert [path for path in route.there.rglob("*") if path.is_file()] == []
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    # Its journal is there, and as old as one likes: who holds the lock is all that counts.
    os.utime(journal, (0, 0))
    assert route.move(batch)[0].state == "done"
    assert route.digest_there("a.bin") == batch.entries[0].digest
    assert route.litter() == []


@pytest.mark.parametrize("route", ["local", "tls pull", "sftp pull", "rsync push", "globus folders"], indirect=True)
def test_signals_that_come_in_between_do_no_harm(route: Route) -> None:
    """Every call of the system that can be interrupted is."""
    route.put({"a.bin": random_bytes(20 * CHUNK_BYTES), "b.bin": b"b", "c.bin": b"c"})
    batch = route.batch("a.bin", "b.bin", "c.bin")
    taken = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: taken.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    try:
        outcomes = route.move(batch)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert taken
    assert [outcome.state for outcome in outcomes] == ["done"] * 3
    assert {row.retries for row in route.ledger.read()} == {0}
    assert route.digest_there("a.bin") == batch.entries[0].digest


@pytest.mark.parametrize("route", ["streams push", "gridftp third-party"], indirect=True)
def test_sizes_at_the_borders_of_groups_and_segments(route: Route) -> None:
    """A segment of GridFTP has 64 chunks; streams takes files up to 4 MiB for small ones where chunks are larger."""
    border = SEGMENT_BYTES if route.protocol == "gridftp" else SMALL_BYTES
    options = QUICK if route.protocol == "gridftp" else QUICK.model_copy(update={"chunk_bytes": 8 << 20})
    files = {f"{size}.bin": random_bytes(size, seed=size) for size in (border - 1, border, border + 1)}
    route.put(files)
    batch = route.batch(*files)
    assert [outcome.state for outcome in route.move(batch, options)] == ["done"] * 3
    assert [route.digest_there(entry.path) for entry in batch.entries] == [entry.digest for entry in batch.entries]
    assert route.litter() == []


SWAPPED = {
    **dict.fromkeys(("local", "streams push", "sftp push"), (1, 40 * CHUNK_BYTES, None)),
    **dict.fromkeys(("scp push", "rsync push", "fdt push"), (1, 1500000, 1.0)),
    "gridftp push": (1, 3 * SEGMENT_BYTES, None),
}
"""Streams, bytes and the limit in MB/s that lets a program last long enough."""


@pytest.mark.parametrize("route", SWAPPED, indirect=True)
def test_a_folder_that_becomes_a_link_on_the_way_leads_nowhere(
    route: Route, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    streams, size_bytes, limit = SWAPPED[request.node.callspec.params["route"]]
    options = QUICK.model_copy(update={"streams": streams, "limit_mb_per_s": limit})
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.bin").write_bytes(b"precious")
    route.put({"sub/a.bin": random_bytes(size_bytes)})

    def swap(path: str, arrived_bytes: int) -> None:
        if arrived_bytes and not (route.there / "sub").is_symlink():
            (route.there / "sub").rename(route.there / "moved away")
            (route.there / "sub").symlink_to(outside)

    (outcome,) = route.move(route.batch("sub/a.bin"), options, swap)
    assert (outcome.state, outcome.kind) == ("failed", "permanent")
    assert "symbolic link" in str(outcome.error)
    assert [(path.name, path.read_bytes()) for path in outside.iterdir()] == [("a.bin", b"precious")]


@pytest.mark.parametrize("route", ["local", "streams pull", "sftp pull"], indirect=True)
def test_a_source_folder_that_becomes_a_link_on_the_way_is_not_read(route: Route, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.bin").write_bytes(b"secret!!" * (5 * CHUNK_BYTES))
    route.put({"sub/a.bin": random_bytes(40 * CHUNK_BYTES)})

    def swap(path: str, arrived_bytes: int) -> None:
        if arrived_bytes and not (route.here / "sub").is_symlink():
            (route.here / "sub").rename(route.here / "moved away")
            (route.here / "sub").symlink_to(outside)

    options = QUICK.model_copy(update={"streams": 1})
    (outcome,) = route.move(route.batch("sub/a.bin"), options, swap)
    assert (outcome.state, outcome.kind) == ("failed", "permanent")
    assert "symbolic link" in str(outcome.error)
    assert [path for path in route.there.rglob("*") if path.is_file()] == []


# Of a partial file that is ours already, SFTP and the programs do not tell that it has got a second name.
@pytest.mark.parametrize(
    ("route", "begun"),
    [
        *((way, False) for way in ("local", "streams push", "sftp push", "scp push")),
        ("local", True),
        ("tls push", True),
    ],
    indirect=["route"],
)
def test_a_partial_file_with_a_second_name_is_not_written_to(route: Route, tmp_path: Path, begun: bool) -> None:
    """Somebody who may write to the folder has put a hard link to a file of ours where the partial file will lie."""
    size_bytes = 20 * CHUNK_BYTES
    precious = tmp_path / "precious"
    precious.write_bytes(b"p" * size_bytes)
    route.put({"a.bin": random_bytes(size_bytes), "b.bin": b"small"})
    for name in ("a.bin", "b.bin"):
        target = target_of(route.batch(name))
        (route.there / target.partial).hardlink_to(precious)
        if begun and name == "a.bin":
            with closing(Journal(route.ledger.path.parent / "journals", target)) as journal:
                journal.begin((0, CHUNK_BYTES))
                journal.arrive((0, CHUNK_BYTES))
    batch = route.batch("a.bin", "b.bin")
    assert {outcome.kind for outcome in route.move(batch)} == ({"permanent", None} if begun else {None})
    assert {outcome.state for outcome in route.move(batch)} <= {"done", "already"}
    assert precious.read_bytes() == b"p" * size_bytes
    assert route.digest_there("a.bin") == batch.entries[0].digest
    assert route.litter() == []

"""A transfer whose process dies, whose journal is damaged, whose bytes rot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.loopback_sshd import LoopbackSshd, loopback_sshd
from tests.services.sshd_route import CHUNK_BYTES, QUICK, Route, account_of, random_bytes, route_of
from transfer.journal import Journal, Target
from transfer.manifest import Entry
from transfer.model import Batch

REPOSITORY = Path(__file__).resolve().parent.parent.parent
FILE_BYTES = 64 * CHUNK_BYTES
WAYS = ("local", "sftp push", "sftp pull", "streams push", "streams pull")

MOVE_AND_DIE = """
import os, signal, sys, threading
from pathlib import Path
from transfer.ledger import Ledger
from transfer.model import Batch, TransferOptions
from transfer.mover import open_mover

batch = Batch.model_validate_json(Path(sys.argv[1]).read_bytes())
options = TransferOptions.model_validate_json(sys.argv[2])
last_byte, delay_s = int(sys.argv[4]), float(sys.argv[5])

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def die_at_last_byte(path, arrived_bytes):
    if arrived_bytes >= last_byte:
        die()

timer = threading.Timer(delay_s, die)
timer.daemon = True  # an error of the move must end the process
timer.start()
mover = open_mover(sys.argv[6], batch.source, batch.destination, options, Ledger(Path(sys.argv[3])))
mover.move(batch, die_at_last_byte)
die()
"""


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with loopback_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(params=WAYS)
def route(request: pytest.FixtureRequest, tmp_path: Path, sshd: LoopbackSshd) -> Route:
    """A file of 64 chunks that is to go each of the ways."""
    route = route_of(tmp_path / "sites", request.param, account_of(sshd))
    route.put({"a.bin": random_bytes(FILE_BYTES)})
    return route


def move_and_die(route: Route, batch: Batch, *, last_byte: int = FILE_BYTES + 1, delay_s: float = 60) -> None:
    """Move in a process of its own that kills itself when so many bytes have arrived or so long after its start."""
    file = route.ledger.path.parent / "batch.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(batch.model_dump_json())
    arguments = [str(file), QUICK.model_dump_json(), str(route.ledger.path), str(last_byte), str(delay_s)]
    arguments.append(route.protocol)
    ended = subprocess.run([sys.executable, "-c", MOVE_AND_DIE, *arguments], cwd=REPOSITORY, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.parametrize("share", [0.01, 0.5, 1.0])
def test_killed_in_the_middle_it_goes_on_from_there(route: Route, share: float) -> None:
    batch = route.batch("a.bin")
    move_and_die(route, batch, last_byte=int(share * FILE_BYTES))
    assert not (route.there / "a.bin").exists()
    assert route.move(batch)[0].state == "done"
    assert route.digest_there("a.bin") == batch.entries[0].digest
    (row,) = route.ledger.read()  # the killed attempt had no time to write its own
    assert row.wire_bytes <= (1 - share) * FILE_BYTES + 2 * CHUNK_BYTES
    assert row.bytes_resent <= QUICK.streams * CHUNK_BYTES
    assert route.litter() == []


def test_killed_at_any_time_the_final_name_is_never_wrong(route: Route) -> None:
    batch = route.batch("a.bin")
    unit_s = 0.06 if route.source.ssh or route.destination.ssh else 0.004
    for units in (1, 4, 7, 10):
        move_and_die(route, batch, delay_s=units * unit_s)
        if (route.there / "a.bin").exists():
            assert route.digest_there("a.bin") == batch.entries[0].digest
    assert route.move(batch)[0].state in ("done", "already")
    assert route.digest_there("a.bin") == batch.entries[0].digest
    assert route.litter() == []


def half_moved(route: Route) -> tuple[Batch, Path, Path]:
    """Interrupt a transfer in the middle; return the batch, the partial file and the journal that it leaves."""
    batch = route.batch("a.bin")

    def interrupt(path: str, arrived_bytes: int) -> None:
        if arrived_bytes >= FILE_BYTES // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        route.move(batch, progress=interrupt)
    (row,) = route.ledger.read()
    assert (row.outcome, row.error) == ("failed", "interrupted")
    route.ledger.path.unlink()
    (partial,) = route.there.glob(".*.camnet-part")
    (journal,) = (route.ledger.path.parent / "journals").iterdir()
    return batch, partial, journal


@pytest.mark.parametrize("damage", ["torn", "doubled"])
def test_a_damaged_last_line_of_the_journal_costs_one_chunk(route: Route, damage: str) -> None:
    batch, _, journal = half_moved(route)
    if damage == "torn":
        journal.write_bytes(journal.read_bytes()[:-9])
    else:
        head, *lines = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(head + b"".join(line * 2 for line in lines))
    assert route.move(batch)[0].state == "done"
    (row,) = route.ledger.read()
    assert row.wire_bytes <= FILE_BYTES // 2 + 3 * CHUNK_BYTES
    assert route.digest_there("a.bin") == batch.entries[0].digest


@pytest.mark.parametrize("route", ["sftp push"], indirect=True)
@pytest.mark.parametrize("content", [b"", b"\0" * 500, b'{"schema": "other"}\n', b"[1]\n", b'{"digest": 3}\n'])
def test_a_journal_that_says_nothing_means_starting_anew(route: Route, content: bytes) -> None:
    batch, _, journal = half_moved(route)
    journal.write_bytes(content)
    assert route.move(batch)[0].state == "done"
    assert route.ledger.read()[-1].wire_bytes == FILE_BYTES
    assert route.digest_there("a.bin") == batch.entries[0].digest
    assert route.litter() == []


@pytest.mark.parametrize("loss", ["gone", "shorter", "longer"])
def test_a_partial_file_that_does_not_fit_its_journal_is_not_continued(route: Route, loss: str) -> None:
    batch, partial, _ = half_moved(route)
    match loss:
        case "gone":
            partial.unlink()
        case "shorter":
            partial.write_bytes(partial.read_bytes()[:CHUNK_BYTES])
        case "longer":
            partial.write_bytes(bytes(FILE_BYTES + 1))
    assert route.move(batch)[0].state == "done"
    (row,) = route.ledger.read()
    assert row.wire_bytes == FILE_BYTES
    assert row.bytes_resent >= FILE_BYTES // 2
    assert route.digest_there("a.bin") == batch.entries[0].digest


def test_a_bit_that_flips_at_rest_is_found_and_mended(route: Route) -> None:
    batch, partial, _ = half_moved(route)
    with partial.open("r+b") as file:
        first = file.read(1)[0]
        file.seek(0)
        file.write(bytes([first ^ 1]))
    assert route.move(batch)[0].state == "done"
    failed, done = route.ledger.read()
    assert "damaged on" in str(failed.error)
    assert "or at rest" in str(failed.error)
    again_bytes = 1 << 20 if route.protocol == "streams" else FILE_BYTES
    assert (done.outcome, done.wire_bytes, done.bytes_resent) == ("done", again_bytes, again_bytes)
    assert route.digest_there("a.bin") == batch.entries[0].digest


def test_bytes_that_are_damaged_each_time_never_get_the_final_name(route: Route) -> None:
    (route.there / "a.bin").write_bytes(b"what was there")
    batch = route.batch("a.bin")

    def damage(path: str, arrived_bytes: int) -> None:
        if arrived_bytes == FILE_BYTES:  # then the end of the file has not been digested yet
            (partial,) = route.there.glob(".*.camnet-part")
            with partial.open("r+b") as file:
                file.seek(-8, os.SEEK_END)
                file.write(b"damaged!")

    (outcome,) = route.move(batch, progress=damage)
    assert (outcome.state, outcome.kind) == ("failed", "integrity")
    assert "damaged on its way, twice" in str(outcome.error)
    assert [row.outcome for row in route.ledger.read()] == ["failed", "failed"]
    assert (route.there / "a.bin").read_bytes() == b"what was there"
    assert route.litter() == []


def test_a_new_version_does_not_go_on_from_the_old_partial(route: Route) -> None:
    _, old_partial, _ = half_moved(route)
    route.put({"a.bin": random_bytes(FILE_BYTES, seed=5)})
    batch = route.batch("a.bin")
    assert route.move(batch)[0].state == "done"
    assert route.ledger.read()[-1].wire_bytes == FILE_BYTES
    assert route.digest_there("a.bin") == batch.entries[0].digest
    assert not old_partial.exists()


def test_a_source_that_changes_during_the_transfer_is_noticed(route: Route) -> None:
    batch = route.batch("a.bin")

    def change(path: str, arrived_bytes: int) -> None:
        if arrived_bytes == FILE_BYTES // 2:
            with (route.here / "a.bin").open("r+b") as file:
                file.write(random_bytes(FILE_BYTES, seed=6))

    (outcome,) = route.move(batch, progress=change)
    assert (outcome.state, outcome.kind) == ("failed", "integrity")
    assert "was changed after the manifest" in str(outcome.error)
    assert list(route.there.iterdir()) == []


def test_a_source_that_shrinks_during_the_transfer_is_noticed(route: Route) -> None:
    batch = route.batch("a.bin")

    def shrink(path: str, arrived_bytes: int) -> None:
        if arrived_bytes == FILE_BYTES // 4:
            with (route.here / "a.bin").open("r+b") as file:
                file.truncate(FILE_BYTES // 3)

    (outcome,) = route.move(batch, progress=shrink)
    assert (outcome.state, outcome.kind) == ("failed", "integrity")
    assert list(route.there.iterdir()) == []


def test_what_a_kill_after_the_rename_leaves_is_swept(route: Route) -> None:
    batch, _, journal = half_moved(route)
    (route.there / "a.bin").write_bytes((route.here / "a.bin").read_bytes())
    assert json.loads(journal.read_text().splitlines()[0])["path"] == "a.bin"
    assert route.move(batch)[0].state == "already"
    assert route.litter() == []


def test_two_transfers_of_one_file_do_not_mix(route: Route) -> None:
    batch = route.batch("a.bin")
    target = target_of(batch, batch.entries[0])
    other = Journal(route.ledger.path.parent / "journals", target)
    try:
        (outcome,) = route.move(batch)
        assert (outcome.state, outcome.kind) == ("failed", "retryable")
        assert "another process is moving this file" in str(outcome.error)
        assert list(route.there.iterdir()) == []
    finally:
        other.close()
    assert route.move(batch)[0].state == "done"


def target_of(batch: Batch, entry: Entry) -> Target:
    return Target(batch.destination.site, batch.destination.root, entry.path, entry.bytes, entry.digest)

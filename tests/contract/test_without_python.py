"""The promises of every mover, for ``streams`` and an account that has a shell and GNU coreutils but no Python."""

from __future__ import annotations

import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.loopback_sshd import LoopbackSshd, loopback_sshd
from tests.contract.test_movers import (  # noqa: F401  # collected here once more, over the fixture `route` of this file
    make_odd,
    test_a_changed_source_fails_and_leaves_the_final_name_alone,
    test_another_version_under_the_final_name_is_replaced,
    test_every_size_arrives_with_its_digest,
    test_links_out_of_the_root_are_refused,
    test_names_are_names_and_nothing_else,
    test_the_destination_root_is_made,
    test_what_is_no_file_is_not_read,
)
from tests.services.chaos_proxy import chaos_proxy
from tests.services.small_disk import needs_root, small_disk
from tests.services.sshd_route import CHUNK_BYTES, QUICK, Route, account_of, random_bytes, route_of
from transfer.ledger import LedgerRow
from transfer.mover import open_mover
from transfer.streams import mover

FOLDER = "two sites; $(touch camnet-was-here) 'x'"
FILE_BYTES = 24 * CHUNK_BYTES
NO_PYTHON = """#!/bin/sh
case $SSH_ORIGINAL_COMMAND in
  *python3*) echo "env: 'python3': No such file or directory" >&2; exit 127 ;;
esac
exec sh -c "$SSH_ORIGINAL_COMMAND"
"""


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    folder = tmp_path_factory.mktemp("sshd")
    (folder / "no-python").write_text(NO_PYTHON)
    with loopback_sshd(folder / "sshd", settings=[f"ForceCommand sh {folder / 'no-python'}"]) as server:
        yield server


@pytest.fixture(params=["streams push", "streams pull"])
def route(request: pytest.FixtureRequest, tmp_path: Path, sshd: LoopbackSshd) -> Route:
    return route_of(tmp_path / FOLDER, request.param, account_of(sshd))


@pytest.fixture
def push(tmp_path: Path, sshd: LoopbackSshd) -> Route:
    return route_of(tmp_path / FOLDER, "streams push", account_of(sshd))


def rows_of(route: Route) -> list[LedgerRow]:
    """The rows but those of the attempts, one a call, that found no Python."""
    return [row for row in route.ledger.read() if "runs no python3" not in str(row.error)]


def test_the_log_tells_which_way_and_why(route: Route, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=mover.__name__)
    route.put({"a.bin": random_bytes(3 * CHUNK_BYTES), "b.bin": b"b"})
    batch = route.batch("a.bin", "b.bin")
    assert [outcome.state for outcome in route.move(batch)] == ["done", "done"]
    assert [outcome.state for outcome in route.move(batch)] == ["already", "already"]
    assert "runs no python3 (env: 'python3': No such file or directory)" in caplog.text
    assert "Its shell and dd carry the files instead." in caplog.text
    assert "SFTP" not in caplog.text
    rows = rows_of(route)
    assert {(row.protocol, row.outcome) for row in rows} == {("streams", "done"), ("streams", "already")}
    assert {row.streams for row in rows if row.path == "a.bin" and row.outcome == "done"} == {QUICK.streams}
    assert [row.wire_bytes for row in rows[2:]] == [0, 0]
    if route.destination.ssh:
        assert {row.verified_by for row in rows} == {"sha256sum at the far side"}


@pytest.mark.parametrize("ending", ["gone", "a link"])
def test_small_files_that_cannot_be_moved_leave_nothing(route: Route, ending: str) -> None:
    names = [f"{number}.bin" for number in range(3)]
    route.put(dict.fromkeys(names, b"a"))
    batch = route.batch(*names)
    for name in names:
        path = route.here / name
        path.unlink()
        if ending == "a link":
            path.symlink_to("/etc/hostname")
    assert {outcome.state for outcome in route.move(batch)} == {"failed"}
    assert route.litter() == []


def test_an_account_without_the_tools_either_is_reached_over_sftp(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "no-dd").write_text(NO_PYTHON.replace("*python3*", "*python3* | *dd\\ bs=*"))
    with loopback_sshd(tmp_path / "sshd", settings=[f"ForceCommand sh {tmp_path / 'no-dd'}"]) as server:
        route = route_of(tmp_path / "sites", "streams push", account_of(server))
        route.put({"a.bin": random_bytes(CHUNK_BYTES)})
        assert route.move(route.batch("a.bin"))[0].state == "done"
    assert {row.protocol for row in route.ledger.read() if row.outcome == "done"} == {"sftp"}
    assert "runs no shell with GNU coreutils" in caplog.text
    assert "It is reached over SFTP instead." in caplog.text


def test_a_transfer_that_was_cancelled_goes_on_from_its_journal(push: Route) -> None:
    push.put({"a.bin": random_bytes(FILE_BYTES)})
    batch = push.batch("a.bin")
    stopped = open_mover("streams", push.source, push.destination, QUICK, push.ledger)

    def stop(path: str, arrived_bytes: int) -> None:
        if arrived_bytes >= FILE_BYTES // 2:
            stopped.cancel()

    (outcome,) = stopped.move(batch, stop)
    assert (outcome.state, outcome.kind) == ("failed", "retryable")
    assert "the transfer was cancelled" in str(outcome.error)
    assert not (push.there / "a.bin").exists()
    assert push.move(batch)[0].state == "done"
    assert push.digest_there("a.bin") == batch.entries[0].digest
    assert push.ledger.read()[-1].wire_bytes <= FILE_BYTES // 2 + QUICK.streams * CHUNK_BYTES
    assert push.litter() == []


@pytest.mark.parametrize(
    ("way", "direction", "fault"),
    [("streams push", "up", "drop"), ("streams push", "up", "stall"), ("streams pull", "down", "drop")],
)
def test_a_connection_that_breaks_or_stalls_costs_a_chunk_a_stream(
    tmp_path: Path, sshd: LoopbackSshd, way: str, direction: str, fault: str
) -> None:
    with chaos_proxy(sshd.port) as proxy:
        route = route_of(tmp_path / "sites", way, account_of(sshd, port=proxy.port))
        route.put({"a.bin": random_bytes(FILE_BYTES)})
        batch = route.batch("a.bin")
        proxy.arm(fault, after_bytes=FILE_BYTES // 2, direction=direction)  # type: ignore[arg-type]  # of the parameters
        assert route.move(batch, QUICK.model_copy(update={"stall_s": 3.0}))[0].state == "done"
        assert proxy.fired == 1
    assert route.digest_there("a.bin") == batch.entries[0].digest
    rows = rows_of(route)
    assert [row.outcome for row in rows] == ["failed", "done"]
    assert sum(row.bytes_resent for row in rows) <= QUICK.streams * CHUNK_BYTES
    assert route.litter() == []


def test_the_limit_is_kept(push: Route) -> None:
    push.put({"a.bin": random_bytes(700_000)})
    assert push.move(push.batch("a.bin"), QUICK.model_copy(update={"limit_mb_per_s": 1.0}))[0].state == "done"
    (row,) = rows_of(push)
    assert row.wire_seconds > 0.4


def test_damage_at_rest_is_found_before_the_name(push: Route, monkeypatch: pytest.MonkeyPatch) -> None:
    push.put({"a.bin": random_bytes(4 * CHUNK_BYTES)})
    batch = push.batch("a.bin")
    damaged: list[bytes] = []

    def damage(path: str, arrived_bytes: int) -> None:
        if arrived_bytes == 4 * CHUNK_BYTES and not damaged:
            (partial,) = push.there.glob(".*.camnet-part")
            damaged.append(partial.read_bytes())
            partial.write_bytes(damaged[0][:-1] + bytes([damaged[0][-1] ^ 1]))

    assert push.move(batch, progress=damage)[0].state == "done"
    assert len(damaged) == 1
    assert push.digest_there("a.bin") == batch.entries[0].digest
    assert [row.outcome for row in rows_of(push)] == ["failed", "done"]


def test_what_is_no_file_is_left_alone(push: Route) -> None:
    kinds = make_odd(push.there)
    push.put(dict.fromkeys(kinds, b"new"))
    outcomes = push.move(push.batch(*kinds))
    assert [(outcome.state, outcome.kind) for outcome in outcomes] == [("failed", "permanent")] * len(kinds)
    assert {name: stat.S_IFMT((push.there / name).lstat().st_mode) for name in kinds} == kinds
    assert push.litter() == []


@needs_root
def test_a_full_disk_is_named(push: Route) -> None:
    push.put({"a.bin": random_bytes(2_000_000)})
    push.there.rmdir()
    with small_disk(push.there, 1024):
        (outcome,) = push.move(push.batch("a.bin"))
        assert [path for path in push.there.rglob("*") if path.is_file()] == []
    assert (outcome.state, outcome.kind) == ("failed", "permanent")
    assert "No space left on device" in str(outcome.error)
    assert "free some space" in str(outcome.remedy)

"""What every mover promises, asked of every mover."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from deployments.loopback_sshd import loopback_sshd
from tasks.errors import InputError, PolicyRefusal
from tests.services import globus_route
from tests.services.globus_service import GlobusService
from tests.services.sshd_route import CHUNK_BYTES, QUICK, WAYS, Route, account_of, random_bytes, route_of
from transfer.manifest import manifest_of
from transfer.model import TransferOptions
from transfer.mover import open_mover

NAMES = [
    "plain.h5",
    "with space.h5",
    "-rf",
    "--help",
    "æöü-切片.h5",
    "$(reboot)",
    "$(touch camnet-was-here)",
    "`touch camnet-was-here`",
    "-oProxyCommand=touch camnet-was-here",
    "-l root",
    "~",
    "#%h",
    "n" * 255,
    "é" * 127 + "x",
    "a'b\"c;d&e|f",
    "*.h5",
    "deep/er/x.h5",
]


@pytest.mark.parametrize(
    "sizes",
    [(0,), (1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1), (3 * CHUNK_BYTES - 1, 3 * CHUNK_BYTES, 300_001)],
)
def test_every_size_arrives_with_its_digest(route: Route, sizes: tuple[int, ...]) -> None:
    files = {f"{size}.bin": random_bytes(size, seed=size) for size in sizes}
    route.put(files)
    batch = route.batch(*files)
    outcomes = route.move(batch)
    assert [outcome.state for outcome in outcomes] == ["done"] * len(sizes)
    assert {entry.path: route.digest_there(entry.path) for entry in batch.entries} == {
        entry.path: entry.digest for entry in batch.entries
    }
    assert route.litter() == []


def test_names_are_names_and_nothing_else(route: Route) -> None:
    route.put({name: name.encode() for name in NAMES})
    outcomes = route.move(route.batch(*NAMES))
    assert {outcome.path: outcome.state for outcome in outcomes} == dict.fromkeys(NAMES, "done")
    assert {name: (route.there / name).read_bytes() for name in NAMES} == {name: name.encode() for name in NAMES}
    # Neither a name nor the root, which has a command in it too, was ever read by a shell.
    places = (Path.cwd(), Path.home(), route.here, route.there, route.here.parent, route.here.parent.parent)
    assert not any((place / "camnet-was-here").exists() for place in places)


def test_many_small_files_and_their_order(route: Route) -> None:
    count = 5 if route.protocol == "scp" and route.source.ssh else 40  # scp pulls each with a login of its own
    files = {f"part/{number:03d}.bin": random_bytes(500 + number, seed=number) for number in range(count)}
    route.put(files)
    batch = route.batch(*files)
    assert [outcome.path for outcome in route.move(batch)] == [entry.path for entry in batch.entries]
    assert {path: (route.there / path).read_bytes() for path in files} == files
    assert len(route.ledger.read()) == count


def test_a_second_call_sends_nothing(route: Route) -> None:
    route.put({"a.bin": random_bytes(200_000), "b.bin": b"b"})
    batch = route.batch("a.bin", "b.bin")
    route.move(batch)
    if route.features.reads_destination:  # a collection alone tells no digests, and is asked for sizes and times
        for path, ahead_h in ((route.here / "a.bin", -2), (route.there / "a.bin", 2), (route.there / "b.bin", -2)):
            at_s = path.stat().st_mtime + 3600 * ahead_h  # the sites' clocks differ
            os.utime(path, (at_s, at_s))
    stamps = [(route.there / name).stat().st_mtime_ns for name in ("a.bin", "b.bin")]
    assert [outcome.state for outcome in route.move(batch)] == ["already", "already"]
    assert [row.wire_bytes for row in route.ledger.read()[2:]] == [0, 0]
    assert [(route.there / name).stat().st_mtime_ns for name in ("a.bin", "b.bin")] == stamps


def test_only_what_is_missing_is_sent(route: Route) -> None:
    route.put({"a.bin": b"a" * 1000, "b.bin": b"b" * 1000})
    (route.there / "a.bin").write_bytes(b"a" * 1000)
    states = {outcome.path: outcome.state for outcome in route.move(route.batch("a.bin", "b.bin"))}
    assert states == {"a.bin": "already" if route.features.reads_destination else "done", "b.bin": "done"}


def test_another_version_under_the_final_name_is_replaced(route: Route, tmp_path: Path) -> None:
    old = {"shorter.bin": b"another version", "as long.bin": b"x" * 200_000, "linked.bin": b"y" * 200_000}
    route.put({name: random_bytes(200_000) for name in old})
    for name, content in old.items():
        (route.there / name).write_bytes(content)
    same = (route.here / "as long.bin").stat()
    os.utime(route.there / "as long.bin", ns=(same.st_atime_ns, same.st_mtime_ns))  # size and time say nothing
    (tmp_path / "outside").hardlink_to(route.there / "linked.bin")
    batch = route.batch(*old)
    assert [outcome.state for outcome in route.move(batch)] == ["done"] * 3
    assert (tmp_path / "outside").read_bytes() == old["linked.bin"]
    assert [route.digest_there(entry.path) for entry in batch.entries] == [entry.digest for entry in batch.entries]


@pytest.mark.parametrize("change", ["longer", "same size", "gone"])
def test_a_changed_source_fails_and_leaves_the_final_name_alone(route: Route, change: str) -> None:
    route.put({"a.bin": random_bytes(200_000), "b.bin": b"fine"})
    (route.there / "a.bin").write_bytes(b"what was there")
    batch = route.batch("a.bin", "b.bin")
    match change:
        case "longer":
            (route.here / "a.bin").write_bytes(random_bytes(200_001))
        case "same size":
            (route.here / "a.bin").write_bytes(random_bytes(200_000, seed=9))
        case "gone":
            (route.here / "a.bin").unlink()
    failed, fine = route.move(batch)
    assert (failed.state, failed.kind, fine.state) == ("failed", "integrity", "done")
    assert failed.remedy == "make the manifest again, then transfer again"
    assert (route.there / "a.bin").read_bytes() == b"what was there"
    assert route.litter() == []


def test_folders_below_the_roots(route: Route) -> None:
    route.put({"runs/1/a.bin": b"abc"})
    entry = route.batch("runs/1/a.bin").entries[0].model_copy(update={"path": "a.bin"})
    batch = route.batch_of([entry]).model_copy(update={"source_folder": "runs/1", "destination_folder": "in/coming"})
    assert route.move(batch)[0].state == "done"
    assert (route.there / "in/coming/a.bin").read_bytes() == b"abc"


def test_the_destination_root_is_made(route: Route) -> None:
    route.put({"a.bin": b"abc", "sub/b.bin": b"b"})
    route.there.rmdir()
    assert {outcome.state for outcome in route.move(route.batch("a.bin", "sub/b.bin"))} == {"done"}


@pytest.mark.parametrize("link", ["folder", "final file"])
def test_links_out_of_the_root_are_refused(route: Route, tmp_path: Path, link: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.bin").write_bytes(b"precious")
    route.put({"sub/a.bin": b"new", "fine.bin": b"fine"})
    if link == "folder":
        (route.there / "sub").symlink_to(outside)
    else:
        (route.there / "sub").mkdir()
        (route.there / "sub/a.bin").symlink_to(outside / "a.bin")
    fine, refused = route.move(route.batch("sub/a.bin", "fine.bin"))
    assert (fine.state, refused.state, refused.kind) == ("done", "failed", "permanent")
    assert "symbolic link" in str(refused.error)
    assert [(path.name, path.read_bytes()) for path in outside.iterdir()] == [("a.bin", b"precious")]
    assert (route.there / ("sub" if link == "folder" else "sub/a.bin")).is_symlink()


def make_odd(folder: Path) -> dict[str, int]:
    """Make what is no regular file under five names; give the kind of each."""
    (folder / "folder.bin").mkdir()
    os.mkfifo(folder / "fifo.bin")
    with socket.socket(socket.AF_UNIX) as one:
        here = os.open(folder, os.O_RDONLY)
        one.bind(f"/proc/self/fd/{here}/socket.bin")  # the whole path is too long for an address
        os.close(here)
    kinds = {"folder.bin": stat.S_IFDIR, "fifo.bin": stat.S_IFIFO, "socket.bin": stat.S_IFSOCK}
    if os.geteuid() == 0:
        os.mknod(folder / "device.bin", 0o666 | stat.S_IFCHR, os.makedev(1, 5))  # as /dev/zero
        kinds["device.bin"] = stat.S_IFCHR
    return kinds


def test_what_is_no_file_is_not_read(route: Route, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/a.bin").write_bytes(b"secret")
    names = [*make_odd(route.here), "link.bin", "sub/a.bin"]
    (tmp_path / "plain.bin").write_bytes(b"secret")
    plain = manifest_of(tmp_path, [("plain.bin", "scores", None, None)], run="run-1", site="site-a").entries[0]
    (route.here / "link.bin").symlink_to(tmp_path / "secrets/a.bin")
    (route.here / "sub").symlink_to(tmp_path / "secrets")
    outcomes = route.move(route.batch_of([plain.model_copy(update={"path": name}) for name in sorted(names)]))
    assert {(outcome.state, outcome.kind) for outcome in outcomes} == {("failed", "permanent")}
    assert [path for path in route.there.rglob("*") if path.is_file()] == []
    assert route.litter() == []


def test_what_is_no_file_is_left_alone(route: Route) -> None:
    kinds = make_odd(route.there)
    route.put(dict.fromkeys(kinds, b"new"))
    outcomes = route.move(route.batch(*kinds))
    assert [(outcome.state, outcome.kind) for outcome in outcomes] == [("failed", "permanent")] * len(kinds)
    assert all("is no regular file" in str(outcome.error) for outcome in outcomes)
    assert {name: stat.S_IFMT((route.there / name).lstat().st_mode) for name in kinds} == kinds
    assert route.litter() == []


def test_progress_ends_at_the_size_of_each_file(route: Route) -> None:
    route.put({"a.bin": random_bytes(4 * CHUNK_BYTES), "b.bin": b"b", "empty.bin": b""})
    seen: dict[str, list[int]] = {}
    route.move(route.batch("a.bin", "b.bin", "empty.bin"), progress=lambda path, n: seen.setdefault(path, []).append(n))
    assert {path: counts[-1] for path, counts in seen.items()} == {"a.bin": 4 * CHUNK_BYTES, "b.bin": 1, "empty.bin": 0}
    assert all(counts == sorted(counts) for counts in seen.values())


# gridftp cannot be slowed: tests/faults/test_gridftp.py cancels a transfer of its own.
@pytest.mark.parametrize(
    "route", [way for way in (*WAYS, *globus_route.WAYS) if not way.startswith("gridftp")], indirect=True
)
def test_cancelled_it_stops_and_the_next_call_goes_on(
    route: Route, globus: GlobusService, monkeypatch: pytest.MonkeyPatch
) -> None:
    route.put({"a.bin": random_bytes(1_500_000), "b.bin": b"b"})
    batch = route.batch("a.bin", "b.bin")
    # The rate of Globus is its service's business.
    monkeypatch.setattr(globus.plan, "block_s", 0.05)
    slow = QUICK if route.protocol == "globus" else QUICK.model_copy(update={"limit_mb_per_s": 1.0})
    mover = open_mover(route.protocol, route.source, route.destination, slow, route.ledger)

    def cancel(path: str, arrived_bytes: int) -> None:
        if arrived_bytes:
            mover.cancel()

    outcomes = mover.move(batch, cancel)
    assert [(outcome.state, outcome.kind) for outcome in outcomes] == [("failed", "retryable")] * 2
    assert all("the transfer was cancelled" in str(outcome.error) for outcome in outcomes)
    assert list(route.there.glob("*.bin")) == []
    assert [row.outcome for row in route.ledger.read()] == ["failed", "failed"]  # no attempt after that
    assert [outcome.state for outcome in route.move(batch)] == ["done", "done"]
    assert route.digest_there("a.bin") == batch.entries[0].digest
    assert route.litter() == []


# gridftp and globus refuse a limit: tests/faults/test_gridftp.py, tests/faults/test_globus_faults.py.
@pytest.mark.parametrize(
    "route", ["local", "streams push", "tls pull", "sftp pull", "scp push", "rsync pull", "fdt push"], indirect=True
)
def test_the_limit_is_kept(route: Route) -> None:
    route.put({"a.bin": random_bytes(700_000)})
    assert route.move(route.batch("a.bin"), QUICK.model_copy(update={"limit_mb_per_s": 1.0}))[0].state == "done"
    (row,) = route.ledger.read()
    assert row.wire_seconds > 0.4


def test_the_ledger_adds_up(route: Route) -> None:
    size = 5 * CHUNK_BYTES + 7
    route.put({"a.bin": random_bytes(size)})
    route.move(route.batch("a.bin"))
    (row,) = route.ledger.read()
    assert (row.run, row.source, row.destination, row.outcome) == ("run-1", "site-a", "site-b", "done")
    assert (row.file_bytes, row.wire_bytes, row.bytes_resent, row.retries) == (size, size, 0, 0)
    assert row.streams == (QUICK.streams if route.features.parallel else 1)
    assert row.megabits_per_s == pytest.approx(size * 8 / 1e6 / row.wire_seconds)
    assert 0 < row.verify_seconds < 5
    looked = "read on this machine" if route.features.reads_destination else "sha256 by Globus"
    assert str(row.verified_by).startswith("python3 at the far side" if route.destination.ssh else looked)
    if route.protocol in ("auto", "streams", "sftp"):  # the digest is made while the file arrives
        assert str(row.verified_by).endswith(", along the way")


@pytest.mark.parametrize("kind", ["patches", "thumbnail"])
def test_pixels_do_not_leave_a_resident_site(route: Route, globus: GlobusService, kind: str) -> None:
    requests = len(globus.requests)
    route.put({"a.bin": b"pixels"})
    batch = route.batch("a.bin", kind="patches" if kind == "patches" else "thumbnail")
    resident = batch.model_copy(update={"source": batch.source.model_copy(update={"policy": "resident"})})
    with pytest.raises(PolicyRefusal, match="may not leave site-a for site-b"):
        route.move(resident)
    assert list(route.there.iterdir()) == []
    assert route.ledger.read() == []
    assert len(globus.requests) == requests


@pytest.mark.parametrize("route", ["local", "push", "scp push"], indirect=True)  # before anything is carried
def test_scores_leave_a_resident_site_and_pixels_move_within_it(route: Route) -> None:
    name = "a.patches.h5"  # the manifest's kind counts, not the name
    route.put({name: b"scores"})
    scores = route.batch(name, kind="scores")
    source = scores.source.model_copy(update={"policy": "resident"})
    assert route.move(scores.model_copy(update={"source": source}))[0].state == "done"
    (route.there / name).unlink()
    same_site = scores.destination.model_copy(update={"site": source.site})
    pixels = route.batch(name, kind="patches").model_copy(update={"source": source, "destination": same_site})
    assert route.move(pixels)[0].state == "done"


def test_a_batch_between_other_ends_is_refused(route: Route) -> None:
    route.put({"a.bin": b"abc"})
    batch = route.batch("a.bin")
    resident = batch.source.model_copy(update={"policy": "resident"})
    mover = open_mover("auto", resident, batch.destination, QUICK, route.ledger)
    with pytest.raises(InputError, match="other ends"):
        mover.move(batch)


def test_an_empty_batch(route: Route) -> None:
    assert route.move(route.batch_of([])) == []


def test_unknown_protocols_and_missing_accounts_are_the_users_mistake(tmp_path: Path) -> None:
    route = route_of(tmp_path / "x", "local", None)
    with pytest.raises(InputError, match="no mover is called 'ftp'"):
        open_mover("ftp", route.source, route.destination, TransferOptions(), route.ledger)
    with pytest.raises(InputError, match="has an SSH account"):
        open_mover("sftp", route.source, route.destination, TransferOptions(), route.ledger)


def test_an_account_without_commands_is_verified_by_reading_back(tmp_path: Path) -> None:
    with loopback_sshd(tmp_path / "sshd", settings=["ForceCommand internal-sftp"]) as server:
        route = route_of(tmp_path / "sites", "sftp push", account_of(server))
        route.put({"a.bin": random_bytes(300_000), "b.bin": b"b"})
        batch = route.batch("a.bin", "b.bin")
        assert [outcome.state for outcome in route.move(batch)] == ["done", "done"]
        assert {row.verified_by for row in route.ledger.read()} == {"read back over SFTP"}
        assert [outcome.state for outcome in route.move(batch)] == ["already", "already"]

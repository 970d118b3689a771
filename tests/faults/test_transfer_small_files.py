"""Small files that are under way together over SFTP, and one of them, or their connection, fails."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from deployments.loopback_sshd import LoopbackSshd, loopback_sshd
from tests.services.chaos_proxy import chaos_proxy
from tests.services.sshd_route import CHUNK_BYTES, QUICK, account_of, random_bytes, route_of
from transfer.journal import Target
from transfer.remote_digest import RemoteDigests
from transfer.sftp_steps import SmallFileSteps

FILES = {f"{number % 3}/{number:03}.bin": random_bytes(3000 + number, seed=number) for number in range(90)}
WAYS = ["sftp push", "sftp pull", "sftp relay"]


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with loopback_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.mark.parametrize("way", WAYS)
def test_a_broken_file_does_not_spoil_the_others(
    tmp_path: Path, sshd: LoopbackSshd, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    together: list[int] = []
    ask = RemoteDigests.ask_finished

    def counted(self: RemoteDigests, names: Iterable[bytes]) -> None:
        names = list(names)
        together.append(len(names))
        ask(self, names)

    monkeypatch.setattr(RemoteDigests, "ask_finished", counted)
    route = route_of(tmp_path / "x", way, account_of(sshd))
    route.put(FILES)
    batch = route.batch(*FILES)
    changed, gone, blocked, begun, there, older = list(FILES)[:6]
    (route.here / changed).write_bytes(bytes(len(FILES[changed])))
    (route.here / gone).unlink()
    (route.there / blocked).mkdir(parents=True)
    entry = next(entry for entry in batch.entries if entry.path == begun)
    partial = route.there / Target("site-b", route.destination.root, begun, entry.bytes, entry.digest).partial
    partial.parent.mkdir(exist_ok=True)
    partial.write_bytes(b"what somebody left there")
    for path, content in ((there, FILES[there]), (older, b"another version")):
        (route.there / path).parent.mkdir(exist_ok=True)
        (route.there / path).write_bytes(content)

    outcomes = {outcome.path: outcome for outcome in route.move(batch)}

    assert (outcomes[changed].kind, outcomes[gone].kind) == ("integrity", "integrity")
    assert (outcomes[blocked].kind, outcomes[there].state) == ("permanent", "already")
    for path in set(FILES) - {changed, gone, blocked}:
        assert outcomes[path].state == ("already" if path == there else "done")
        assert (route.there / path).read_bytes() == FILES[path]
    assert (route.there / blocked).is_dir()
    assert not (route.there / changed).exists()
    assert route.litter() == []
    rows = [row for row in route.ledger.read() if row.path not in (changed, gone)]
    assert len(rows) == len(FILES) - 2
    assert sum(row.wire_bytes for row in rows) == sum(len(FILES[row.path]) for row in rows if row.outcome == "done")
    if way != "sftp pull":
        assert max(together) > 8  # not one round trip a file


@pytest.mark.parametrize("way", ["sftp push", "sftp pull"])
def test_a_connection_that_breaks_under_them_is_opened_again(tmp_path: Path, sshd: LoopbackSshd, way: str) -> None:
    with chaos_proxy(sshd.port) as proxy:
        route = route_of(tmp_path / "x", way, account_of(sshd, port=proxy.port))
        route.put(FILES)
        whole = sum(map(len, FILES.values()))
        proxy.arm("drop", after_bytes=whole // 2, direction="up" if way.endswith("push") else "down")
        outcomes = route.move(route.batch(*FILES))
        assert proxy.fired == 1
    assert [outcome.error for outcome in outcomes if outcome.state not in ("done", "already")] == []
    assert {path: (route.there / path).read_bytes() for path in FILES} == FILES
    failed = [row for row in route.ledger.read() if row.outcome == "failed"]
    assert failed
    assert "connection" in str(failed[0].error)
    assert route.litter() == []


def test_a_file_that_is_damaged_under_its_partial_name_is_sent_again(
    tmp_path: Path, sshd: LoopbackSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = route_of(tmp_path / "x", "sftp push", account_of(sshd))
    route.put(FILES)
    ask = RemoteDigests.ask_finished
    damaged: list[Path] = []

    def damage(self: RemoteDigests, names: Iterable[bytes]) -> None:
        names = list(names)
        if not damaged:
            damaged.append(Path(names[0].decode()))
            damaged[0].write_bytes(bytes(damaged[0].stat().st_size))
        ask(self, names)

    monkeypatch.setattr(RemoteDigests, "ask_finished", damage)
    assert {outcome.state for outcome in route.move(route.batch(*FILES))} == {"done"}
    assert {path: (route.there / path).read_bytes() for path in FILES} == FILES
    assert sum(row.bytes_resent > 0 for row in route.ledger.read()) == 1
    assert route.litter() == []


def test_where_python_does_not_run_they_are_moved_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "xargs", "sha256sum"):
        (programs / name).symlink_to(str(shutil.which(name)))
    setting = f'ForceCommand PATH={programs}; export PATH; eval "$SSH_ORIGINAL_COMMAND"'
    monkeypatch.setattr(SmallFileSteps, "of", lambda self, item: pytest.fail("together"))
    with loopback_sshd(tmp_path / "sshd", settings=[setting]) as server:
        route = route_of(tmp_path / "x", "sftp push", account_of(server))
        few = dict(list(FILES.items())[:3]) | {"large.bin": random_bytes(CHUNK_BYTES + 1)}
        route.put(few)
        assert {outcome.state for outcome in route.move(route.batch(*few), QUICK)} == {"done"}
    assert {row.verified_by for row in route.ledger.read()} == {"sha256sum at the far side"}

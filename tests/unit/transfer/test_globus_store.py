from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from deployments.loopback_sshd import loopback_sshd
from tasks.errors import InputError, PermanentFault
from tests.services.globus_fixtures import service
from tests.services.globus_route import globus_route
from tests.services.globus_service import GlobusService
from tests.services.sshd_route import QUICK, Route, account_of, random_bytes
from transfer.dry_run import dry_run
from transfer.globus_memory import GlobusMemory
from transfer.globus_store import GlobusStore
from transfer.mover import choose_protocol, open_mover
from transfer.open_store import open_store

__all__ = ["service"]


@pytest.fixture
def route(tmp_path: Path, service: GlobusService) -> Route:
    return globus_route(tmp_path / "sites", service, "globus only")


def test_an_end_that_has_a_collection_only_is_never_taken_for_a_folder(route: Route) -> None:
    with closing(open_store(route.destination, QUICK)) as store:
        assert isinstance(store, GlobusStore)
        assert store.stat("a.bin") is None
        with pytest.raises(InputError, match="is reached through its Globus collection alone"):
            store.write("a.bin", 0, [b"a"])
        with pytest.raises(InputError, match="use the protocol globus"):
            store.read("a.bin", 0, 1)
        assert (store.free_bytes(), store.follow("a.bin")) == (None, None)
        (route.there / "empty").mkdir()
        store.remove_folder("empty")
        assert (route.there / "empty").is_dir()
    for protocol in ("local", "sftp", "scp"):
        with pytest.raises(InputError, match="is reached through its Globus collection alone"):
            open_mover(protocol, route.source, route.destination, QUICK, route.ledger)


def test_auto_takes_globus_where_nothing_else_leads(route: Route, tmp_path: Path, service: GlobusService) -> None:
    folders = globus_route(tmp_path / "folders", service, "globus folders")
    assert choose_protocol(folders.source, folders.destination, QUICK, folders.ledger).protocol == "local"
    assert route.destination.globus is not None
    assert folders.source.globus is not None
    same = folders.source.globus.model_copy(update={"credentials": route.destination.globus.credentials})
    source = folders.source.model_copy(update={"globus": same})
    choice = choose_protocol(source, route.destination, QUICK, route.ledger)
    assert (choice.protocol, choice.why) == ("globus", "globus, because site-a and site-b both offer it")


def test_a_dry_run_looks_into_the_collection(route: Route) -> None:
    route.put({"a.bin": b"abc", "b.bin": b"b", "c.bin": b"cc"})
    (route.there / "a.bin").write_bytes(b"abc")
    (route.there / "b.bin").write_bytes(b"another")
    batch = route.batch("a.bin", "b.bin", "c.bin")
    forecast = dry_run(batch, protocol="auto", options=QUICK, ledger=route.ledger)
    assert forecast.protocol == "globus"
    assert [file.state for file in forecast.files] == ["there", "differs", "missing"]


def test_removing_is_one_task(route: Route, service: GlobusService) -> None:
    for name in ("a.bin", "b.bin"):
        (route.there / name).write_bytes(b"x")
    with closing(open_store(route.destination, QUICK)) as store:
        assert isinstance(store, GlobusStore)
        store.remove_all(["a.bin", "b.bin", "not there.bin"])
        store.remove("not there.bin")
        assert store.stat("a.bin") is None
    assert list(route.there.iterdir()) == []
    assert len(service.tasks) == 1


@pytest.mark.parametrize("link", ["folder", "file", "nowhere"])
def test_no_link_is_followed(route: Route, tmp_path: Path, link: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.bin").write_bytes(b"a")
    (route.there / "sub").symlink_to(tmp_path / {"folder": "outside", "file": "outside/a.bin", "nowhere": "x"}[link])
    with closing(open_store(route.destination, QUICK)) as store, pytest.raises(PermanentFault, match="symbolic link"):
        store.stat("sub" if link != "folder" else "sub/a.bin")


def test_a_large_folder_is_asked_file_by_file(route: Route, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transfer.globus_store._MOST_LISTED", 1)
    (route.there / "a.bin").write_bytes(b"abc")
    with closing(open_store(route.destination, QUICK)) as store:
        assert isinstance(store, GlobusStore)
        listing = store._listing("")
        assert listing is not None
        listing["other.bin"] = listing.pop("a.bin")  # as if the list had ended before it
        state = store.stat("a.bin")
        assert state is not None
        assert state.bytes == 3
        assert store.stat("b.bin") is None


def test_an_ssh_account_looks_where_there_is_one(tmp_path: Path, service: GlobusService) -> None:
    route = globus_route(tmp_path / "sites", service, "globus folders")
    with loopback_sshd(tmp_path / "sshd") as server:
        destination = route.destination.model_copy(update={"ssh": account_of(server)})
        route.put({"a.bin": random_bytes(5000), "sub/b.bin": b"b"})
        batch = route.batch("a.bin", "sub/b.bin").model_copy(update={"destination": destination})
        assert [outcome.state for outcome in route.move(batch)] == ["done", "done"]
        assert [outcome.state for outcome in route.move(batch)] == ["already", "already"]
    assert {row.verified_by for row in route.ledger.read()} == {"python3 at the far side"}
    assert len(service.transfers) == 1
    assert route.litter() == []


def test_what_is_remembered_survives_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "journals" / "x.globus-published"
    GlobusMemory(path).add("a.bin", 3, "2026-01-01 00:00:00+00:00", "sha256:aa")
    path.write_bytes(path.read_bytes() + b'\n{"path": "b.b')
    GlobusMemory(path).add("æ\n.bin", 4, "2026-01-01 00:00:00+00:00", "sha256:bb")
    path.write_bytes(path.read_bytes() + b"\n[1]\n{}\nnull")
    GlobusMemory(path).add("a.bin", 5, "2026-01-02 00:00:00+00:00", "sha256:cc")
    memory = GlobusMemory(path)
    assert memory.digest("a.bin", 3, "2026-01-01 00:00:00+00:00") is None
    assert memory.digest("a.bin", 5, "2026-01-02 00:00:00+00:00") == "sha256:cc"
    assert memory.digest("a.bin", 5, "2026-01-03 00:00:00+00:00") is None
    assert memory.digest("æ\n.bin", 4, "2026-01-01 00:00:00+00:00") == "sha256:bb"
    assert memory.digest("b.bin", 4, "2026-01-01 00:00:00+00:00") is None

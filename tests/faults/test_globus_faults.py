"""What goes wrong with Globus tasks and requests, and what becomes of the files."""

from __future__ import annotations

import errno
import logging
import os
import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.errors import InputError
from tests.services.globus_fixtures import route, service
from tests.services.globus_route import WAYS, globus_route
from tests.services.globus_service import GlobusService, HttpFault
from tests.services.sshd_route import QUICK, Route, random_bytes
from transfer.globus_record import GlobusRecord
from transfer.model import Batch, Outcome
from transfer.mover import open_mover

__all__ = ["route", "service"]
IMPATIENT = QUICK.model_copy(update={"stall_s": 0.5})


def filled(route: Route, files: int = 3) -> Batch:
    contents = {f"part/{number:03d}.bin": random_bytes(1000 + number, seed=number) for number in range(files)}
    route.put(contents)
    return route.batch(*contents)


def states(outcomes: list[Outcome]) -> set[str]:
    return {outcome.state for outcome in outcomes}


def assert_whole(route: Route, batch: Batch, *, but: int | None = None) -> None:
    entries = [entry for k, entry in enumerate(batch.entries) if k != but]
    assert all(route.digest_there(entry.path) == entry.digest for entry in entries)
    assert route.litter() == []


REQUESTS = [
    "GET /v0.10/submission_id",
    "POST /v0.10/transfer",
    "GET /v0.10/task/[^/]+$",
    "/skipped_errors",
    "POST /v2/oauth2/token",
    "/mkdir",
]


@pytest.mark.parametrize("kind", ["reset", "reset after", (503, "ServiceUnavailable"), (429, "RateLimitExceeded")])
def test_requests_that_fail_for_a_moment_are_repeated(
    route: Route, service: GlobusService, kind: str | tuple[int, str]
) -> None:
    service.faults = [HttpFault(request, kind, times=2) for request in [*REQUESTS, "/ls", "/rename"]]
    batch = filled(route)
    assert states(route.move(batch)) == {"done"}
    assert len(service.transfers) == 1
    assert_whole(route, batch)


def test_an_answer_that_was_lost_makes_no_second_task(route: Route, service: GlobusService) -> None:
    service.faults = [HttpFault("POST /v0.10/transfer", "reset after", times=1)]
    batch = filled(route)
    assert states(route.move(batch)) == {"done"}
    assert service.requests.count("POST /v0.10/transfer") == 2
    assert len(service.transfers) == 1


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_service_that_stays_away_fails_for_now_and_the_next_call_goes_on(
    route: Route, service: GlobusService, request_: str
) -> None:
    service.faults = [HttpFault(request_, (503, "ServiceUnavailable"), times=10_000)]
    batch = filled(route)
    options = QUICK.model_copy(update={"attempts": 2})
    outcomes = route.move(batch, options)
    assert {(one.state, one.kind) for one in outcomes} == {("failed", "retryable")}
    assert "Globus cannot do it for now (ServiceUnavailable: as planned)" in str(outcomes[0].error)
    assert len(route.ledger.read()) == 6
    service.faults.clear()
    assert states(route.move(batch)) == {"done"}
    assert len(service.transfers) == 1
    assert_whole(route, batch)


@pytest.mark.parametrize("request_", [*REQUESTS, "/ls"])
def test_a_web_page_instead_of_an_answer_is_for_now(route: Route, service: GlobusService, request_: str) -> None:
    service.faults = [HttpFault(request_, "page", times=10_000)]
    batch = filled(route)
    outcomes = route.move(batch, QUICK.model_copy(update={"attempts": 1}))
    if request_ != "/mkdir":  # what it says of a folder that was made is not looked at
        assert {(one.state, one.kind) for one in outcomes} == {("failed", "retryable")}
        assert "is no answer of Globus" in str(outcomes[0].error)
    service.faults.clear()
    assert states(route.move(batch)) <= {"done", "already"}
    assert len(service.transfers) == 1
    assert_whole(route, batch)


def test_a_service_that_is_away_while_files_are_renamed(tmp_path: Path, service: GlobusService) -> None:
    route = globus_route(tmp_path / "sites", service, "globus only")
    service.faults = [HttpFault("/rename", (503, "ServiceUnavailable"), times=10_000)]
    batch = filled(route)
    assert states(route.move(batch)) == {"failed"}
    service.faults.clear()
    assert states(route.move(batch)) == {"done"}
    assert len(service.transfers) == 1
    assert_whole(route, batch)


def test_nobody_listens(route: Route, service: GlobusService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_AUTH", "http://127.0.0.1:9/")
    (outcome,) = route.move(filled(route, 1), QUICK.model_copy(update={"attempts": 1}))
    assert (outcome.state, outcome.kind) == ("failed", "retryable")
    assert "Globus does not answer (ConnectionError)" in str(outcome.error)


def test_a_bit_that_flips_on_the_way_is_sent_again_and_told(
    route: Route, service: GlobusService, caplog: pytest.LogCaptureFixture
) -> None:
    service.plan.flips["001.bin"] = 2
    batch = filled(route)
    caplog.set_level(logging.WARNING, "transfer")
    assert states(route.move(batch)) == {"done"}
    assert_whole(route, batch)
    assert caplog.text.count("CHECKSUM_ERROR") >= 1


def test_bits_that_flip_each_time_leave_what_was_there(tmp_path: Path, service: GlobusService) -> None:
    route = globus_route(tmp_path / "sites", service, "globus only")
    service.plan.flips["000.bin"] = 1_000_000
    service.plan.block_s = 0.05
    batch = filled(route, 1)
    (route.there / "part").mkdir()
    (route.there / "part/000.bin").write_bytes(b"what was there")
    (outcome,) = route.move(batch)
    assert (outcome.state, outcome.kind) == ("failed", "integrity")
    told = re.search(r"was damaged on its way, (\d+) times", str(outcome.error))
    # The service may have tried once more before we looked.
    assert told is not None
    assert int(told[1]) >= 4
    assert (route.there / "part/000.bin").read_bytes() == b"what was there"
    assert all(task.status != "ACTIVE" for task in service.transfers)
    assert route.litter() == []


def test_one_changed_file_among_many_fails_alone(route: Route, service: GlobusService) -> None:
    batch = filled(route, 230)
    changed = batch.entries[220]
    (route.here / changed.path).write_bytes(random_bytes(changed.bytes, seed=999))
    outcomes = route.move(batch)
    failed = [outcome for outcome in outcomes if outcome.state != "done"]
    assert [(one.path, one.kind) for one in failed] == [(changed.path, "integrity")]
    assert len(service.transfers) <= 9  # the 220 files before it came through; the other 10 are halved
    assert_whole(route, batch, but=220)
    row = next(row for row in reversed(route.ledger.read()) if row.path == changed.path)
    assert "EXTERNAL_CHECKSUM_ERROR" in str(row.error)


def test_several_changed_files_fail_alone(route: Route, service: GlobusService) -> None:
    batch = filled(route, 60)
    changed = [batch.entries[k] for k in (0, 1, 30, 59)]
    for entry in changed:
        (route.here / entry.path).write_bytes(random_bytes(entry.bytes, seed=999))
    failed = [outcome for outcome in route.move(batch) if outcome.state != "done"]
    assert [(one.path, one.kind) for one in failed] == [(entry.path, "integrity") for entry in changed]
    assert route.litter() == []


def test_a_file_that_the_service_stumbles_over_does_not_take_the_others_with_it(
    route: Route, service: GlobusService
) -> None:
    service.plan.poison = {"007.bin"}
    batch = filled(route, 20)
    outcomes = route.move(batch, QUICK.model_copy(update={"attempts": 2}))
    failed = [(one.path, one.kind, one.error) for one in outcomes if one.state != "done"]
    assert [(path, kind) for path, kind, _ in failed] == [("part/007.bin", "retryable")]
    assert "UNEXPECTED: An unexpected error" in str(failed[0][2])
    assert_whole(route, batch, but=7)


def test_where_nothing_comes_through_no_file_is_looked_for(route: Route, service: GlobusService) -> None:
    service.plan.full = True
    batch = filled(route, 64)
    outcomes = route.move(batch)
    assert {(one.state, one.kind) for one in outcomes} == {("failed", "permanent")}
    assert {one.remedy for one in outcomes} == {
        "ask for more quota or remove files there, then run the same command again; finished files are kept"
    }
    assert len(service.transfers) == 6
    assert route.litter() == []
    service.plan.full = False
    assert states(route.move(batch)) == {"done"}


def test_a_digest_that_the_service_tells_is_compared_too(route: Route, service: GlobusService) -> None:
    service.plan.careless = True
    batch = filled(route)
    changed = batch.entries[1]
    (route.here / changed.path).write_bytes(random_bytes(changed.bytes, seed=999))
    outcomes = route.move(batch)
    assert [(one.state, one.kind) for one in outcomes] == [("done", None), ("failed", "integrity"), ("done", None)]
    assert_whole(route, batch, but=1)


def test_a_folder_that_may_not_be_listed_is_asked_for_once(tmp_path: Path, service: GlobusService) -> None:
    route = globus_route(tmp_path / "sites", service, "globus only")
    batch = filled(route, 20)
    service.faults = [HttpFault("/ls", (403, "EndpointPermissionDenied"), times=10_000)]
    outcomes = route.move(batch)
    assert {(one.state, one.kind) for one in outcomes} == {("failed", "permanent")}
    assert sum(request.endswith("/ls") for request in service.requests) == 1
    assert "access to that folder" in str(outcomes[0].remedy)


def test_an_id_that_cannot_be_noted_ends_the_task(
    route: Route, service: GlobusService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: GlobusRecord, task_id: str) -> None:
        self.task_id = task_id
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    service.plan.gate.clear()
    batch = filled(route, 1)
    with monkeypatch.context() as patch:
        patch.setattr(GlobusRecord, "submitted", full)
        (outcome,) = route.move(batch)
    assert (outcome.state, outcome.kind) == ("failed", "permanent")
    (task,) = service.transfers
    task.thread.join(30)
    assert task.status == "FAILED"
    service.plan.gate.set()
    assert states(route.move(batch)) == {"done"}


def test_a_file_that_the_source_does_not_give_fails_alone(route: Route, service: GlobusService) -> None:
    service.plan.unreadable = {"001.bin"}
    batch = filled(route)
    outcomes = route.move(batch)
    assert [one.state for one in outcomes] == ["done", "failed", "done"]
    assert outcomes[1].kind == "permanent"
    assert "PERMISSION_DENIED" in str(outcomes[1].error)
    assert len(service.transfers) == 1
    assert_whole(route, batch, but=1)


def test_a_lost_permission_is_not_tried_until_the_deadline(route: Route, service: GlobusService) -> None:
    service.plan.denied = {"001.bin"}
    batch = filled(route)
    outcomes = route.move(batch, IMPATIENT)
    assert [(one.state, one.kind) for one in outcomes] == [("done", None), ("failed", "permanent"), ("done", None)]
    assert "Permission denied" in str(outcomes[1].error)
    assert "write access at the destination" in str(outcomes[1].remedy)
    assert all(task.status != "ACTIVE" for task in service.transfers)
    assert_whole(route, batch, but=1)


def test_a_permission_that_comes_back_in_time_is_enough(route: Route, service: GlobusService) -> None:
    service.plan.denied = {"001.bin"}
    batch = filled(route)
    helper = threading.Timer(0.5, service.plan.denied.clear)
    helper.start()
    assert states(route.move(batch)) == {"done"}
    helper.join()
    assert len(service.transfers) == 1


def test_a_full_disk_fails_for_good_and_says_what_helps(route: Route, service: GlobusService) -> None:
    batch = filled(route, 1)
    service.plan.fatal = {"code": "QUOTA_EXCEEDED", "description": "Disk quota exceeded"}
    (outcome,) = route.move(batch)
    assert (outcome.state, outcome.kind) == ("failed", "permanent")
    assert "ask for more quota" in str(outcome.remedy)
    assert route.litter() == []
    assert states(route.move(batch)) == {"done"}


def test_a_task_that_fails_for_another_reason_is_begun_again(route: Route, service: GlobusService) -> None:
    batch = filled(route)
    service.plan.fatal = {"code": "TOO_MANY_FAULTS", "description": "The endpoint went away"}
    assert states(route.move(batch)) == {"done"}
    assert len(service.transfers) == 2
    rows = route.ledger.read()
    assert ["TOO_MANY_FAULTS: The endpoint went away" in str(row.error) for row in rows] == [True] * 3 + [False] * 3
    assert [row.bytes_resent for row in rows] == [0] * 3 + [entry.bytes for entry in batch.entries]
    assert_whole(route, batch)


def test_a_task_whose_login_expired_stands_still_and_goes_on_later(route: Route, service: GlobusService) -> None:
    batch = filled(route)
    service.plan.inactive = True
    with pytest.raises(InputError, match="stands still: its login has expired") as caught:
        route.move(batch)
    assert "camnet globus login" in str(caught.value.remedy)
    service.plan.inactive = False
    assert states(route.move(batch)) == {"done"}
    assert len(service.transfers) == 1
    assert_whole(route, batch)


def test_cancelled_here_it_is_cancelled_there(route: Route, service: GlobusService) -> None:
    service.plan.gate.clear()
    batch = filled(route)
    mover = open_mover("globus", route.source, route.destination, QUICK, route.ledger)
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.extend(mover.move(batch)))
    thread.start()
    while not service.transfers and thread.is_alive():
        thread.join(0.01)
    mover.cancel()
    thread.join(30)
    (task,) = service.transfers
    task.thread.join(30)
    assert task.status == "FAILED"
    assert {(one.state, one.kind) for one in outcomes} == {("failed", "retryable")}
    assert "was cancelled" in str(outcomes[0].error)
    service.plan.gate.set()
    assert states(mover.move(batch)) == {"done"}
    assert_whole(route, batch)


def test_ctrl_c_cancels_the_task_too(route: Route, service: GlobusService) -> None:
    service.plan.gate.clear()
    batch = filled(route)

    def interrupt(path: str, arrived_bytes: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        route.move(batch, progress=interrupt)
    (task,) = service.transfers
    task.thread.join(30)
    assert task.status == "FAILED"
    assert {row.error for row in route.ledger.read()} == {"interrupted"}
    service.plan.gate.set()
    assert states(route.move(batch)) == {"done"}
    assert_whole(route, batch)


def test_a_paused_task_is_waited_for_and_told(
    route: Route, service: GlobusService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "transfer")
    service.plan.paused = True
    batch = filled(route)
    helper = threading.Timer(1.0, lambda: setattr(service.plan, "paused", False))
    helper.start()
    assert states(route.move(batch, IMPATIENT)) == {"done"}
    helper.join()
    assert len(service.transfers) == 1
    assert caplog.text.count("is PAUSED_BY_ADMIN") == 1


def test_faults_that_cannot_be_asked_for_do_no_harm(route: Route, service: GlobusService) -> None:
    service.plan.flips["001.bin"] = 1
    service.faults = [HttpFault("/event_list", (400, "ClientError.BadRequest"), times=10_000)]
    batch = filled(route)
    assert states(route.move(batch)) == {"done"}


def test_what_had_arrived_when_it_was_cancelled_is_not_sent_again(route: Route, service: GlobusService) -> None:
    batch = filled(route)
    service.plan.denied = {"002.bin"}
    mover = open_mover("globus", route.source, route.destination, QUICK, route.ledger)
    thread = threading.Thread(target=mover.move, args=(batch,))
    thread.start()
    while thread.is_alive() and (not service.transfers or len(service.transfers[0].sent) < 2):
        thread.join(0.01)
    mover.cancel()
    thread.join(30)
    service.plan.denied.clear()
    assert states(mover.move(batch)) == {"done"}
    assert [len(task.document["DATA"]) for task in service.transfers] == [3, 1]
    assert_whole(route, batch)


def test_the_task_is_what_we_promise(route: Route, service: GlobusService) -> None:
    batch = filled(route)
    route.move(batch.model_copy(update={"run": "run " + 200 * "x"}))
    document = service.transfers[0].document
    assert {name: document[name] for name in ("verify_checksum", "encrypt_data", "sync_level")} == {
        "verify_checksum": True,
        "encrypt_data": True,
        "sync_level": 3,
    }
    assert [name for name in document if name.startswith("notify") and document[name]] == []
    assert route.destination.globus is not None
    left = datetime.fromisoformat(document["deadline"]) - datetime.now(UTC)
    assert abs(left - timedelta(hours=route.destination.globus.deadline_h)) < timedelta(minutes=1)
    assert document["label"].startswith("CamNet run xxx")
    assert len(document["label"]) == 128
    item, entry = document["DATA"][0], batch.entries[0]
    assert (item["checksum_algorithm"], item["external_checksum"]) == ("SHA256", entry.digest.split(":")[1])
    assert item["source_path"] == f"/here/{entry.path}"
    assert item["destination_path"].startswith("/there/part/.")
    assert item["destination_path"].endswith(".camnet-part")


@pytest.mark.parametrize("way", WAYS)
def test_a_collection_that_does_not_exist_is_the_users_mistake(
    tmp_path: Path, service: GlobusService, way: str
) -> None:
    route = globus_route(tmp_path / "sites", service, way)
    assert route.destination.globus is not None
    del service.collections[str(route.destination.globus.collection)]
    with pytest.raises(InputError, match="there is no such collection"):
        route.move(filled(route))


def test_two_logins_or_none_or_a_limit_are_the_users_mistake(route: Route, tmp_path: Path) -> None:
    assert route.source.globus is not None
    other = route.source.globus.model_copy(update={"credentials": tmp_path / "other.json"})
    source = route.source.model_copy(update={"globus": other})
    for protocol in ["globus"] + ["auto"] * route.source.globus.only:
        with pytest.raises(InputError, match="name different Globus logins"):
            open_mover(protocol, source, route.destination, QUICK, route.ledger)
    with pytest.raises(InputError, match="site-a has no Globus collection"):
        open_mover("globus", route.source.model_copy(update={"globus": None}), route.destination, QUICK, route.ledger)
    limited = QUICK.model_copy(update={"limit_mb_per_s": 1.0})
    with pytest.raises(InputError, match="cannot be limited"):
        open_mover("globus", route.source, route.destination, limited, route.ledger)


def test_a_root_that_is_another_folder_for_globus_is_found_out(tmp_path: Path, service: GlobusService) -> None:
    route = globus_route(tmp_path / "sites", service, "globus folders")
    elsewhere = tmp_path / "sites" / "elsewhere"
    elsewhere.mkdir()
    assert route.destination.globus is not None
    wrong = route.destination.globus.model_copy(update={"root": "/elsewhere"})
    destination = route.destination.model_copy(update={"globus": wrong})
    batch = filled(route, 1).model_copy(update={"destination": destination})
    (outcome,) = route.move(batch)
    assert (outcome.state, outcome.kind) == ("failed", "permanent")
    assert "was brought by Globus, but is not seen there" in str(outcome.error)
    assert "[globus] table" in str(outcome.remedy)


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_published_file_that_was_changed_is_sent_again(tmp_path: Path, service: GlobusService, change: str) -> None:
    route = globus_route(tmp_path / "sites", service, "globus only")
    batch = filled(route, 2)
    route.move(batch)
    path = route.there / batch.entries[0].path
    if change == "size":
        path.write_bytes(b"short")
    else:
        path.write_bytes(random_bytes(batch.entries[0].bytes, seed=77))
        os.utime(path, (0, 1_000_000_000))
    assert [outcome.state for outcome in route.move(batch)] == ["done", "already"]
    assert_whole(route, batch)

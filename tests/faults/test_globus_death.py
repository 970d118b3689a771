"""A Globus transfer whose process dies: the task goes on, and there is never a second one."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.services.globus_route import WAYS, globus_route
from tests.services.globus_service import GlobusService, globus_service
from tests.services.sshd_route import QUICK, Route, random_bytes
from transfer.globus_record import GlobusRecord
from transfer.model import Batch
from transfer.mover import open_mover

REPOSITORY = Path(__file__).resolve().parent.parent.parent

MOVE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from transfer.globus_record import GlobusRecord
from transfer.globus_task import GlobusTask
from transfer.ledger import Ledger
from transfer.model import Batch, TransferOptions
from transfer.mover import open_mover

batch = Batch.model_validate_json(Path(sys.argv[1]).read_bytes())
options = TransferOptions.model_validate_json(sys.argv[2])
moment = sys.argv[4]

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

if moment == "before the submission":
    GlobusTask.submit = die
elif moment == "before the answer is noted":
    GlobusRecord.submitted = die
elif moment == "before the first look":
    GlobusTask.follow = die
elif moment == "before publishing":
    GlobusTask._end = die
elif moment == "before the record is removed":
    GlobusRecord.discard = die
open_mover("globus", batch.source, batch.destination, options, Ledger(Path(sys.argv[3]))).move(batch)
"""
MOMENTS = [
    "before the submission",
    "before the answer is noted",
    "before the first look",
    "before publishing",
    "before the record is removed",
]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[GlobusService]:
    with globus_service() as service:
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        yield service


@pytest.fixture(params=WAYS)
def route(request: pytest.FixtureRequest, tmp_path: Path, service: GlobusService) -> Route:
    route = globus_route(tmp_path / "sites", service, request.param)
    route.put({"a.bin": random_bytes(300_000), "sub/b.bin": b"b"})
    return route


def move_and_die(route: Route, batch: Batch, moment: str) -> None:
    file = route.ledger.path.parent / "batch.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(batch.model_dump_json())
    arguments = [str(file), QUICK.model_dump_json(), str(route.ledger.path), moment]
    ended = subprocess.run([sys.executable, "-c", MOVE_AND_DIE, *arguments], cwd=REPOSITORY, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL


def is_whole(route: Route, batch: Batch) -> bool:
    return all(route.digest_there(entry.path) == entry.digest for entry in batch.entries) and route.litter() == []


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_there_is_one_task(route: Route, service: GlobusService, moment: str) -> None:
    batch = route.batch("a.bin", "sub/b.bin")
    move_and_die(route, batch, moment)
    assert (len(service.transfers) == 0) == (moment == "before the submission")
    published = moment == "before the record is removed"
    assert (route.there / "a.bin").exists() == published
    outcomes = route.move(batch)
    assert [outcome.state for outcome in outcomes] == ["already" if published else "done"] * 2
    assert len(service.transfers) == 1
    assert is_whole(route, batch)


def test_what_was_submitted_before_is_submitted_again_word_for_word(route: Route, service: GlobusService) -> None:
    batch = route.batch("a.bin", "sub/b.bin")
    move_and_die(route, batch, "before the answer is noted")
    submissions = service.requests.count("POST /v0.10/transfer")
    asked = service.requests.count("GET /v0.10/submission_id")
    route.move(batch)
    assert service.requests.count("POST /v0.10/transfer") == submissions + 1
    assert service.requests.count("GET /v0.10/submission_id") == asked


def test_the_task_goes_on_while_nobody_looks(route: Route, service: GlobusService) -> None:
    service.plan.gate.clear()
    batch = route.batch("a.bin", "sub/b.bin")
    move_and_die(route, batch, "before the first look")
    (task,) = service.transfers
    task.thread.join(1.2)
    assert task.status == "ACTIVE"
    service.plan.gate.set()
    task.thread.join()
    assert task.status == "SUCCEEDED"
    assert [outcome.state for outcome in route.move(batch)] == ["done", "done"]
    assert service.transfers == [task]
    assert is_whole(route, batch)
    (row, _) = route.ledger.read()  # the killed attempt had no time to write its own
    assert (row.bytes_resent, row.wire_bytes) == (0, 300_000)
    assert row.wire_seconds > 0.9  # by the service's clock, not the moment that this call waited


def test_a_clock_of_the_service_that_was_set_back_gives_no_rate(route: Route, service: GlobusService) -> None:
    batch = route.batch("a.bin", "sub/b.bin")
    move_and_die(route, batch, "before the first look")
    (task,) = service.transfers
    task.thread.join()
    task._began += timedelta(hours=2)
    assert [outcome.state for outcome in route.move(batch)] == ["done", "done"]
    assert {(row.wire_seconds, row.megabits_per_s, row.flag) for row in route.ledger.read()} == {(0.0, None, "no time")}


def test_killed_again_and_again_the_final_name_is_never_wrong(tmp_path: Path, service: GlobusService) -> None:
    route = globus_route(tmp_path / "sites", service, "globus only")
    route.put({"a.bin": random_bytes(300_000), "sub/b.bin": b"b"})
    batch = route.batch("a.bin", "sub/b.bin")
    for moment in MOMENTS:
        move_and_die(route, batch, moment)
        for entry in batch.entries:
            if (route.there / entry.path).exists():
                assert route.digest_there(entry.path) == entry.digest
    assert {outcome.state for outcome in route.move(batch)} <= {"done", "already"}
    assert len(service.transfers) == 1
    assert is_whole(route, batch)


def test_a_larger_batch_goes_on_with_the_task_of_a_smaller_one(route: Route, service: GlobusService) -> None:
    move_and_die(route, route.batch("a.bin"), "before the first look")
    route.put({"c.bin": b"c"})
    batch = route.batch("a.bin", "sub/b.bin", "c.bin")
    assert [outcome.state for outcome in route.move(batch)] == ["done"] * 3
    first, second = service.transfers
    assert [len(task.document["DATA"]) for task in (first, second)] == [1, 2]
    assert is_whole(route, batch)


def test_a_task_of_an_older_version_is_cancelled(route: Route, service: GlobusService) -> None:
    service.plan.gate.clear()
    move_and_die(route, route.batch("a.bin"), "before the first look")
    route.put({"a.bin": random_bytes(300_000, seed=2)})
    batch = route.batch("a.bin")
    opener = threading.Timer(0.5, service.plan.gate.set)
    opener.start()
    assert [outcome.state for outcome in route.move(batch)] == ["done"]
    opener.join()
    old, new = service.transfers
    assert (old.status, new.status) == ("FAILED", "SUCCEEDED")
    assert is_whole(route, batch)


@pytest.mark.parametrize("damage", ["torn", "empty", "nonsense"])
def test_a_damaged_record_was_never_submitted(route: Route, service: GlobusService, damage: str) -> None:
    batch = route.batch("a.bin", "sub/b.bin")
    move_and_die(route, batch, "before the submission")
    (record,) = (route.ledger.path.parent / "journals").glob("*.globus-task")
    content = record.read_bytes()
    record.write_bytes({"torn": content[: len(content) // 2], "empty": b"", "nonsense": b"[1]\n{}\n"}[damage])
    assert [outcome.state for outcome in route.move(batch)] == ["done", "done"]
    assert len(service.transfers) == 1
    assert is_whole(route, batch)


def test_a_task_that_a_living_process_follows_is_left_alone(route: Route, service: GlobusService) -> None:
    service.plan.gate.clear()
    batch = route.batch("a.bin", "sub/b.bin")
    first = open_mover("globus", route.source, route.destination, QUICK, route.ledger)
    outcomes: list[str] = []
    thread = threading.Thread(target=lambda: outcomes.extend(one.state for one in first.move(batch)))
    thread.start()
    while not service.transfers and thread.is_alive():
        thread.join(0.01)
    second = route.move(batch)
    assert [(one.state, one.kind) for one in second] == [("failed", "retryable")] * 2
    assert "another process is moving this file" in str(second[0].error)
    service.plan.gate.set()
    thread.join()
    assert outcomes == ["done", "done"]
    assert len(service.transfers) == 1
    assert is_whole(route, batch)


def test_a_task_that_the_service_forgot_is_begun_again(route: Route, service: GlobusService) -> None:
    batch = route.batch("a.bin", "sub/b.bin")
    move_and_die(route, batch, "before the first look")
    service.transfers[0].thread.join()
    service.tasks.clear()
    assert [outcome.state for outcome in route.move(batch)] == ["done", "done"]
    assert is_whole(route, batch)


def test_a_record_is_locked_and_private(route: Route, service: GlobusService) -> None:
    move_and_die(route, route.batch("a.bin"), "before the submission")
    (path,) = (route.ledger.path.parent / "journals").glob("*.globus-task")
    assert path.stat().st_mode & 0o777 == 0o600
    record = GlobusRecord.take(path)
    assert record is not None
    assert GlobusRecord.take(path) is None
    record.close()
    assert path.exists()

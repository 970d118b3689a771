"""One rank, in this process, that looks for shards."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tasks.errors import IntegrityError, RetryableFault
from tasks.train_config import TrainConfig
from tasks.training import arriving
from tasks.training.arriving import ArrivingShards
from tasks.training.checkpoint import newest_checkpoint, read_arrays
from tasks.training.expected import expected_shard
from tasks.training.job import ShardOfJob, TrainingJob
from tasks.training.log import TrainingLog, read_log
from tasks.training.loop import train_epochs
from tasks.training.models import build
from tasks.training.roll_call import RollCall
from tasks.training.stop import Stop
from tests.services.one_rank import begin_one_rank
from tests.services.texture_shards import SIDE_PX, texture_cohort


@pytest.fixture(autouse=True)
def one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arriving, "_POLL_S", 0.01)
    begin_one_rank(monkeypatch)


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    """Four patients to train on and two to validate with, whose shards are all elsewhere."""
    made = texture_cohort(tmp_path / "made", rows=8)
    expected = [
        expected_shard(tmp_path / "made", one.path.name, size_bytes=one.path.stat().st_size, digest=one.digest)
        for one in made
    ]
    (tmp_path / "site").mkdir()
    arrival = {"follow": True, "start_share": 0.5, "complete_epochs": 1, "patience_s": 0.05}
    return TrainingJob(
        config=TrainConfig.model_validate({"epochs": 4, "arrival": arrival}),
        shards=tuple(ShardOfJob(path=tmp_path / "site" / one.path, digest=one.digest) for one in expected),
        expected=tuple(expected),
        work=tmp_path / "work",
        ranks=1,
        seed=0,
        key="k",
    )


def put(job: TrainingJob, *numbers: int) -> None:
    for number in numbers:
        path = job.shards[number].path
        shutil.copyfile(path.parents[1] / "made" / path.name, path)


def damage(job: TrainingJob, number: int) -> None:
    path = job.shards[number].path
    content = bytearray((path.parents[1] / "made" / path.name).read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[TrainingLog]:
    with TrainingLog(tmp_path / "log.jsonl") as log:
        yield log


def looking(job: TrainingJob, log: TrainingLog) -> ArrivingShards:
    return ArrivingShards(job, log, Stop(job.stop_file, job.errors_folder, None, RollCall(job.roll_folder)))


def test_what_has_arrived_is_used_from_the_epoch_on_that_begins_then(job: TrainingJob, log: TrainingLog) -> None:
    shards = looking(job, log)
    put(job, 1, 2, 4)
    assert shards.take_up(1)
    assert shards.first_epoch.tolist() == [0, 1, 1, 0, 1, 0]
    before = shards.cohort
    put(job, 0)
    # An epoch that has begun gets no more.
    assert shards.take_up(1)
    assert shards.cohort is before
    assert shards.take_up(2)
    assert shards.first_epoch.tolist() == [2, 1, 1, 0, 1, 0]
    assert [facts.path.name[:11] for facts in shards.cohort.shards] == [
        "patient_001",
        "patient_002",
        "patient_010",
        "patient_000",
    ]
    assert (shards.is_complete, shards.settled_after) == (False, None)
    assert shards.row() == {
        "shards": 4,
        "shards_expected": 6,
        "rows": 24,
        "validation_rows": 4,
        "validation_complete": False,
    }
    put(job, 3, 5)
    assert shards.take_up(4)
    assert (shards.is_complete, shards.settled_after) == (True, 3)
    assert shards.row()["validation_complete"] is True


def test_files_that_still_grow_or_are_damaged_do_not_count_and_are_named_in_the_end(
    job: TrainingJob, log: TrainingLog, tmp_path: Path
) -> None:
    shards = looking(job, log)
    put(job, 0, 4)
    damage(job, 1)
    job.shards[2].path.write_bytes(b"half")
    with pytest.raises(RetryableFault) as raised:
        shards.take_up(1)
    assert raised.value.cause.startswith("no shard came for 0 s, and 8 of the 16 training patches are there: ")
    named = raised.value.cause.split(": ")[1]
    assert named.split(", ") == [
        "patient_001.train.patches.h5 (damaged)",
        "patient_002.train.patches.h5 (missing)",
        "patient_003.train.patches.h5 (missing)",
        "patient_011.validation.patches.h5 (missing)",
    ]
    refused = [row for row in read_log(tmp_path / "log.jsonl") if row["event"] == "shard-refused"]
    assert [row["shard"] for row in refused] == ["patient_001.train.patches.h5"]
    # Nothing of what came is taken before the epoch can begin.
    assert shards.first_epoch.sum() == 0
    put(job, 1)
    assert shards.take_up(1)
    assert shards.first_epoch.tolist() == [1, 1, 0, 0, 1, 0]


def test_a_site_that_names_no_patients_names_none_in_the_log(
    job: TrainingJob, log: TrainingLog, tmp_path: Path
) -> None:
    shards = looking(job.model_copy(update={"unnamed": True}), log)
    damage(job, 1)
    with pytest.raises(RetryableFault):
        shards.take_up(1)
    assert "shard-00002" in (tmp_path / "log.jsonl").read_text()
    assert "patient_0" not in (tmp_path / "log.jsonl").read_text()


def test_a_shard_that_is_not_what_the_list_says_is_refused(job: TrainingJob, log: TrainingLog) -> None:
    put(job, 0, 1, 4)
    other = job.expected[0].model_copy(update={"patient": "patient_777"})
    shards = looking(job.model_copy(update={"expected": (other, *job.expected[1:])}), log)
    with pytest.raises(IntegrityError, match=r"patient_000\.train.*another patient"):
        shards.take_up(1)


def test_a_training_that_goes_on_has_what_its_checkpoint_says(job: TrainingJob, log: TrainingLog) -> None:
    put(job, 0, 1, 2, 3, 4)
    for step, expected in ((7, [2, 1, 0, 0, 1, 0]), (0, [2, 1, 2, 2, 1, 0])):
        shards = looking(job, log)
        shards.restore(np.array([2, 1, 0, 0, 1, 0]), 2, step)
        assert [facts.path.name[:11] for facts in shards.cohort.shards] == ["patient_001", "patient_010", "patient_000"]
        assert shards.take_up(2)
        assert shards.first_epoch.tolist() == expected


def test_a_training_whose_last_shards_do_not_come_goes_on_when_they_do(
    job: TrainingJob, log: TrainingLog, tmp_path: Path
) -> None:
    config = TrainConfig.model_validate(
        job.config.model_dump() | {"architecture": "CamNetSmall", "epochs": 2, "augment": False, "batch_size": 8}
    )
    job = job.model_copy(update={"config": config, "checkpoints": tmp_path / "checkpoints"})
    put(job, 0, 1, 2, 4)
    shards = looking(job, log)
    assert shards.take_up(1)
    model = build("CamNetSmall", SIDE_PX, seed=0)
    stop = Stop(job.stop_file, job.errors_folder, None, RollCall(job.roll_folder))
    with pytest.raises(RetryableFault, match=r"the last epochs need all shards: patient_003.*, patient_011"):
        train_epochs(model, shards.cohort, job, log, stop, arriving=shards)
    found, _ = newest_checkpoint(tmp_path / "checkpoints", job.identity)
    assert found is not None
    assert (found.epoch, found.step, found.best_epoch) == (2, 0, 1)

    put(job, 3, 5)
    resumed = read_arrays(tmp_path / "checkpoints", found)
    shards = looking(job, log)
    shards.restore(resumed.arrivals[0], found.epoch, found.step)
    job = job.model_copy(update={"resume": found})
    trained = train_epochs(model, shards.cohort, job, log, stop, resumed, shards)
    assert trained.first_epoch == (1, 1, 1, 2, 1, 2)
    # The first epoch was validated on one patient of two.
    assert (trained.epochs_run, trained.best_epoch) == (2, 2)
    assert trained.validation is not None
    assert len(trained.validation.label) == 8
    epochs = [row for row in read_log(tmp_path / "log.jsonl") if row["event"] == "epoch"]
    assert [(row["shards"], row["rows"], row["validation_complete"]) for row in epochs] == [
        (4, 24, False),
        (6, 32, True),
    ]

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tasks.digests import file_digest
from tasks.errors import InputError, IntegrityError
from tasks.train_config import TrainConfig
from tasks.training.checkpoint import CheckpointArrays, newest_checkpoint, write_checkpoint
from tasks.training.job import ShardOfJob, TrainingJob, read_job, verify_shard, write_job


def job(work: Path) -> TrainingJob:
    shard = ShardOfJob(path=work / "a.patches.h5", digest="sha256:1")
    return TrainingJob(config=TrainConfig(epochs=3), shards=(shard,), work=work, ranks=2, seed=1, key="k")


def test_a_job_survives_the_file(tmp_path: Path) -> None:
    write_job(tmp_path / "job.json", job(tmp_path))
    assert read_job(tmp_path / "job.json") == job(tmp_path)


def test_a_job_expects_what_it_follows(tmp_path: Path) -> None:
    alone = job(tmp_path)
    following = {**alone.model_dump(), "config": {"arrival": {"follow": True}}}
    with pytest.raises(ValidationError, match="expects each of them"):
        TrainingJob.model_validate(following)
    expected = {"path": "a.patches.h5", "bytes": 1, "digest": "sha256:1", "split": "train", "patient": "p"}
    expected |= {"tumour_rows": 1, "normal_rows": 1}
    assert TrainingJob.model_validate({**following, "expected": [expected]}).expected[0].rows == 2
    with pytest.raises(ValidationError, match="no other does"):
        TrainingJob.model_validate({**alone.model_dump(), "expected": [expected]})


def test_a_checkpoint_of_other_ranks_is_of_another_training(tmp_path: Path) -> None:
    two, four = job(tmp_path), job(tmp_path).model_copy(update={"ranks": 4})
    arrays = CheckpointArrays([], [], [], np.empty(0), np.zeros((2, 4)), np.empty((0, 0), "f4"), log="")
    facts: dict[str, Any] = {"number": 1, "ranks": 2, "epoch": 1, "step": 0, "trainable": "all", "best_epoch": 0}
    card = write_checkpoint(tmp_path, arrays, training=two.identity, **facts)
    assert newest_checkpoint(tmp_path, two.identity) == (card, ())
    assert newest_checkpoint(tmp_path, four.identity) == (None, ("checkpoint-000001 is of another training",))


def test_a_relative_work_folder_is_refused() -> None:
    with pytest.raises(ValidationError, match="absolute"):
        job(Path("work"))


def test_a_file_that_is_no_job_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text('{"config": 1}')
    with pytest.raises(InputError, match="is no training job"):
        read_job(tmp_path / "job.json")


def test_a_shard_is_compared_with_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "a.patches.h5"
    path.write_bytes(b"pixels")
    shard = ShardOfJob(path=path, digest=file_digest(path))
    verify_shard(shard)
    path.write_bytes(b"pixelt")
    with pytest.raises(IntegrityError, match=r"a\.patches\.h5: has the digest sha256:\w+, not sha256:"):
        verify_shard(shard)
    path.unlink()
    with pytest.raises(IntegrityError, match="cannot be read"):
        verify_shard(shard)

"""The disk fills under a training: an older checkpoint stays, and the training goes on when there is room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.errors import PermanentFault
from tasks.train_config import TrainConfig
from tasks.training.checkpoint import CheckpointArrays, arrays_path, newest_checkpoint, read_arrays, write_checkpoint
from tasks.training.job import TrainingJob
from tasks.training.launcher import failure
from tests.services.small_disk import needs_root, small_disk

pytestmark = needs_root
PAGE_BYTES = 4096
FACTS: dict[str, Any] = {"training": "t", "ranks": 1, "epoch": 1, "step": 0, "trainable": "all", "best_epoch": 0}


def arrays(value: float) -> CheckpointArrays:
    """About 40 KiB."""
    weights = [np.full(10_000, value, np.float32)]
    return CheckpointArrays(weights, [], [], np.empty(0), np.zeros((1, 4)), np.empty((0, 0), "f4"), log="")


@pytest.mark.parametrize("place", ["first bytes", "within", "card"])
def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(tmp_path: Path, place: str) -> None:
    with small_disk(tmp_path / "disk", 256) as disk:
        folder = disk / "checkpoints"
        write_checkpoint(folder, arrays(1.0), number=1, **FACTS)
        pages = -(-arrays_path(folder, 1).stat().st_size // PAGE_BYTES)
        ballast = disk / "ballast"
        _fill(ballast)
        with ballast.open("r+b") as file:
            file.truncate(ballast.stat().st_size - {"first bytes": 0, "within": 5, "card": pages}[place] * PAGE_BYTES)
        with pytest.raises(PermanentFault, match="free some space") as caught:
            write_checkpoint(folder, arrays(2.0), number=2, **FACTS)
        assert str(folder) in str(caught.value)
        found, refused = newest_checkpoint(folder, "t")
        assert found is not None
        assert (found.number, refused) == (1, ())
        assert read_arrays(folder, found).variables[0][0] == 1.0
        assert not list(folder.glob(".*"))
        ballast.unlink()
        write_checkpoint(folder, arrays(2.0), number=2, **FACTS)
        found, _ = newest_checkpoint(folder, "t")
        assert found is not None
        assert read_arrays(folder, found).variables[0][0] == 2.0


def test_ranks_that_cannot_even_leave_their_error_are_told_from_killed_ones(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1024) as disk:
        (disk / "ranks.log").touch()
        job = TrainingJob(config=TrainConfig(), shards=(), work=disk, ranks=1, seed=0, key="k")
        assert "died without a word" in str(failure(job, disk / "ranks.log", code=1, silence_s=None))
        _fill(disk / "ballast")
        fault = failure(job, disk / "ranks.log", code=1, silence_s=None)
        assert type(fault) is PermanentFault
        assert f"{disk}: the training ended, and the disk is full" in str(fault)
        assert "goes on from its last checkpoint" in str(fault)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(PAGE_BYTES))
            except OSError:
                return

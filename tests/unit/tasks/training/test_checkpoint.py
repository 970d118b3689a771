from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tasks.training.checkpoint import (
    CheckpointArrays,
    arrays_path,
    newest_checkpoint,
    read_arrays,
    remove_checkpoints,
    write_checkpoint,
)
from tasks.training.epoch_parts import EpochPart

LOG = '{"event": "epoch", "epoch": 1}\n'


def arrays(value: float = 1.0) -> CheckpointArrays:
    """State of two ranks; more variables than one digit counts, so that their order can go wrong."""
    return CheckpointArrays(
        variables=[np.full((2, 3), value + index, np.float32) for index in range(12)],
        optimizer=[np.array(7, np.int64), np.array([value], np.float32)],
        best=[],
        best_logit=np.empty(0),
        sums=np.array([[value, 0.1, 3.0], [0.1 + 0.2, 0.0, 4.0]]),
        statistics=np.array([[1.5], [2.5]], np.float32),
        log=LOG,
        measures=[np.array([0.5, np.nan], np.float32), np.array([[3, 0], [1, 0]], np.int64)],
        arrivals=[np.array([1, 0, 2], np.int64)],
    )


def written(folder: Path, number: int, *, training: str = "t", value: float = 1.0) -> None:
    facts: dict[str, Any] = {"ranks": 2, "epoch": number, "step": 0, "trainable": "all", "best_epoch": 0}
    write_checkpoint(folder, arrays(value), number=number, training=training, **facts)


def test_a_checkpoint_comes_back_bit_by_bit(tmp_path: Path) -> None:
    state = arrays(np.pi)
    card = write_checkpoint(
        tmp_path / "c",
        state,
        number=1,
        training="t",
        ranks=2,
        epoch=4,
        step=17,
        parts=(EpochPart(ranks=3, steps=10), EpochPart(ranks=2, steps=7)),
        trainable="head",
        best_epoch=3,
        best_rank=(0.1 + 0.2, -1 / 3),
    )
    found, refused = newest_checkpoint(tmp_path / "c", "t")
    assert (found, refused) == (card, ())
    assert found is not None
    assert found.best_rank == (0.1 + 0.2, -1 / 3)
    back = read_arrays(tmp_path / "c", found)
    for name in ("variables", "optimizer", "best", "measures", "arrivals"):
        for one, other in zip(getattr(state, name), getattr(back, name), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(back.sums, state.sums)
    np.testing.assert_array_equal(back.statistics, state.statistics)
    assert back.log == LOG


def test_the_last_two_are_kept_and_halves_are_swept_away(tmp_path: Path) -> None:
    written(tmp_path, 1)
    (tmp_path / ".checkpoint-000002.h5.77-ab.part").write_text("half")
    written(tmp_path, 2)
    written(tmp_path, 3)
    names = [f"checkpoint-00000{number}.{kind}" for number in (2, 3) for kind in ("h5", "json")]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    remove_checkpoints(tmp_path)
    assert not tmp_path.exists()
    assert newest_checkpoint(tmp_path, "t") == (None, ())


@pytest.mark.parametrize("where", ["start", "middle", "end", "card", "short", "gone"])
def test_a_damaged_newest_falls_back_to_the_one_before(where: str, tmp_path: Path) -> None:
    written(tmp_path, 1, value=1.0)
    written(tmp_path, 2, value=2.0)
    path = arrays_path(tmp_path, 2)
    if where == "card":
        path = path.with_suffix(".json")
    content = bytearray(path.read_bytes())
    place = {"start": 0, "end": len(content) - 1}.get(where, len(content) // 2)
    content[place] ^= 1
    path.write_bytes(content[:-1] if where == "short" else content)
    if where == "gone":
        path.unlink()
    found, refused = newest_checkpoint(tmp_path, "t")
    assert found is not None
    assert found.number == 1
    assert refused == ("checkpoint-000002 is damaged",)
    assert read_arrays(tmp_path, found).variables[0][0, 0] == 1.0
    # What was refused is told once.
    assert newest_checkpoint(tmp_path, "t") == (found, ())


def test_a_checkpoint_of_another_training_is_not_used(tmp_path: Path) -> None:
    written(tmp_path, 1, training="other")
    assert newest_checkpoint(tmp_path, "t") == (None, ("checkpoint-000001 is of another training",))
    assert list(tmp_path.iterdir()) == []


def test_arrays_whose_card_was_not_written_any_more_do_not_count(tmp_path: Path) -> None:
    written(tmp_path, 1)
    written(tmp_path, 2)
    arrays_path(tmp_path, 2).with_suffix(".json").unlink()
    found, refused = newest_checkpoint(tmp_path, "t")
    assert found is not None
    assert (found.number, refused) == (1, ())


def test_other_ranks_share_what_those_before_them_had() -> None:
    state = arrays(6.0)
    assert [state.sums_of(rank, 2).tolist() for rank in range(2)] == state.sums.tolist()
    shared = np.array([state.sums_of(rank, 3) for rank in range(3)])
    # The losses add up to what they did; seconds are those of a rank.
    assert shared[:, 0].sum() == state.sums[:, 0].sum()
    assert shared[:, 2].tolist() == [3.5, 3.5, 3.5]
    assert state.statistics_of(1, 2).tolist() == [2.5]
    assert state.statistics_of(0, 1).tolist() == [2.0]


def test_parts_that_are_not_the_steps_are_refused(tmp_path: Path) -> None:
    facts: dict[str, Any] = {"ranks": 2, "epoch": 1, "step": 3, "trainable": "all", "best_epoch": 0}
    with pytest.raises(ValidationError, match="do not add up"):
        write_checkpoint(tmp_path, arrays(), number=1, training="t", parts=(EpochPart(ranks=2, steps=2),), **facts)

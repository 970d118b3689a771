from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import CamNetError, ExitCode, InputError, IntegrityError, PermanentFault
from tasks.train_config import TrainConfig
from tasks.training.rank_error import RankError, first_error, leave_error


class HorovodInternalError(RuntimeError):
    """Has the name of Horovod's own."""


@pytest.mark.parametrize("kind", [InputError, IntegrityError, PermanentFault])
def test_a_known_error_comes_back_as_it_was_raised(kind: type[CamNetError], tmp_path: Path) -> None:
    error = kind("is wrong", subject="a.h5", remedy="mend it")
    leave_error(tmp_path, RankError.of(error, 1))
    found = first_error(tmp_path)
    assert found is not None
    raised = found.exception("last line", TrainConfig())
    assert type(raised) is kind
    assert str(raised) == str(error)
    assert found.exit_code == error.exit_code


def test_an_unknown_error_is_a_bug_with_the_last_lines() -> None:
    raised = RankError.of(KeyError("stem"), 3).exception("Traceback: line 7", TrainConfig())
    assert raised.exit_code == ExitCode.BUG
    assert "rank 3 ended with KeyError" in str(raised)
    assert "Traceback: line 7" in str(raised)


@pytest.mark.parametrize(
    ("batch_size", "remedy"),
    [(32, "train.batch_size = 16 and train.accumulate_steps = 6"), (1, "choose a smaller network")],
)
def test_memory_that_runs_out_names_a_batch_size_to_try(batch_size: int, remedy: str) -> None:
    config = TrainConfig(batch_size=batch_size, accumulate_steps=3)
    raised = RankError.of(MemoryError("9 GB"), 0).exception("", config)
    assert isinstance(raised, PermanentFault)
    assert remedy in str(raised)


def test_the_first_cause_counts_and_not_what_followed(tmp_path: Path) -> None:
    leave_error(tmp_path, RankError.of(HorovodInternalError("connection closed"), 0))
    assert first_error(tmp_path) is None
    leave_error(tmp_path, RankError.of(InputError("first"), 1))
    leave_error(tmp_path, RankError.of(InputError("second"), 2))
    found = first_error(tmp_path)
    assert found is not None
    assert (found.rank, found.cause) == (1, "first")

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import RetryableFault
from tasks.training.attempt import LOCK_NAME, attempt_folder


def test_the_folder_goes_with_the_attempt_also_when_it_fails(tmp_path: Path) -> None:
    with attempt_folder(tmp_path / "model") as work:
        (work / "half").write_text("x")
        assert work.parent == tmp_path
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError), attempt_folder(tmp_path / "model"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_attempt_left_is_removed_and_beside_a_living_one_none_begins(tmp_path: Path) -> None:
    dead = tmp_path / ".model.0badcafe.part"
    dead.mkdir()
    (dead / LOCK_NAME).touch()
    other = tmp_path / ".other.0badcafe.part"
    other.mkdir()
    (other / LOCK_NAME).touch()
    with attempt_folder(tmp_path / "model") as living:
        assert not dead.exists()
        with (
            pytest.raises(RetryableFault, match="model: another process trains this model now"),
            attempt_folder(tmp_path / "model"),
        ):
            pytest.fail("it began")
        assert list(tmp_path.glob(".model.*")) == [living]
    assert other.is_dir()
    with attempt_folder(tmp_path / "model") as later:
        assert later.is_dir()

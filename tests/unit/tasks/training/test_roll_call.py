from __future__ import annotations

from pathlib import Path

from tasks.training.roll_call import RollCall


def test_who_began_and_did_not_say_that_it_ends_is_dead(tmp_path: Path) -> None:
    roll = RollCall(tmp_path / "roll")
    for rank in range(4):
        roll.begins(rank)
    for rank in (0, 3, 3):
        roll.ends(rank)
    assert roll.dead(4) == (1, 2)


def test_nothing_is_guessed_of_ranks_that_have_not_all_begun(tmp_path: Path) -> None:
    roll = RollCall(tmp_path / "roll")
    assert roll.dead(2) == ()
    roll.begins(0)
    assert roll.dead(2) == ()

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import InputError, IntegrityError
from tasks.report.quality import find_models, model_quality, quality_rows, threshold_line
from tasks.training.card import Threshold, write_card
from tests.services.sample_report import partly_validated_card, sample_card


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two models, and a training that goes on."""
    for name in ("models/a", "models/b", "models/.c.1234.part/model"):
        (tmp_path / name).mkdir(parents=True)
        write_card(tmp_path / name / "card.json", sample_card())
    return tmp_path


def test_a_split_is_followed_by_its_centres() -> None:
    rows = quality_rows(sample_card())
    assert [(row.split, row.centre, row.held_out) for row in rows] == [
        *(("validation", centre, False) for centre in ("all", "0", "1")),
        *(("test", centre, True) for centre in ("all", "0", "1", "2")),
    ]
    assert rows[0].rows == rows[1].rows + rows[2].rows == 4000
    assert rows[0].sensitivity is not None
    assert (rows[1].sensitivity, rows[1].calibration_error) == (None, None)


def test_a_split_that_was_measured_in_part_is_marked() -> None:
    rows = quality_rows(partly_validated_card())
    assert [row.split_told for row in rows] == ["validation, incomplete"] * 3 + ["test"] * 4
    assert [row.complete for row in rows] == [False] * 3 + [True] * 4


def test_the_threshold_is_told_with_its_reason() -> None:
    card = sample_card()
    assert "highest sensitivity + specificity" in threshold_line(card)
    stated = card.model_copy(update={"threshold": Threshold(value=0.25, rule="stated")})
    assert threshold_line(stated) == "tumour from 0.250 up (stated by the configuration)"
    assert threshold_line(card.model_copy(update={"threshold": None})) == "not stated"


def test_models_are_found_below_a_folder_and_named_once(folder: Path) -> None:
    both = [folder / "models" / "a", folder / "models" / "b"]
    assert find_models([folder]) == both
    assert find_models([both[1], folder / "models"]) == [both[1], both[0]]
    with pytest.raises(InputError, match="has no finished model"):
        find_models([folder, folder / "none"])


def test_the_figures_are_those_of_the_card(folder: Path) -> None:
    found = model_quality(folder / "models" / "a")
    assert found.quality == quality_rows(sample_card())
    (folder / "models" / "a" / "card.json").write_text("{}")
    with pytest.raises(IntegrityError, match="is no model card"):
        model_quality(folder / "models" / "a")

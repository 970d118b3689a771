from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.patches.candidates import NORMAL, TUMOUR, UNKNOWN, Candidates, label_of

Truth = Literal["tumour", "negative", "unknown"]
FRACTIONS = st.lists(st.floats(0, 1, width=32), max_size=30).map(lambda values: np.array(values, np.float32))


@given(FRACTIONS, st.sampled_from(["tumour", "negative", "unknown"]), st.booleans(), st.floats(0.05, 1))
def test_a_label_says_no_more_than_is_known(
    fractions: np.ndarray, truth: Truth, exhaustive: bool, least: float
) -> None:
    labels = label_of(fractions, fractions > 0, truth, exhaustive=exhaustive, min_tumour_fraction=least)
    for fraction, label in zip(fractions, labels, strict=True):
        if label == TUMOUR:
            assert truth == "tumour"
            assert fraction >= np.float32(least)
        if label == NORMAL:
            assert fraction == 0, "a normal patch touches no tumour"
            assert truth == "negative" or (truth == "tumour" and exhaustive)


def test_each_kind_of_patch_has_its_label() -> None:
    fractions = np.array([0, 0.3, 0.6, 1], np.float32)

    def labels(truth: Truth, exhaustive: bool) -> list[int]:
        found = label_of(fractions, fractions > 0, truth, exhaustive=exhaustive, min_tumour_fraction=0.6)
        return [int(label) for label in found]

    assert labels("tumour", True) == [NORMAL, UNKNOWN, TUMOUR, TUMOUR]
    assert labels("tumour", False) == [UNKNOWN, UNKNOWN, TUMOUR, TUMOUR]
    assert labels("negative", True) == [NORMAL, UNKNOWN, UNKNOWN, UNKNOWN]
    assert labels("unknown", False) == [UNKNOWN] * 4


def test_a_patch_beside_tumour_is_not_normal() -> None:
    nothing = np.zeros(2, np.float32)
    labels = label_of(nothing, np.array([True, False]), "tumour", exhaustive=True, min_tumour_fraction=0.6)
    assert labels.tolist() == [UNKNOWN, NORMAL]


@pytest.mark.parametrize("rows", [np.array([2, 0]), np.array([True, False, True])])
def test_taking_candidates_keeps_their_columns_together(rows: np.ndarray) -> None:
    numbers = np.arange(3)
    candidates = Candidates(
        numbers, numbers + 10, numbers.astype(np.float32), numbers.astype(np.float32) + 20, numbers.astype(np.int8)
    )
    taken = candidates.take(rows)
    assert taken.x_level0_px.tolist() == numbers[rows].tolist()
    assert (taken.y_level0_px - taken.x_level0_px).tolist() == [10] * len(taken)
    assert (taken.tumour_fraction - taken.tissue_fraction).tolist() == [20] * len(taken)
    assert taken.label.tolist() == taken.x_level0_px.tolist()

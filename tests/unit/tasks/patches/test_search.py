from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.config import PreprocessConfig
from tasks.patches.acceptance import accepted
from tasks.patches.candidates import Candidates, Selection
from tasks.patches.search import Search

ADAPTIVE = PreprocessConfig(
    max_white_fraction=0.3, white_fraction_step=0.2, white_fraction_most=0.7, white_fraction_patience=2
)
PLAIN = PreprocessConfig(max_white_fraction=0.3)
SHARES = st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8, float("nan")])
WANTED = st.dictionaries(st.sampled_from([0, 1]), st.integers(0, 9))


def selection(labels: list[int], wanted: dict[int, int], *, balanced: bool = False) -> Selection:
    count = len(labels)
    zeros, share = np.zeros(count, np.int64), np.zeros(count, np.float32)
    found = Candidates(zeros, zeros, share, share, np.array(labels, np.int8))
    return Selection(found, wanted, Counter({"before": 1}), balanced=balanced)


def searched(search: Search, white: list[float], order: Random | None) -> tuple[dict[int, int], Counter[str], int]:
    """Try all rounds, each in an order of its own; give slots by position, rejections, and how many were tried."""
    tried = 0
    for positions in search.rounds():
        places = positions.tolist()
        if order is not None:
            order.shuffle(places)
        for position in places:
            tried += 1
            search.white_fraction[position] = white[position]
            search.black_fraction[position] = 0.0
    positions, slots, rejected = search.result()
    return dict(zip(positions.tolist(), slots.tolist(), strict=True)), rejected, tried


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, -1]), SHARES), max_size=60),
    WANTED,
    st.sampled_from([PLAIN, ADAPTIVE]),
    st.randoms(use_true_random=False),
)
def test_rounds_in_any_order_keep_what_one_after_the_other_keeps(
    candidates: list[tuple[int, float]], wanted: dict[int, int], config: PreprocessConfig, order: Random
) -> None:
    labels, white = [label for label, _ in candidates], [share for _, share in candidates]
    kept, rejected, _ = searched(Search(selection(labels, wanted), config), white, None)
    assert searched(Search(selection(labels, wanted), config), white, order)[:2] == (kept, rejected)
    expected = accepted(np.array(white), np.zeros(len(white)), np.array(labels, np.int8), wanted, config)
    assert list(kept) == np.flatnonzero(expected.accepted).tolist()
    assert len(set(kept.values())) == len(kept)
    assert rejected == expected.rejected + Counter({"before": 1})


def test_no_more_is_tried_than_is_missing_and_slots_are_as_few_as_patches_are_wanted() -> None:
    white = [0.9, 0.0, 0.9, 0.0] + [0.0] * 46
    search = Search(selection([0] * 50, {0: 4}), PLAIN)
    assert search.planned == 4
    kept, rejected, tried = searched(search, white, None)
    assert tried == 6
    assert sorted(kept) == [1, 3, 4, 5]
    assert sorted(kept.values()) == [0, 1, 2, 3]
    assert rejected["too white"] == 2


def test_the_classes_of_a_balanced_slide_end_equal() -> None:
    labels, white = [1, 0] * 10, [0.0, 0.9] * 7 + [0.0, 0.0] * 3
    kept, rejected, _ = searched(Search(selection(labels, {0: 10, 1: 10}, balanced=True), PLAIN), white, None)
    assert Counter(labels[position] for position in kept) == {0: 3, 1: 3}
    assert rejected["more than of the other class"] == 7

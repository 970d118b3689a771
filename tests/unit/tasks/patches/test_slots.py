from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.patches.candidates import Candidates, Selection
from tasks.patches.slots import Slots

LABELS = st.lists(st.sampled_from([0, 1, -1]), max_size=60)


def selection(labels: list[int], wanted: dict[int, int]) -> Selection:
    count = len(labels)
    zeros, share = np.zeros(count, np.int64), np.zeros(count, np.float32)
    return Selection(Candidates(zeros, zeros, share, share, np.array(labels, np.int8)), wanted, Counter())


def first_good(labels: list[int], good: list[bool], wanted: dict[int, int]) -> set[int]:
    """What one after the other gives."""
    kept: Counter[int] = Counter()
    positions = set()
    for position, (label, is_good) in enumerate(zip(labels, good, strict=True)):
        if is_good and kept[label] < wanted.get(label, len(labels)):
            kept[label] += 1
            positions.add(position)
    return positions


@given(LABELS, st.data(), st.dictionaries(st.sampled_from([0, 1]), st.integers(0, 12)), st.randoms())
def test_kept_are_the_first_good_ones_of_each_label_in_whatever_order_a_round_is_tried(
    labels: list[int], data: st.DataObject, wanted: dict[int, int], order: object
) -> None:
    good = data.draw(st.lists(st.booleans(), min_size=len(labels), max_size=len(labels)))
    found = []
    for shuffle in (False, True):
        slots = Slots(selection(labels, wanted))
        while len(positions := slots.next_round()):
            tried = positions.tolist()
            if shuffle:
                order.shuffle(tried)  # type: ignore[attr-defined]  # a random.Random
            for position in tried:
                if not good[position]:
                    slots.give_back(position)
        positions, places = slots.taken()
        found.append(dict(zip(positions.tolist(), places.tolist(), strict=True)))
    assert set(found[0]) == first_good(labels, good, wanted)
    assert found[0] == found[1]
    assert len(set(found[0].values())) == len(found[0])


def test_slots_are_as_few_as_patches_are_wanted() -> None:
    slots = Slots(selection([0] * 50, {0: 4}))
    for _ in range(5):
        positions = slots.next_round().tolist()
        assert {slots.slot_of(position) for position in positions} <= {0, 1, 2, 3}
        for position in positions[::2]:
            slots.give_back(position)
    assert slots.open == 1

"""Which candidates are tried, and where those that are kept go."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from tasks.patches.candidates import Selection

Ints = NDArray[np.int64]


class Slots:
    """Gives candidates slots of a shard, round by round, until every label has as many as are wanted.

    A round takes the next candidates of each label, as many as are missing, in the order of the selection; each gets
    the lowest slot that is free. A candidate that is left out gives its slot back.
    """

    def __init__(self, selection: Selection) -> None:
        label = selection.candidates.label
        self._left = {value: np.flatnonzero(label == value) for value in np.unique(label).tolist()}
        self._missing = {
            value: min(len(left), selection.wanted.get(value, len(left))) for value, left in self._left.items()
        }
        self._label = label
        self._slot: dict[int, int] = {}
        self._free: list[int] = []
        self._next_slot = 0

    @property
    def open(self) -> int:
        """How many candidates the next round takes."""
        return sum(min(len(self._left[value]), missing) for value, missing in self._missing.items())

    def next_round(self) -> Ints:
        """Give the positions of the candidates to try next; none when all is done."""
        taken = []
        for value, left in self._left.items():
            count = min(len(left), self._missing[value])
            taken.append(left[:count])
            self._left[value] = left[count:]
            self._missing[value] -= count
        positions = np.sort(np.concatenate([np.empty(0, np.int64), *taken]))
        for position in positions.tolist():
            self._slot[position] = self._new_slot()
        return positions

    def slot_of(self, position: int) -> int:
        """Slot of a candidate."""
        return self._slot[position]

    def give_back(self, position: int) -> None:
        """Leave a candidate out; another one of its label may follow."""
        heapq.heappush(self._free, self._slot.pop(position))
        self._missing[int(self._label[position])] += 1

    def taken(self) -> tuple[Ints, Ints]:
        """Positions of the candidates that were kept, and their slots."""
        positions = np.fromiter(self._slot.keys(), np.int64, len(self._slot))
        return positions, np.fromiter(self._slot.values(), np.int64, len(self._slot))

    def _new_slot(self) -> int:
        if self._free:
            return heapq.heappop(self._free)
        self._next_slot += 1
        return self._next_slot - 1

"""Tries candidates until there are as many patches as are wanted, and gives those that are kept a place."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tasks.config import PreprocessConfig
from tasks.patches.acceptance import Acceptance, accepted, balance
from tasks.patches.candidates import Selection

Ints = NDArray[np.int64]


class Search:
    """One shard's candidates on their way to being rows.

    A round takes the next candidates of each label, as many as are missing, in the order of the selection, and gives
    each the lowest free slot. Who cuts them writes down what was found in `white_fraction` and `black_fraction` (NaN:
    cannot be decoded). Then those that are not accepted give their slots back, and the next round follows. What comes
    out depends on the candidates and their pixels, not on the order in which a round is cut.

    Attributes
    ----------
    white_fraction, black_fraction
        Of each candidate, float64 (n,).
    planned
        How many candidates the first round takes; of a part of a slide: how many the slide has.
    """

    def __init__(self, selection: Selection, config: PreprocessConfig) -> None:
        self._selection, self._config = selection, config
        self._label = selection.candidates.label
        self._left = {value: np.flatnonzero(self._label == value) for value in np.unique(self._label).tolist()}
        self._tried = np.zeros(len(self._label), bool)
        self._slot: dict[int, int] = {}
        self._free: list[int] = []
        self._slots = 0
        self.white_fraction = np.full(len(self._label), np.nan)
        self.black_fraction = np.full(len(self._label), np.nan)
        first_round = sum(min(len(left), self._wanted(value)) for value, left in self._left.items())
        self.planned = max(first_round, selection.of_slide)

    def rounds(self) -> Iterator[Ints]:
        """Give the positions to try, ascending, round by round; each round is decided on when the next is asked for."""
        missing = {value: self._wanted(value) for value in self._left}
        while len(positions := self._next(missing)):
            for position in positions.tolist():
                self._slot[position] = self._new_slot()
            yield positions
            missing = self._decide(positions)

    def slot_of(self, position: int) -> int:
        """Slot of a candidate that is being tried."""
        return self._slot[position]

    def worth_writing(self, position: int) -> bool:
        """Whether a candidate may be accepted; it is certain only when all before it have been looked at."""
        config = self._config
        most_white = config.max_white_fraction
        if config.white_fraction_step:
            most_white = max(most_white, config.white_fraction_most)
        return bool(
            self.white_fraction[position] <= most_white and self.black_fraction[position] <= config.max_black_fraction
        )

    def result(self) -> tuple[Ints, Ints, Counter[str]]:
        """Positions that are kept, ascending, their slots, and how many positions were left out by reason."""
        acceptance = self._acceptance()
        if self._selection.balanced:
            acceptance = balance(acceptance, self._label[self._tried])
        positions = np.flatnonzero(self._tried)[acceptance.accepted]
        slots = np.array([self._slot[position] for position in positions.tolist()], np.int64)
        return positions, slots, self._selection.rejected + acceptance.rejected

    def _wanted(self, value: int) -> int:
        return self._selection.wanted.get(value, len(self._left[value]))

    def _next(self, missing: dict[int, int]) -> Ints:
        taken = [np.empty(0, np.int64)]
        for value, count in missing.items():
            taken.append(self._left[value][:count])
            self._left[value] = self._left[value][count:]
        return np.sort(np.concatenate(taken))

    def _decide(self, positions: Ints) -> dict[int, int]:
        """Free the slots of what is not accepted; give how many of each label the next round should take."""
        self._tried[positions] = True
        acceptance = self._acceptance()
        kept = np.zeros(len(self._label), bool)
        kept[self._tried] = acceptance.accepted
        for position in positions[~kept[positions]].tolist():
            heapq.heappush(self._free, self._slot.pop(position))
        found = Counter(self._label[kept].tolist())
        return {value: self._wanted(value) - found[value] for value in self._left if value in acceptance.searching}

    def _acceptance(self) -> Acceptance:
        tried = self._tried
        return accepted(
            self.white_fraction[tried],
            self.black_fraction[tried],
            self._label[tried],
            self._selection.wanted,
            self._config,
        )

    def _new_slot(self) -> int:
        if self._free:
            return heapq.heappop(self._free)
        self._slots += 1
        return self._slots - 1

"""Which candidates become patches by their pixels, one after the other (paper section 3.5: the white threshold)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from tasks.config import PreprocessConfig
from tasks.patches.candidates import NORMAL, TUMOUR


class Decision(IntEnum):
    """What becomes of a candidate."""

    ACCEPTED = 0
    TOO_WHITE = 1
    TOO_BLACK = 2
    UNREADABLE = 3
    SURPLUS = 4
    NOT_NEEDED = 5
    GIVEN_UP = 6


REASONS = {
    Decision.TOO_WHITE: "too white",
    Decision.TOO_BLACK: "too black",
    Decision.UNREADABLE: "unreadable",
    Decision.SURPLUS: "more than of the other class",
}
"""How rejections are told. Candidates that are not needed, or not tried any more, are no rejections."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Decisions on candidates.

    Attributes
    ----------
    decision
        A `Decision` for each candidate, in their order, int8 (n,).
    searching
        Labels of which more is wanted and the search goes on: further candidates of others need not be decoded.
    """

    decision: NDArray[np.int8]
    searching: frozenset[int]

    @property
    def accepted(self) -> NDArray[np.bool_]:
        """Candidates to keep, (n,)."""
        return np.equal(self.decision, Decision.ACCEPTED)

    @property
    def rejected(self) -> Counter[str]:
        """How many were tried and left out, by reason."""
        counts = np.bincount(self.decision, minlength=len(Decision)).tolist()
        return +Counter({reason: counts[decision] for decision, reason in REASONS.items()})


def accepted(
    white_fraction: NDArray[np.float64],
    black_fraction: NDArray[np.float64],
    label: NDArray[np.int8],
    wanted: Mapping[int, int],
    config: PreprocessConfig,
) -> Acceptance:
    """Decide on candidates in their order, each class for itself.

    A candidate is taken if it is neither too white nor too black, until the class has what is wanted of it. With
    ``config.white_fraction_step``, the white threshold of a class rises by that step each time
    ``white_fraction_patience`` more of its candidates were too white, up to ``white_fraction_most``; after as many
    there, the search for this class ends. What was too white before is not tried again. A class without a limit is
    not searched for, and its threshold stays.

    The decision on a candidate does not depend on those after it: the decisions on the first candidates alone are
    the first decisions on all of them.

    Parameters
    ----------
    white_fraction, black_fraction
        As `tasks.patches.filters` gives them (not rounded to float32: they are compared with the thresholds),
        (n,); NaN for a candidate that could not be decoded.
    label
        1 tumour, 0 normal, -1 unknown, (n,).
    wanted
        How many of each label are to be kept; a label that is missing has no limit.
    """
    decision = np.empty(len(label), np.int8)
    searching = set()
    for value in set(wanted) | set(np.unique(label).tolist()):
        rows = np.flatnonzero(label == value)
        decision[rows], goes_on = _one_class(white_fraction[rows], black_fraction[rows], wanted.get(value), config)
        if goes_on:
            searching.add(value)
    return Acceptance(decision, frozenset(searching))


def balance(acceptance: Acceptance, label: NDArray[np.int8]) -> Acceptance:
    """Keep as many normal as tumour patches: those of the larger class that were accepted last are surplus.

    Call it once, with the decisions on all candidates, where `tasks.patches.candidates.Selection.balanced` is set.
    """
    decision = acceptance.decision.copy()
    rows = [np.flatnonzero(acceptance.accepted & (label == value)) for value in (TUMOUR, NORMAL)]
    fewest = min(map(len, rows))
    for of_class in rows:
        decision[of_class[fewest:]] = Decision.SURPLUS
    return replace(acceptance, decision=decision)


def _one_class(
    white: NDArray[np.float64], black: NDArray[np.float64], wanted: int | None, config: PreprocessConfig
) -> tuple[NDArray[np.int8], bool]:
    """Decide on the candidates of one class; tell whether its search goes on after them."""
    decision = np.full(len(white), Decision.NOT_NEEDED, np.int8)
    missing = len(white) + 1 if wanted is None else wanted
    if missing == 0:
        return decision, False
    adaptive = wanted is not None and config.white_fraction_step > 0
    patience = config.white_fraction_patience if adaptive else len(white) + 1
    start = 0
    for threshold in _thresholds(config) if adaptive else [config.max_white_fraction]:
        found = _filtered(white[start:], black[start:], threshold, config.max_black_fraction)
        found = found[: min(_until(found == Decision.ACCEPTED, missing), _until(found == Decision.TOO_WHITE, patience))]
        decision[start : start + len(found)] = found
        start += len(found)
        missing -= int(np.count_nonzero(found == Decision.ACCEPTED))
        if missing == 0:
            return decision, False
        if np.count_nonzero(found == Decision.TOO_WHITE) < patience:
            return decision, True
    decision[start:] = Decision.GIVEN_UP
    return decision, False


def _thresholds(config: PreprocessConfig) -> Iterator[float]:
    """White thresholds in the order in which they are used."""
    rises = 0
    while (threshold := config.max_white_fraction + rises * config.white_fraction_step) < config.white_fraction_most:
        yield threshold
        rises += 1
    yield config.white_fraction_most


def _filtered(
    white: NDArray[np.float64], black: NDArray[np.float64], most_white: float, most_black: float
) -> NDArray[np.int8]:
    found = np.full(len(white), Decision.ACCEPTED, np.int8)
    found[black > most_black] = Decision.TOO_BLACK
    found[white > most_white] = Decision.TOO_WHITE
    found[np.isnan(white) | np.isnan(black)] = Decision.UNREADABLE
    return found


def _until(hits: NDArray[np.bool_], count: int) -> int:
    """How many elements there are up to the `count`-th hit and with it; all of them, if it is not there."""
    where = np.flatnonzero(hits)
    return int(where[count - 1]) + 1 if len(where) >= count else len(hits)

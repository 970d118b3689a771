from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.config import PreprocessConfig
from tasks.patches.acceptance import Acceptance, Decision, accepted, balance
from tasks.patches.candidates import NORMAL, TUMOUR, UNKNOWN

LABELS = (TUMOUR, NORMAL, UNKNOWN)
# Eighths are exact in binary: no sum or comparison of them is ambiguous.
EIGHTHS = st.integers(0, 8).map(lambda eighths: eighths / 8)
CANDIDATES = st.lists(
    st.tuples(st.one_of(EIGHTHS, st.just(float("nan"))), EIGHTHS, st.sampled_from(LABELS)), max_size=60
)
WANTED = st.dictionaries(st.sampled_from(LABELS), st.integers(0, 12))
Candidate = tuple[float, float, int]


@st.composite
def configurations(draw: st.DrawFn) -> PreprocessConfig:
    first = draw(st.integers(0, 8))
    return PreprocessConfig(
        max_white_fraction=first / 8,
        white_fraction_most=draw(st.integers(first, 8)) / 8,
        white_fraction_step=draw(EIGHTHS),
        white_fraction_patience=draw(st.integers(1, 6)),
        max_black_fraction=draw(EIGHTHS),
    )


def decided(candidates: list[Candidate], wanted: dict[int, int], config: PreprocessConfig) -> Acceptance:
    columns = list(zip(*candidates, strict=True)) or [(), (), ()]
    white, black = (np.array(column, np.float64) for column in columns[:2])
    return accepted(white, black, np.array(columns[2], np.int8), wanted, config)


def one_by_one(
    candidates: list[Candidate], wanted: dict[int, int], config: PreprocessConfig
) -> tuple[list[int], set[int]]:
    """The same rules as a plain loop over the candidates."""
    kept, whites = dict.fromkeys(LABELS, 0), dict.fromkeys(LABELS, 0)
    threshold = dict.fromkeys(LABELS, config.max_white_fraction)
    given_up: set[int] = set()
    decisions = []
    for white, black, label in candidates:
        limited = label in wanted
        if limited and kept[label] == wanted[label]:
            decisions.append(Decision.NOT_NEEDED)
        elif label in given_up:
            decisions.append(Decision.GIVEN_UP)
        elif np.isnan(white):
            decisions.append(Decision.UNREADABLE)
        elif white > threshold[label]:
            decisions.append(Decision.TOO_WHITE)
            whites[label] += 1
            if limited and config.white_fraction_step and whites[label] == config.white_fraction_patience:
                whites[label] = 0
                if threshold[label] >= config.white_fraction_most:
                    given_up.add(label)
                threshold[label] = min(threshold[label] + config.white_fraction_step, config.white_fraction_most)
        elif black > config.max_black_fraction:
            decisions.append(Decision.TOO_BLACK)
        else:
            decisions.append(Decision.ACCEPTED)
            kept[label] += 1
    seen = {label for _, _, label in candidates} | set(wanted)
    complete = {label for label in seen if kept[label] == wanted.get(label)}
    return [int(decision) for decision in decisions], seen - complete - given_up


@given(CANDIDATES, WANTED, configurations())
def test_decisions_are_those_of_a_plain_loop(
    candidates: list[Candidate], wanted: dict[int, int], config: PreprocessConfig
) -> None:
    found = decided(candidates, wanted, config)
    decisions, searching = one_by_one(candidates, wanted, config)
    assert found.decision.tolist() == decisions
    assert found.searching == searching
    untried = decisions.count(Decision.NOT_NEEDED) + decisions.count(Decision.GIVEN_UP)
    assert int(found.accepted.sum()) + found.rejected.total() + untried == len(candidates), "each one is accounted for"


@given(CANDIDATES, WANTED, configurations(), st.integers(0, 60))
def test_a_decision_does_not_depend_on_later_candidates(
    candidates: list[Candidate], wanted: dict[int, int], config: PreprocessConfig, first: int
) -> None:
    some, all_ = decided(candidates[:first], wanted, config), decided(candidates, wanted, config)
    assert some.decision.tolist() == all_.decision[:first].tolist()
    later = {label for _, _, label in candidates[first:]}
    assert all_.searching - some.searching <= later - {label for _, _, label in candidates[:first]} - set(wanted)


@given(CANDIDATES, WANTED, configurations())
def test_balance_keeps_the_first_of_each_class_in_equal_numbers(
    candidates: list[Candidate], wanted: dict[int, int], config: PreprocessConfig
) -> None:
    found = decided(candidates, wanted, config)
    label = np.array([candidate[2] for candidate in candidates], np.int8)
    even = balance(found, label)
    counts = {value: int((found.accepted & (label == value)).sum()) for value in LABELS}
    for value in (TUMOUR, NORMAL):
        rows = np.flatnonzero(found.accepted & (label == value))
        assert np.flatnonzero(even.accepted & (label == value)).tolist() == rows[: min(counts[1], counts[0])].tolist()
    assert (even.accepted & (label == UNKNOWN)).sum() == counts[UNKNOWN]
    surplus = Counter({"more than of the other class": abs(counts[TUMOUR] - counts[NORMAL])})
    assert even.rejected == found.rejected + surplus


def searched(white: float, **changes: float) -> Acceptance:
    """Decisions on a thousand candidates that are all as white, of which a hundred are wanted."""
    config = PreprocessConfig.model_validate({"white_fraction_patience": 10} | changes)
    return decided([(white, 0.0, NORMAL)] * 1000, {NORMAL: 100}, config)


def test_the_white_threshold_rises_as_in_the_paper_and_the_search_ends() -> None:
    paper = {"max_white_fraction": 0.3, "white_fraction_step": 0.05, "white_fraction_most": 0.7}
    # White for ever: nine thresholds (0.30, 0.35 … 0.70) of ten rejections each, then the class is given up.
    found = searched(0.95, **paper)
    assert found.rejected == {"too white": 90}
    assert (found.decision[90:] == Decision.GIVEN_UP).all()
    assert found.searching == frozenset()
    # 0.5 is white until the threshold has risen four times.
    found = searched(0.5, **paper)
    assert found.rejected == {"too white": 40}
    assert np.flatnonzero(found.accepted).tolist() == list(range(40, 140))


def test_without_a_step_the_threshold_stays_and_the_search_goes_on() -> None:
    found = searched(0.75)
    assert found.rejected == {"too white": 1000}
    assert found.searching == {NORMAL}


def test_what_is_not_limited_is_not_searched_for_by_lower_standards() -> None:
    config = PreprocessConfig(max_white_fraction=0.25, white_fraction_step=0.25, white_fraction_patience=1)
    found = decided([(0.5, 0.0, NORMAL)] * 20, {}, config)
    assert found.rejected == {"too white": 20}
    assert found.searching == {NORMAL}


def test_a_class_does_not_loosen_the_threshold_of_the_other() -> None:
    config = PreprocessConfig(max_white_fraction=0.25, white_fraction_step=0.5, white_fraction_patience=1)
    white = [(0.5, 0.0, TUMOUR)] * 3 + [(0.5, 0.0, NORMAL)]
    found = decided(white, {TUMOUR: 9, NORMAL: 9}, config)
    assert found.decision.tolist() == [Decision.TOO_WHITE, Decision.ACCEPTED, Decision.ACCEPTED, Decision.TOO_WHITE]


@pytest.mark.parametrize(
    ("white", "black", "decision"),
    [
        (0.7, 0.05, Decision.ACCEPTED),
        (np.nextafter(0.7, 1), 0.0, Decision.TOO_WHITE),
        (0.0, np.nextafter(0.05, 1), Decision.TOO_BLACK),
        (0.9, 0.1, Decision.TOO_WHITE),
        (float("nan"), 0.0, Decision.UNREADABLE),
        (0.0, float("nan"), Decision.UNREADABLE),
    ],
)
def test_the_filters_take_what_lies_on_the_threshold(white: float, black: float, decision: Decision) -> None:
    assert decided([(white, black, TUMOUR)], {TUMOUR: 1}, PreprocessConfig()).decision.tolist() == [decision]

"""Numbers on the page: exact at the borders between units, and never further off than their last digit."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.report import formats
from tasks.report.data import Score

FACTORS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15}


@pytest.mark.parametrize(
    ("count_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (12_345, "12.3 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (812_400_000, "812 MB"),
        (1_238_400_512, "1.24 GB"),
        (7_000_000_000_000, "7.00 TB"),
        (2_000_000_000_000_000_000, "2,000 PB"),
    ],
)
def test_bytes_are_written_in_decimal_units(count_bytes: int, text: str) -> None:
    assert formats.size(count_bytes) == text


@given(st.integers(min_value=0, max_value=10**17))
def test_a_size_says_what_it_came_from_to_half_a_percent(count_bytes: int) -> None:
    number, unit = formats.size(count_bytes).split()
    assert float(number.replace(",", "")) * FACTORS[unit] == pytest.approx(count_bytes, rel=0.0051)
    assert len(number) <= 5


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (0.02, "under 0.1 s"),
        (4.24, "4.2 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (125.0, "2 min 05 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (11_220.0, "3 h 07 min"),
        (3_600_000.0, "1,000 h 00 min"),
    ],
)
def test_times_are_written_in_two_units(seconds: float, text: str) -> None:
    assert formats.duration(seconds) == text


@given(st.floats(min_value=10, max_value=1e6))
def test_a_time_says_what_it_came_from_to_half_its_last_unit(seconds: float) -> None:
    text = formats.duration(seconds)
    told_s = sum(
        int(number.replace(",", "")) * {"h": 3600, "min": 60, "s": 1}[unit]
        for number, unit in re.findall(r"([\d,]+) (h|min|s)", text)
    )
    assert abs(told_s - seconds) <= (30 if "h" in text else 0.5)
    assert not re.search(r"\b60 (min|s)", text)


@pytest.mark.parametrize(
    ("megabits_per_s", "text"),
    [(None, "not measured"), (0.5, "0.500 Mb/s"), (45.08, "45.1 Mb/s"), (312.5, "312 Mb/s"), (9876.5, "9,876 Mb/s")],
)
def test_rates_name_megabits(megabits_per_s: float | None, text: str) -> None:
    assert formats.rate(megabits_per_s) == text


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Score(value=0.953, low=0.912, high=0.9801, note=""), "0.953 (0.91 to 0.98)"),
        (Score(value=0.9991, low=0.9982, high=0.9999, note=""), "0.999 (0.998 to 1.000)"),
        (Score(value=0.9, low=None, high=None, note="one patient"), "0.900 (no interval)"),
        (Score(value=None, low=None, high=None, note="one class only"), "one class only"),
        (Score(value=None, low=None, high=None, note=""), "not computed"),
        (None, "not computed"),
    ],
)
def test_a_figure_of_merit_has_its_interval_or_a_reason(figure: Score | None, text: str) -> None:
    assert formats.score(figure) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"), [(1238.4, 2, "1,238.40"), (0.004, 2, "< 0.01"), (0.0, 2, "0.00"), (842.06, 1, "842.1")]
)
def test_columns_keep_their_digits_and_small_is_not_nothing(value: float, digits: int, text: str) -> None:
    assert formats.decimal(value, digits) == text


def test_megabytes_are_millions_of_bytes() -> None:
    assert formats.megabytes(8_388_608) == "8.39"


@pytest.mark.parametrize(("share", "text"), [(0.0, "0 %"), (0.001, "< 1 %"), (0.374, "37 %"), (1.0, "100 %")])
def test_shares_are_percents(share: float, text: str) -> None:
    assert formats.percent(share) == text


def test_a_missing_fraction_is_words() -> None:
    assert formats.fraction(None, "one class only") == "one class only"
    assert formats.fraction(0.98765) == "0.988"


@pytest.mark.parametrize(
    ("started", "text"),
    [
        ("2026-03-02T09:14:07+01:00", "2026-03-02 08:14:07 UTC"),
        ("2026-03-02T08:14:07Z", "2026-03-02 08:14:07 UTC"),
        ("2026-03-02T08:14:07.5", "2026-03-02 08:14:07 UTC"),
        ("this morning", "this morning"),
    ],
)
def test_starts_are_told_in_utc(started: str, text: str) -> None:
    assert formats.utc(started) == text

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import InputError
from transfer.benchmark import parse_size, routes
from transfer.figures import LineFit, break_even_bytes, line_fit, median_rate

MB = 10**6


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1MB", MB), ("100 MB", 100 * MB), ("2GB", 2 * 10**9), ("500kB", 500_000), ("1.5GB", 1_500_000_000), ("7", 7)],
)
def test_sizes_are_decimal(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "1MiB", "1e9", "ten"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no size"):
        parse_size(text)


def test_routes_go_both_ways() -> None:
    assert routes(["a", "b", "c"]) == [("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("c", "a"), ("c", "b")]


def test_the_interval_holds_the_median_and_needs_three_repeats() -> None:
    found = median_rate([100.0, 110.0, 90.0, 105.0, 95.0])
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.median == 100.0
    assert 90 <= found.low <= 100 <= found.high <= 110
    assert median_rate([1.0, 3.0]) == median_rate([1.0, 3.0])
    two = median_rate([1.0, 3.0])
    assert two is not None
    assert (two.median, two.low, two.high, two.repeats) == (2.0, None, None, 2)
    assert median_rate([]) is None


@given(st.floats(0.01, 20), st.floats(10, 10_000))
def test_a_line_is_found_again(start_s: float, megabits_per_s: float) -> None:
    line = LineFit(start_s=start_s, megabits_per_s=megabits_per_s)
    sizes = [MB, 10 * MB, 100 * MB, 1000 * MB]
    found = line_fit(sizes, [line.seconds(size) for size in sizes])
    assert found is not None
    assert found.start_s == pytest.approx(start_s, rel=1e-4, abs=1e-6)
    assert found.megabits_per_s == pytest.approx(megabits_per_s, rel=1e-4)


def test_the_break_even_point_of_the_papers_kind() -> None:
    scp = LineFit(start_s=0.5, megabits_per_s=280)
    fdt = LineFit(start_s=7.0, megabits_per_s=800)
    point = break_even_bytes(scp, fdt)
    assert point is not None
    assert scp.seconds(point) == pytest.approx(fdt.seconds(point))
    assert scp.seconds(point / 2) < fdt.seconds(point / 2)
    assert scp.seconds(point * 2) > fdt.seconds(point * 2)
    assert break_even_bytes(fdt, scp) is None
    assert break_even_bytes(scp, LineFit(start_s=7.0, megabits_per_s=100)) is None


def test_no_line_through_one_size_or_through_nonsense() -> None:
    assert line_fit([MB, MB], [1.0, 2.0]) is None
    assert line_fit([MB, 100 * MB], [10.0, 0.1]) is None
    flat = line_fit([MB, 100 * MB], [0.01, 1.0])
    assert flat is not None
    assert flat.start_s == pytest.approx(0.0, abs=1e-6)

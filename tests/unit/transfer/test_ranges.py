from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from transfer import ranges

SIZE = 60
parts = st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, 20)).filter(lambda p: sum(p) <= SIZE), max_size=8)


def bytes_of(some: list[ranges.Range]) -> set[int]:
    return {byte for start, length in some for byte in range(start, start + length)}


@given(parts)
def test_merged_ranges_are_the_same_bytes_in_order_and_apart(some: list[ranges.Range]) -> None:
    merged = ranges.merged(some)
    assert bytes_of(merged) == bytes_of(some)
    assert ranges.total_bytes(merged) == len(bytes_of(some))
    assert all(a[0] + a[1] < b[0] for a, b in pairwise(merged))


@given(parts, st.integers(1, 70))
def test_missing_is_the_rest_cut_into_chunks(some: list[ranges.Range], chunk: int) -> None:
    missing = ranges.missing(ranges.merged(some), SIZE, chunk)
    assert bytes_of(missing) == set(range(SIZE)) - bytes_of(some)
    assert missing == sorted(missing)
    assert all(start // chunk == (start + length - 1) // chunk for start, length in missing)


@given(parts, parts)
def test_without_takes_bytes_away(some: list[ranges.Range], others: list[ranges.Range]) -> None:
    left = ranges.without(ranges.merged(some), others)
    assert bytes_of(left) == bytes_of(some) - bytes_of(others)
    assert left == ranges.merged(left)


@given(st.tuples(st.integers(0, 50), st.integers(1, 10)), parts)
def test_overlap_counts_common_bytes(part: ranges.Range, some: list[ranges.Range]) -> None:
    assert ranges.overlap_bytes(part, ranges.merged(some)) == len(bytes_of([part]) & bytes_of(some))


def test_only_ranges_of_the_file_are_parsed() -> None:
    assert ranges.parsed([0, 5], 5) == (0, 5)
    for nonsense in ([0, 6], [-1, 2], [0, 0], [0], [0, 1, 2], ["0", 1], [0.0, 1], {"a": 1}, None, [True, "x"]):
        assert ranges.parsed(nonsense, 5) is None

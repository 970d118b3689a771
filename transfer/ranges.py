"""Byte ranges of a file, as (first byte, length) with length > 0."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Range = tuple[int, int]


def merged(parts: list[Range]) -> list[Range]:
    """Return the same bytes as sorted ranges that neither overlap nor touch."""
    result: list[Range] = []
    for start, length in sorted(parts):
        if result and start <= result[-1][0] + result[-1][1]:
            last_start, last_length = result[-1]
            result[-1] = (last_start, max(last_length, start + length - last_start))
        else:
            result.append((start, length))
    return result


def missing(arrived: list[Range], file_bytes: int, chunk_bytes: int) -> list[Range]:
    """Return what of the file is not in `arrived` (merged), in order, cut at multiples of `chunk_bytes`."""
    gaps: list[Range] = []
    position = 0
    for start, length in [*arrived, (file_bytes, 0)]:
        while position < start:
            stop = min(start, (position // chunk_bytes + 1) * chunk_bytes)
            gaps.append((position, stop - position))
            position = stop
        position = start + length
    return gaps


def without(parts: Sequence[Range], others: Sequence[Range]) -> list[Range]:
    """Return what of `parts` (merged) does not lie in `others`."""
    left = list(parts)
    for first, size in others:
        stop = first + size
        cut = [(start, min(start + length, first) - start) for start, length in left]
        cut += [(max(start, stop), start + length - max(start, stop)) for start, length in left]
        left = [part for part in cut if part[1] > 0]
    return merged(left)


def overlap_bytes(part: Range, others: list[Range]) -> int:
    """Count the bytes of `part` that lie in `others` (merged)."""
    start, stop = part[0], part[0] + part[1]
    return sum(max(0, min(stop, first + length) - max(start, first)) for first, length in others)


def total_bytes(parts: list[Range]) -> int:
    """Count the bytes of merged ranges."""
    return sum(length for _, length in parts)


def parsed(value: object, file_bytes: int) -> Range | None:
    """Read a range from JSON; None unless it is one of a file of this size."""
    match value:
        case [int(start), int(length)] if start >= 0 and length > 0 and start + length <= file_bytes:
            return start, length
    return None


def prefix_bytes(parts: Iterable[Range]) -> int:
    """Count the bytes from the start of the file that are covered without a gap; `parts` are merged."""
    return next((length for start, length in parts if start == 0), 0)

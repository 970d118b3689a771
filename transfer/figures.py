"""What the trials of a benchmark say: medians with intervals, break-even points, fits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tasks.artifacts import Record

_RESAMPLES = 2000
_LEAST_POINTS = 2


class MedianRate(Record):
    """Median of repeats with the 95 % interval of a bootstrap over them; no interval below three repeats."""

    median: float
    low: float | None = None
    high: float | None = None
    repeats: int


class LineFit(Record):
    """Time as a start and a rate: ``seconds = start_s + bytes · 8 / 10^6 / megabits_per_s``."""

    start_s: float
    megabits_per_s: float

    def seconds(self, size_bytes: float) -> float:
        """Time for so many bytes."""
        return self.start_s + size_bytes * 8 / 1e6 / self.megabits_per_s


def median_rate(values: Sequence[float], *, seed: int = 0) -> MedianRate | None:
    """Give the median of repeats; None without any."""
    if not values:
        return None
    if len(values) < 3:
        return MedianRate(median=float(np.median(values)), repeats=len(values))
    drawn = np.random.default_rng(seed).choice(np.asarray(values), (_RESAMPLES, len(values)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return MedianRate(median=float(np.median(values)), low=float(low), high=float(high), repeats=len(values))


def line_fit(sizes_bytes: Sequence[float], seconds: Sequence[float]) -> LineFit | None:
    """Fit start and rate to medians by relative least squares, so that small files count as much as large ones.

    None with fewer than two sizes, or where larger files did not take longer.
    """
    if len(set(sizes_bytes)) < _LEAST_POINTS:
        return None
    weight = 1.0 / np.asarray(seconds)
    design = np.stack([np.ones(len(seconds)), np.asarray(sizes_bytes, float)], axis=1) * weight[:, None]
    start_s, s_per_byte = np.linalg.lstsq(design, np.ones(len(seconds)), rcond=None)[0]
    if start_s < 0:  # a start before zero means that there is none
        start_s, s_per_byte = 0.0, 1.0 / float(np.mean(np.asarray(sizes_bytes) * weight))
    if s_per_byte <= 0 or not math.isfinite(s_per_byte):
        return None
    return LineFit(start_s=float(start_s), megabits_per_s=float(8 / 1e6 / s_per_byte))


def break_even_bytes(early: LineFit, late: LineFit) -> float | None:
    """Give the file size from which on `late`, which starts slower and runs faster, is the faster one.

    None where one of them is faster for all sizes.
    """
    slower_start_s = late.start_s - early.start_s
    gain_s_per_byte = 8 / 1e6 / early.megabits_per_s - 8 / 1e6 / late.megabits_per_s
    if slower_start_s <= 0 or gain_s_per_byte <= 0:
        return None
    return slower_start_s / gain_s_per_byte

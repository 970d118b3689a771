"""Numbers as people read them: decimal units, no more digits than the number has."""

from __future__ import annotations

from datetime import UTC, datetime

from tasks.report.data import Score

_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_BYTES_A_STEP = 1000
_BYTES_A_MEGABYTE = 1_000_000
_SECONDS_A_MINUTE = 60
_SECONDS_AN_HOUR = 3600
_ONE_DECIMAL_BELOW_S = 10


def size(count_bytes: int) -> str:
    """Write bytes in decimal units, for example ``1.24 GB`` (GB = 10^9 bytes)."""
    value, step = float(count_bytes), 0
    # From 999.5 on it would be written as 1,000.
    while value >= _BYTES_A_STEP - 0.5 and step < len(_BYTE_UNITS) - 1:
        value, step = value / _BYTES_A_STEP, step + 1
    return f"{count_bytes} B" if step == 0 else f"{quantity(value)} {_BYTE_UNITS[step]}"


def megabytes(count_bytes: int) -> str:
    """Write bytes as a number of MB (10^6 bytes) for a column whose heading has the unit."""
    return decimal(count_bytes / _BYTES_A_MEGABYTE, 2)


def duration(seconds: float) -> str:
    """Write a time as ``4.2 s``, ``42 s``, ``2 min 05 s`` or ``3 h 07 min``."""
    if 0 < seconds < 0.05:
        return "under 0.1 s"
    if round(seconds, 1) < _ONE_DECIMAL_BELOW_S:
        return f"{seconds:.1f} s"
    whole_s = round(seconds)
    if whole_s < _SECONDS_A_MINUTE:
        return f"{whole_s} s"
    if whole_s < _SECONDS_AN_HOUR:
        return f"{whole_s // _SECONDS_A_MINUTE} min {whole_s % _SECONDS_A_MINUTE:02} s"
    whole_min = round(seconds / _SECONDS_A_MINUTE)
    return f"{whole_min // 60:,} h {whole_min % 60:02} min"


def rate(megabits_per_s: float | None) -> str:
    """Write a rate as ``812 Mb/s`` (Mb = 10^6 bits), or say that there is none."""
    return "not measured" if megabits_per_s is None else f"{quantity(megabits_per_s)} Mb/s"


def rate_interval(median: float, low: float | None, high: float | None) -> str:
    """Write a rate for a column whose heading has the unit, with its interval where it has one: ``81 (79 to 83)``."""
    between = "" if low is None or high is None else f" ({quantity(low)} to {quantity(high)})"
    return f"{quantity(median)}{between}"


def score(figure: Score | None) -> str:
    """Write a figure of merit as ``0.953 (0.91 to 0.98)``, or the reason why it does not exist."""
    if figure is None:
        return "not computed"
    if figure.value is None:
        return figure.note or "not computed"
    return f"{fraction(figure.value)} ({interval(figure) or 'no interval'})"


def interval(figure: Score) -> str | None:
    """Write the 95 % interval of a figure of merit as ``0.91 to 0.98``; None when it has none.

    Two decimals; three when two would make the ends look equal.
    """
    if figure.low is None or figure.high is None:
        return None
    digits = 2 if f"{figure.low:.2f}" != f"{figure.high:.2f}" else 3
    return f"{figure.low:.{digits}f} to {figure.high:.{digits}f}"


def fraction(value: float | None, absent: str = "none") -> str:
    """Write a number between 0 and 1 with three decimals, or `absent`."""
    return absent if value is None else f"{value:.3f}"


def percent(share: float) -> str:
    """Write a share as ``37 %``; a small one that is not zero as ``< 1 %``."""
    return "< 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def quantity(value: float) -> str:
    """Write a number that is not negative with about three significant digits, never in powers of ten."""
    digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2 if value >= 0.9995 or value == 0 else 3
    return "0" if value == 0 else f"{value:,.{digits}f}"


def decimal(value: float, digits: int) -> str:
    """Write a number for a column in which the points stand under each other; one too small says so."""
    least = 10.0**-digits
    return f"< {least:.{digits}f}" if 0 < value < least / 2 else f"{value:,.{digits}f}"


def count(value: int) -> str:
    """Write a whole number with commas between thousands."""
    return f"{value:,}"


def utc(started: str) -> str:
    """Write an ISO 8601 time as ``2026-03-01 09:30:00 UTC``; a time without a zone is UTC already.

    Text that is no such time comes back as it is.
    """
    try:
        moment = datetime.fromisoformat(started)
    except ValueError:
        return started
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"

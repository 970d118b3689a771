"""Totals of a ledger: how much went from where to where, and how fast."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from tasks.artifacts import Record
from transfer.ledger import LedgerRow, megabits_per_s


class RouteTotals(Record):
    """All attempts from one site to another over one protocol.

    Attributes
    ----------
    files, file_bytes
        Different files that are at the destination, and their bytes.
    already
        Files of these that nothing had to be sent for.
    failed_attempts
        Attempts that failed, whether the file came through later or not.
    wire_bytes, wire_seconds
        Sums over all attempts. Files that travel side by side count their seconds each.
    median_megabits_per_s
        Median over the attempts that finished a file.
    aggregate_megabits_per_s
        ``wire_bytes · 8 / 10^6 / wire_seconds`` of the sums, without the attempts that were flagged.
    """

    source: str
    destination: str
    protocol: str
    files: int
    file_bytes: int
    already: int
    failed_attempts: int
    wire_bytes: int
    wire_seconds: float
    verify_seconds: float
    bytes_resent: int
    median_megabits_per_s: float | None
    aggregate_megabits_per_s: float | None


def route_totals(rows: Iterable[LedgerRow]) -> list[RouteTotals]:
    """Sum up a ledger by (source, destination, protocol), in that order."""
    routes: dict[tuple[str, str, str], list[LedgerRow]] = {}
    for row in rows:
        routes.setdefault((row.source, row.destination, row.protocol), []).append(row)
    return [_totals(*route, routes[route]) for route in sorted(routes)]


def _totals(source: str, destination: str, protocol: str, rows: list[LedgerRow]) -> RouteTotals:
    sent = {row.path for row in rows if row.outcome == "done"}
    there = {row.path: row.file_bytes for row in rows if row.outcome != "failed"}
    rates = [row.megabits_per_s for row in rows if row.outcome == "done" and row.megabits_per_s is not None]
    wire_bytes = sum(row.wire_bytes for row in rows)
    wire_seconds = sum(row.wire_seconds for row in rows)
    timed_bytes = sum(row.wire_bytes for row in rows if row.wire_seconds > 0)
    return RouteTotals(
        source=source,
        destination=destination,
        protocol=protocol,
        files=len(there),
        file_bytes=sum(there.values()),
        already=len(there.keys() - sent),
        failed_attempts=sum(row.outcome == "failed" for row in rows),
        wire_bytes=wire_bytes,
        wire_seconds=wire_seconds,
        verify_seconds=sum(row.verify_seconds for row in rows),
        bytes_resent=sum(row.bytes_resent for row in rows),
        median_megabits_per_s=median(rates) if rates else None,
        aggregate_megabits_per_s=megabits_per_s(timed_bytes, wire_seconds),
    )

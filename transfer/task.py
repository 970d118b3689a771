"""Transfers as Prefect tasks."""

from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from transfer.ledger import Ledger
from transfer.model import Batch, Outcome, TransferOptions
from transfer.mover import open_mover
from transfer.summary import route_totals


@task(task_run_name="{batch.source.site} to {batch.destination.site}", cache_policy=NO_CACHE)
def move_batch(batch: Batch, *, protocol: str, options: TransferOptions, ledger_path: Path) -> list[Outcome]:
    """Move a batch; see `transfer.mover.Mover`. Attempts are the mover's business, so the task has none of its own."""
    log = get_run_logger()
    ledger = Ledger(ledger_path)
    rows_before = len(ledger.read())
    mover = open_mover(protocol, batch.source, batch.destination, options, ledger)
    outcomes = mover.move(batch)
    for totals in route_totals(ledger.read()[rows_before:]):
        log.info(
            "%s → %s over %s: %d files, %d bytes sent in %.2f s (%s Mb/s), verified in %.2f s, %d bytes sent again",
            totals.source,
            totals.destination,
            totals.protocol,
            totals.files,
            totals.wire_bytes,
            totals.wire_seconds,
            "no" if totals.aggregate_megabits_per_s is None else f"{totals.aggregate_megabits_per_s:.1f}",
            totals.verify_seconds,
            totals.bytes_resent,
        )
    for outcome in outcomes:
        if outcome.state == "failed":
            log.error("%s", outcome.error)
    return outcomes

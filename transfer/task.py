"""Transfers as Prefect tasks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE

from transfer.ledger import Ledger
from transfer.model import Batch, Outcome, TransferOptions
from transfer.mover import open_mover
from transfer.pace import Pace
from transfer.summary import route_totals

_TELL_EVERY_S = 5.0
_terminal = logging.getLogger(__name__)


@task(task_run_name="{batch.source.site} to {batch.destination.site}", cache_policy=NO_CACHE)
def move_batch(batch: Batch, *, protocol: str, options: TransferOptions, ledger_path: Path) -> list[Outcome]:
    """Move a batch; see `transfer.mover.Mover`. Attempts are the mover's business, so the task has none of its own."""
    log = get_run_logger()
    ledger = Ledger(ledger_path)
    rows_before = len(ledger.read())
    sizes = [entry.bytes for entry in batch.entries]
    mover = open_mover(protocol, batch.source, batch.destination, options, ledger, file_bytes=sizes)
    with _told_on_the_way(batch) as pace:
        outcomes = mover.move(batch, pace.take)
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


@contextmanager
def _told_on_the_way(batch: Batch) -> Iterator[Pace]:
    """Tell the progress every few seconds, on the terminal and as the artifact ``transfer-progress``."""
    pace, ended = Pace(batch.entries), threading.Event()
    route = f"{batch.source.site} → {batch.destination.site}"
    artifact: Any = None
    with _server_may_be_away():
        artifact = create_progress_artifact(0.0, key="transfer-progress", description=route)

    def tell() -> None:
        if artifact is not None:
            with _server_may_be_away():
                update_progress_artifact(
                    artifact, min(100.0, pace.share_percent), description=f"{route}: {pace.told()}"
                )

    def follow() -> None:
        while not ended.wait(_TELL_EVERY_S):
            _terminal.info("%s: %s", route, pace.told())
            tell()

    follower = threading.Thread(target=follow, name="camnet-progress", daemon=True)
    follower.start()
    try:
        yield pace
    finally:
        ended.set()
        follower.join()
        tell()


@contextmanager
def _server_may_be_away() -> Iterator[None]:
    """Go on with the transfer also when the server does not hear of it."""
    try:
        yield
    except Exception as error:  # whatever its client raises
        _terminal.warning("the Prefect server was not told: %s", error)

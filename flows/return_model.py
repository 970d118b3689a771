"""Private fine-tuning: the model that was trained where the slides stay goes back, and nothing that shows them."""

from __future__ import annotations

import time

from deployments.sites import site_named
from flows.context import RunContext
from flows.endpoints import endpoint, local_endpoint
from flows.site_flow import site_flow
from flows.stage import move
from flows.train import TrainResult
from tasks.artifacts import Artifact, Record
from transfer.ledger import Ledger
from transfer.manifest import Entry, Kind
from transfer.model import Batch
from transfer.summary import RouteTotals, route_totals

_KINDS: dict[str, Kind] = {".h5": "weights", ".json": "report", ".png": "report", ".jsonl": "log"}


class ReturnResult(Record):
    """Where the model has gone; `folder` is relative to the root of that site."""

    destination: str
    folder: str
    files: int
    bytes: int
    routes: tuple[RouteTotals, ...]
    seconds: float


@site_flow
def return_model(context: RunContext, trained: TrainResult, destination: str) -> ReturnResult:
    """Move the files of a model to the same place below the root of another site.

    Weights, card, log and curves may leave a resident site; its card names no patient. The card goes last: where it
    is, the model is complete.

    Raises
    ------
    RetryableFault, PermanentFault, IntegrityError, PolicyRefusal
        The worst fault of the files that did not arrive; those that did are kept.
    """
    started = time.monotonic()
    source, target = context.trainer, site_named(context.sites, destination)
    ledger = Ledger(context.folder_at(source) / "ledger.jsonl")
    before = len(ledger.read())
    entries = sorted((model_entry(artifact) for artifact in trained.files), key=lambda entry: entry.path)
    cards = [entry for entry in entries if entry.path.endswith("card.json")]
    for some in ([entry for entry in entries if entry not in cards], cards):
        batch = Batch(
            run=context.config.name,
            source=local_endpoint(source),
            destination=endpoint(target),
            entries=tuple(some),
        )
        move(context, batch, ledger, protocol=context.config.transfer.protocol)
    return ReturnResult(
        destination=target.name,
        folder=trained.folder,
        files=len(entries),
        bytes=sum(entry.bytes for entry in entries),
        routes=tuple(route_totals(ledger.read()[before:])),
        seconds=time.monotonic() - started,
    )


def model_entry(artifact: Artifact) -> Entry:
    """Say what a file of a model folder holds: none of them has pixels of a slide."""
    suffix = "." + artifact.path.rsplit(".", 1)[-1]
    return Entry(path=artifact.path, kind=_KINDS[suffix], bytes=artifact.bytes, digest=artifact.digest)

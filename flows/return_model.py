"""Private fine-tuning: the model that was trained where the slides stay goes back, and nothing that shows them."""

from __future__ import annotations

import time

from deployments.sites import Site, site_named
from flows.context import RunContext
from flows.endpoints import endpoint, local_endpoint
from flows.site_flow import site_flow
from flows.stage import move
from flows.train import TrainResult
from tasks.artifacts import Artifact, Record
from tasks.digests import file_digest
from tasks.errors import IntegrityError, PolicyRefusal
from tasks.training.card import read_card
from tasks.training.folder import CARD_NAME, CURVES_NAME, LOG_NAME, RELIABILITY_NAME, ROC_NAME, WEIGHTS_NAME
from tasks.training.unnamed import unnamed
from transfer.ledger import Ledger
from transfer.manifest import Entry, Kind
from transfer.model import Batch
from transfer.summary import RouteTotals, route_totals

_KINDS: dict[str, Kind] = {
    WEIGHTS_NAME: "weights",
    CARD_NAME: "report",
    CURVES_NAME: "report",
    ROC_NAME: "report",
    RELIABILITY_NAME: "report",
    LOG_NAME: "log",
}


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

    Weights, card, log and the pictures of curves may leave a resident site; its card names no patient. The card goes
    last: where it is, the model is complete.

    Raises
    ------
    RetryableFault, PermanentFault, IntegrityError, PolicyRefusal
        The worst fault of the files that did not arrive; those that did are kept.
    PolicyRefusal
        Something else is to go with them, or the card of a resident site names patients.
    """
    started = time.monotonic()
    source, target = context.trainer, site_named(context.sites, destination)
    _refuse_names(source, trained)
    ledger = Ledger(context.folder_at(source) / "ledger.jsonl")
    before = len(ledger.read())
    entries = sorted((model_entry(artifact) for artifact in trained.files), key=lambda entry: entry.path)
    cards = [entry for entry in entries if entry.path.endswith(f"/{CARD_NAME}")]
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
    """Say what a file of a model folder holds; any other file could hold pixels."""
    kind = _KINDS.get(artifact.path.rsplit("/", 1)[-1])
    if kind is None:
        raise PolicyRefusal(
            "is no part of a model and does not go with it",
            subject=artifact.path,
            remedy="move it with `camnet transfer`",
        )
    return Entry(path=artifact.path, kind=kind, bytes=artifact.bytes, digest=artifact.digest)


def _refuse_names(source: Site, trained: TrainResult) -> None:
    """Look into the folder itself: the weights must be a model's, and the card as it may leave."""
    folder = source.root / trained.folder
    card = read_card(folder / CARD_NAME)
    if file_digest(folder / WEIGHTS_NAME) != card.weights_digest:
        raise IntegrityError(
            f"has not the digest {card.weights_digest} that its card names", subject=folder, remedy="train anew"
        )
    if source.policy == "resident" and unnamed(card) != card:
        raise PolicyRefusal(
            "has a card that names patients, and may not leave a resident site",
            subject=folder,
            remedy="train again: cards are written without names at resident sites",
        )

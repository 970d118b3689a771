"""Moves what a manifest names from one site to another, measured and verified."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from prefect.artifacts import create_table_artifact

from deployments.sites import Site, site_named
from flows.context import RunContext
from flows.endpoints import endpoint, local_endpoint
from flows.expected_shards import announce
from flows.site_flow import site_flow
from tasks import atomic
from tasks.artifacts import Artifact, Record
from tasks.digests import bytes_digest
from tasks.errors import IntegrityError, PermanentFault, PolicyRefusal, RetryableFault
from transfer.ledger import Ledger
from transfer.manifest import Entry, Manifest, read_manifest
from transfer.model import Batch, Endpoint, Outcome, TransferOptions
from transfer.policy import refuse_forbidden
from transfer.summary import RouteTotals, route_totals
from transfer.task import move_batch

_FAULTS = {
    "retryable": RetryableFault,
    "permanent": PermanentFault,
    "integrity": IntegrityError,
    "policy": PolicyRefusal,
}


class StageResult(Record):
    """What was moved. `reused`: the same manifest had been moved to that site before."""

    manifest: Artifact
    destination: str
    files: int
    bytes: int
    routes: tuple[RouteTotals, ...]
    seconds: float
    reused: bool


@site_flow
def stage(context: RunContext, manifest: Artifact, destination: str, again: bool = False) -> StageResult:
    """Move the files of `manifest` (a path at the source site) to the same place below the destination's root.

    The manifest itself travels last: if it is there, all that it names is complete and verified. For a training that
    follows arriving shards, the list of those that it may expect travels first.

    Parameters
    ----------
    again
        Look at every file at the destination also when this manifest was moved there before.

    Raises
    ------
    RetryableFault, PermanentFault, IntegrityError, PolicyRefusal
        The worst fault of the files that did not arrive; those that did are kept.
    """
    started = time.monotonic()
    source, target = context.source, site_named(context.sites, destination)
    folder = manifest.under(source.root).parent
    named = read_manifest(manifest.under(source.root))
    announced = [announce(manifest.under(source.root))] if context.config.train.arrival.follow else []
    ledger = run_ledger(context)
    record = _record(context, named, endpoint(target))
    before = len(ledger.read())
    reused = source.name == target.name or (
        not again and record.is_file() and _still_there(target, folder, source, named)
    )
    if not reused:
        batch = staged_batch(context, manifest, destination)
        protocol = context.config.transfer.protocol
        refuse_forbidden(batch)  # the list of the shards names patients: it goes nowhere where they may not go
        for entry in announced:
            move(context, batch.model_copy(update={"entries": (entry,)}), ledger, protocol=protocol)
        move(context, batch, ledger, protocol=protocol)
        last = batch.model_copy(update={"entries": (_manifest_entry(folder, manifest),)})
        move(context, last, ledger, protocol=protocol)
        atomic.write_text(record, json.dumps({"manifest": named.digest, "destination": target.name}))
    routes = route_totals(ledger.read()[0 if reused else before :])
    create_table_artifact(transfer_table(routes), key="transfers", description="Mb/s: 10^6 bits per wire second")
    return StageResult(
        manifest=manifest,
        destination=destination,
        files=len(named.entries),
        bytes=named.total_bytes,
        routes=tuple(routes),
        seconds=time.monotonic() - started,
        reused=reused,
    )


def run_ledger(context: RunContext) -> Ledger:
    """Give the ledger of a run's transfers."""
    return Ledger(context.folder_at(context.source) / "ledger.jsonl")


def staged_batch(context: RunContext, manifest: Artifact, destination: str) -> Batch:
    """Give the files of `manifest` as a batch that goes to the same place below the destination's root."""
    source = context.source
    path = manifest.under(source.root)
    folder = path.parent.relative_to(source.root).as_posix()
    return Batch(
        run=context.config.name,
        source=local_endpoint(source),
        destination=endpoint(site_named(context.sites, destination)),
        entries=read_manifest(path).entries,
        source_folder=folder,
        destination_folder=folder,
    )


def transfer_options(context: RunContext) -> TransferOptions:
    """Give the mover's options of the run's configuration."""
    return TransferOptions(**context.config.transfer.model_dump(exclude={"protocol"}))


def transfer_table(routes: list[RouteTotals]) -> list[dict[str, Any]]:
    """Give the summary of a ledger as rows of a table, units in the headings."""
    return [route.model_dump() for route in routes]


def _record(context: RunContext, named: Manifest, target: Endpoint) -> Path:
    """Name the record of this manifest having been moved to that place."""
    place = f"{named.digest} {target.site} {target.ssh.host if target.ssh else ''} {target.root}"
    return context.folder_at(context.source) / "transfers" / f"{bytes_digest(place.encode()).split(':')[1][:32]}.json"


def _still_there(target: Site, folder: Path, source: Site, named: Manifest) -> bool:
    """Look for the files where that costs nothing; training checks the digests of what it reads anyway."""
    if not target.is_folder_here:
        return True
    there = target.root / folder.relative_to(source.root)
    return all(
        (there / entry.path).is_file() and (there / entry.path).stat().st_size == entry.bytes for entry in named.entries
    )


def _manifest_entry(folder: Path, manifest: Artifact) -> Entry:
    name = Path(manifest.path).name
    return Entry(path=name, kind="log", bytes=manifest.bytes, rows=None, digest=manifest.digest)


def move(context: RunContext, batch: Batch, ledger: Ledger, *, protocol: str) -> None:
    """Move a batch; raise the worst fault of the files that did not arrive."""
    outcomes = move_batch(batch, protocol=protocol, options=transfer_options(context), ledger_path=ledger.path)
    _raise_worst(outcomes, batch)


def _raise_worst(outcomes: list[Outcome], batch: Batch) -> None:
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    for kind, fault in reversed(_FAULTS.items()):
        first = next((outcome for outcome in failed if outcome.kind == kind), None)
        if first is not None:
            raise fault(
                f"{len(failed)} of {len(outcomes)} files did not arrive at {batch.destination.site}; "
                f"first: {first.path}: {first.error}",
                remedy=first.remedy,
            )

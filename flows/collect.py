"""Brings the small results of a run (scores, pictures, model card) to the coordinator's run folder."""

from __future__ import annotations

import time
from collections.abc import Iterable

from deployments.sites import Site
from flows.context import RunContext
from flows.endpoints import endpoint
from flows.explain import ExplainResult
from flows.infer import InferResult
from flows.preprocess import PreprocessResult
from flows.run_state import Collected
from flows.stage import move
from flows.train import TrainResult
from tasks.artifacts import Artifact
from transfer.ledger import Ledger
from transfer.manifest import PIXEL_KINDS, Entry, Kind
from transfer.model import Batch, Endpoint
from transfer.summary import route_totals

FOLDER = "collected"
COORDINATOR = "coordinator"


def collect(
    context: RunContext,
    made: PreprocessResult,
    trained: TrainResult,
    scored: InferResult,
    explained: ExplainResult,
) -> Collected:
    """Pull what the report shows from the sites; what a policy keeps at its site is counted, not asked for."""
    started = time.monotonic()
    ledger = Ledger(context.run_folder / "ledger.jsonl")
    before, kept = len(ledger.read()), 0
    sampling = [
        _entry("thumbnail", file.artifact)
        for outcome in made.outcomes
        for file in outcome.files
        if "/sampling/" in file.artifact.path
    ]
    results = [_entry("report", artifact) for artifact in trained.files if artifact.path.endswith((".png", ".json"))]
    results += [_entry("scores", slide.scores_file) for slide in scored.slides]
    results += [_entry("thumbnail", slide.heatmap) for slide in scored.slides]
    results += [_entry("thumbnail", slide.panel) for slide in explained.slides]
    for site, entries in ((context.source, sampling), (context.trainer, results)):
        kept += _pull(context, site, entries, ledger)
    return Collected(
        folder=context.run_folder / FOLDER,
        routes=tuple(route_totals(ledger.read()[before:])),
        kept_at_site=kept,
        seconds=time.monotonic() - started,
    )


def _pull(context: RunContext, site: Site, entries: Iterable[Entry], ledger: Ledger) -> int:
    """Move what may leave the site; give the number of files that may not."""
    wanted = sorted(entries, key=lambda entry: entry.path)
    leaving = [entry for entry in wanted if site.policy == "open" or entry.kind not in PIXEL_KINDS]
    batch = Batch(
        run=context.config.name,
        source=endpoint(site),
        destination=Endpoint(site=COORDINATOR, root=str(context.run_folder)),
        entries=tuple(leaving),
        destination_folder=FOLDER,
    )
    move(context, batch, ledger, protocol="auto")
    return len(wanted) - len(leaving)


def _entry(kind: Kind, artifact: Artifact) -> Entry:
    return Entry(path=artifact.path, kind=kind, bytes=artifact.bytes, digest=artifact.digest)

"""Gathers what the report shows from the state of a run, and writes the page."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.context import FlowRunContext

from flows.placement import Placement, placements
from flows.run_state import RunState
from tasks.artifacts import Artifact
from tasks.auc import Measure
from tasks.patches.outcome import SlideOutcome
from tasks.report.data import HeatmapRow, ReportData, Score, SlideRow, StageTime, TransferRow
from tasks.report.page import write_report
from tasks.report.quality import quality_rows, threshold_line
from tasks.training.folder import CURVES_NAME, RELIABILITY_NAME, ROC_NAME
from transfer.summary import RouteTotals

REPORT_NAME = "report.html"
_VERSIONS = (
    "camnet",
    "prefect",
    "dask",
    "tensorflow-cpu",
    "tensorflow",
    "keras",
    "horovod",
    "h5py",
    "openslide-python",
)
_TRUTH = {1: "tumour", 0: "negative", None: "unknown"}


def report(state: RunState) -> Path:
    """Write ``report.html`` of a run, finished or not; inside a flow it is also linked as an artifact."""
    path = state.context.run_folder / REPORT_NAME
    write_report(report_data(state), path)
    if FlowRunContext.get() is not None:
        create_link_artifact(path.as_uri(), link_text="report.html", key="report")
        create_markdown_artifact(summary_markdown(state), key="run-summary", description=state.context.config.name)
    return path


def report_data(state: RunState) -> ReportData:
    """Give everything that the page shows."""
    trained, scored = state.trained, state.inferred
    return ReportData(
        run=state.context.config.name,
        started=state.started,
        seconds=state.seconds,
        state=state.state,
        versions={name: found for name in _VERSIONS if (found := _version(name))},
        machine=f"{platform.node()}, {platform.machine()}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}",
        configuration=state.context.config.model_dump_json(indent=2),
        stages=_stages(state),
        slides=tuple(_slide(outcome) for outcome in (state.preprocessed.outcomes if state.preprocessed else ())),
        transfers=tuple(_route(route) for route in _routes(state)),
        model=_model(state),
        quality=quality_rows(trained.card) if trained else (),
        curves=_model_picture(state, CURVES_NAME),
        roc=_model_picture(state, ROC_NAME),
        reliability=_model_picture(state, RELIABILITY_NAME),
        patch_auc=_score(scored.evaluation.patch_auc) if scored and scored.evaluation else None,
        slide_auc=_score(scored.evaluation.slide_auc) if scored and scored.evaluation else None,
        heatmaps=_heatmaps(state),
        thumbnails=_thumbnails(state),
        failures=state.failures,
        notes=_notes(state),
    )


def summary_markdown(state: RunState) -> str:
    """Tell the run in a few lines."""
    data = report_data(state)
    lines = [f"# {data.run}: {data.state}", "", "| stage | site | seconds | |", "|---|---|---|---|"]
    lines += [
        f"| {row.stage} | {row.site} | {row.seconds:.1f} | {'found finished' if row.reused else row.detail} |"
        for row in data.stages
    ]
    for name, score in (("Patch", data.patch_auc), ("Slide", data.slide_auc)):
        if score is not None:
            figure = score.note if score.value is None else f"{score.value:.3f}"
            lines += ["", f"{name} AUC on slides that were not trained on: {figure}"]
    lines += ["", *(f"- **{f.stage}** {f.subject}: {f.cause}" for f in data.failures)]
    return "\n".join(lines)


def _stages(state: RunState) -> tuple[StageTime, ...]:
    results = {
        "preprocess": (state.preprocessed, _preprocess_detail(state)),
        "stage": (state.staged, f"{state.staged.files} files" if state.staged else ""),
        "train": (state.trained, f"{state.trained.card.architecture}" if state.trained else ""),
        "infer": (state.inferred, f"{len(state.inferred.slides)} slides" if state.inferred else ""),
        "explain": (state.explained, f"{len(state.explained.slides)} panels" if state.explained else ""),
    }
    return tuple(_stage_time(placement, *results[placement.stage]) for placement in placements(state.context))


def _stage_time(placement: Placement, result: object | None, detail: str) -> StageTime:
    return StageTime(
        stage=placement.stage,
        site=placement.site,
        why=placement.why,
        seconds=getattr(result, "seconds", 0.0),
        reused=bool(getattr(result, "reused", False)),
        detail=detail if result is not None else "did not run",
    )


def _preprocess_detail(state: RunState) -> str:
    outcomes = state.preprocessed.outcomes if state.preprocessed else ()
    counts = {name: sum(outcome.state == name for outcome in outcomes) for name in ("done", "failed", "excluded")}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _slide(outcome: SlideOutcome) -> SlideRow:
    shared = set(SlideRow.model_fields)
    return SlideRow(**outcome.model_dump(include=shared))


def _routes(state: RunState) -> list[RouteTotals]:
    return [*(state.staged.routes if state.staged else ()), *(state.collected.routes if state.collected else ())]


def _route(route: RouteTotals) -> TransferRow:
    return TransferRow(
        source=route.source,
        destination=route.destination,
        protocol=route.protocol,
        files=route.files,
        attempts=route.files + route.failed_attempts,
        bytes=route.file_bytes,
        wire_s=route.wire_seconds,
        verify_s=route.verify_seconds,
        megabits_per_s=route.aggregate_megabits_per_s,
        median_file_megabits_per_s=route.median_megabits_per_s,
        bytes_resent=route.bytes_resent,
        failures=route.failed_attempts,
    )


def _model(state: RunState) -> dict[str, str]:
    if state.trained is None:
        return {}
    card = state.trained.card
    return {
        "Architecture": f"{card.architecture}, {card.parameters:,} parameters",
        "Input": f"{card.patch_px} px at {card.mpp:.3f} µm per pixel" if card.mpp else f"{card.patch_px} px",
        "Normalisation": card.normalisation,
        "Ranks": f"{card.ranks} ({card.controller}); weights equal on all ranks: "
        f"{'yes' if card.equal_weights_over_ranks else 'NO'}"
        + "".join(f"; {reset.sentence()}" for reset in card.resets),
        "Epochs": f"{card.epochs_run}, best {card.best_epoch} by validation AUC",
        "Patients": ", ".join(f"{len(patients)} {split}" for split, patients in card.split_patients.items()),
        "Threshold": threshold_line(card),
        "Weights": card.weights_digest,
    }


def _model_picture(state: RunState, name: str) -> Path | None:
    files = state.trained.files if state.trained else ()
    return _collected(state, next((file for file in files if file.path.endswith(f"/{name}")), None))


def _heatmaps(state: RunState) -> tuple[HeatmapRow, ...]:
    panels = {slide.slide: slide.panel for slide in (state.explained.slides if state.explained else ())}
    return tuple(
        HeatmapRow(
            slide=slide.scores.slide,
            patient=slide.scores.patient,
            truth=_TRUTH[slide.scores.label],
            slide_score=slide.scores.score,
            patch_auc=slide.scores.patch_auc,
            patches=slide.scores.patches,
            heatmap=_collected(state, slide.heatmap),
            panel=_collected(state, panels.get(slide.scores.slide)),
        )
        for slide in (state.inferred.slides if state.inferred else ())
    )


def _thumbnails(state: RunState) -> tuple[tuple[str, Path], ...]:
    outcomes = state.preprocessed.outcomes if state.preprocessed else ()
    pictures = [
        (outcome.slide, _collected(state, file.artifact))
        for outcome in outcomes
        for file in outcome.files
        if "/sampling/" in file.artifact.path
    ]
    return tuple((slide, picture) for slide, picture in pictures if picture is not None)


def _collected(state: RunState, artifact: Artifact | None) -> Path | None:
    if artifact is None or state.collected is None:
        return None
    path = state.collected.folder / artifact.path
    return path if path.is_file() else None


def _score(measure: Measure) -> Score:
    return Score(value=measure.value, low=measure.low, high=measure.high, note=measure.reason or "")


def _notes(state: RunState) -> tuple[str, ...]:
    notes = []
    if state.collected is not None and state.collected.kept_at_site:
        notes.append(
            f"{state.collected.kept_at_site} pictures show tissue of a resident site and stayed there; "
            "this page has everything else."
        )
    excluded = [o.slide for o in (state.preprocessed.outcomes if state.preprocessed else ()) if o.state == "excluded"]
    if excluded:
        notes.append(f"No tissue was found on {', '.join(excluded)}; they were left out by rule.")
    return tuple(notes)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

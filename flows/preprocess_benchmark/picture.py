"""The paper's Figure 7 of a preprocessing benchmark: what was measured, and 43 million patches as predicted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean, median

from flows.preprocess_benchmark.forecast import NODES, Model, cohort_forecasts
from flows.preprocess_benchmark.plan import Outlook
from flows.preprocess_benchmark.scaling import predict
from tasks.report.scaling_figure import Curve, Panel, draw_scaling

FIGURE = "figure-7.png"
_LINE_NODES = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000, 1500, 2000, 3000, 5000, 8000)
_PAPER = ("paper: “approximately 1 hour”", 8000.0, 3600.0)


def draw_figure_seven(models: dict[str, Model], outlook: Outlook, folder: Path) -> tuple[str, Path]:
    """Draw the picture into `folder`; give caption and file name."""
    most = max(one.work.slides for model in models.values() for one in model.observations)
    panels = [
        Panel(
            title=f"Measured here: {most} slides",
            x_label="workers",
            curves=tuple(curve for model in models.values() if (curve := _measured(model, most)) is not None),
        )
    ]
    dense = [model for model in models.values() if model.kind.startswith("dense")]
    if dense:
        panels.append(
            Panel(
                title=f"Predicted: 43 million patches, {outlook.node_workers} workers a node",
                x_label="nodes",
                curves=tuple(curve for model in dense for curve in _predicted(model, outlook)),
                others=(_PAPER,),
            )
        )
    draw_scaling(folder / FIGURE, panels)
    return "Time against workers and nodes (the paper's Figure 7); bars are the least and the most", Path(FIGURE)


def _measured(model: Model, slides: int) -> Curve | None:
    by_workers: dict[int, list[float]] = defaultdict(list)
    own = [one for one in model.observations if one.work.slides == slides]
    for one in own:
        by_workers[one.machine.workers].append(one.wall_s)
    if not own:
        return None
    cores = max(one.machine.cores or 0 for one in own) or None
    work = replace(own[0].work, slide_patches=mean(one.work.slide_patches for one in own))
    line = [(n, predict(model.costs, work, replace(own[0].machine, nodes=n, cores=cores)).seconds) for n in by_workers]
    return Curve(
        kind=model.kind,
        name=model.kind,
        points=tuple(sorted(line)),
        measured=tuple((n, median(s), min(s), max(s)) for n, s in sorted(by_workers.items())),
    )


def _predicted(model: Model, outlook: Outlook) -> Iterator[Curve]:
    asked = cohort_forecasts(model, outlook, _LINE_NODES)
    for limited, name in ((True, f"{model.kind}, file system as assumed"), (False, f"{model.kind}, no limit of it")):
        points = [
            (one.machine.nodes, one.prediction.seconds)
            for one in asked
            if limited is (one.machine.write_mb_per_s is not None)
        ]
        marked = tuple(point for point in points if point[0] in NODES)
        yield Curve(kind=model.kind, name=name, points=tuple(points), marked=marked, dashed=not limited)

"""``camnet synth``: a cohort with a known truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flows.commands.options import JsonOption, print_json


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(synth)


def synth(
    folder: Annotated[Path, typer.Argument(help="where the cohort goes")],
    slides: Annotated[int, typer.Option(help="number of slides")] = 12,
    centres: Annotated[int, typer.Option(help="medical centres, each with its own stain")] = 3,
    nodes_per_patient: Annotated[int, typer.Option(help="slides a patient")] = 2,
    width_px: Annotated[int, typer.Option(help="level 0")] = 4096,
    height_px: Annotated[int, typer.Option(help="level 0")] = 4096,
    mpp: Annotated[float, typer.Option(help="µm per pixel at level 0")] = 0.25,
    negative_fraction: Annotated[float, typer.Option(help="share of the slides without tumour")] = 0.4,
    pixels: Annotated[Path | None, typer.Option(help="labelled real patches: PCam HDF5 or normal/ and tumor/")] = None,
    seed: Annotated[int, typer.Option(help="the same seed gives the same bytes")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Make a CAMELYON-like cohort: pyramidal slides, annotations, stages, and the truth behind them."""
    from tasks.slides.synthetic import make_cohort
    from tasks.slides.synthetic.config import SynthConfig

    values = {
        "slides": slides,
        "centres": centres,
        "nodes_per_patient": nodes_per_patient,
        "width_px": width_px,
        "height_px": height_px,
        "mpp": mpp,
        "negative_fraction": negative_fraction,
        "pixels": pixels,
        "seed": seed,
    }
    from tasks.config import validated

    summary = make_cohort(folder, validated(SynthConfig, values, "options"))
    if as_json:
        print_json(summary)
        return
    Console().print(f"{slides} slides in {folder}", highlight=False)

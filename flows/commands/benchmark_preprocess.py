"""``camnet benchmark preprocess``: how Layer 1 scales at a site, as a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from flows.commands.benchmark_options import end_benchmark, read_counts, read_names
from flows.commands.options import DEFAULT_WORKSPACE, WorkspaceOption
from tasks.errors import InputError

_MOST = 100_000


def register(app: typer.Typer) -> None:
    """Add this command to `app`."""
    app.command()(preprocess)


def preprocess(
    site: Annotated[str, typer.Option("--site", help="name of the site")],
    workers: Annotated[str, typer.Option("--workers", help="numbers of workers, with commas between them")] = "1,2",
    slides: Annotated[str, typer.Option("--slides", help="numbers of slides")] = "1,2",
    sampling: Annotated[str, typer.Option("--sampling", help="random, dense")] = "random,dense",
    encodings: Annotated[
        str, typer.Option("--encodings", help="raw, tiles, jpeg; random patches take the first")
    ] = "raw,tiles",
    repeats: Annotated[int, typer.Option("--repeats", min=1, max=1000, help="of each cell, after a warm-up")] = 3,
    seed: Annotated[int, typer.Option("--seed", help="of the order of the measurements")] = 0,
    slides_from: Annotated[
        Path | None, typer.Option("--slides-from", help="folder or table of slides; default: synthetic ones")
    ] = None,
    synth_px: Annotated[
        int, typer.Option("--synth-px", min=512, max=200_000, help="side of the synthetic slides")
    ] = 8192,
    mpp: Annotated[float | None, typer.Option("--mpp", help="µm per pixel of slides that do not state it")] = None,
    patch_px: Annotated[int, typer.Option("--patch-px", help="side of a patch")] = 224,
    stride_px: Annotated[int, typer.Option("--stride-px", help="step of the dense grid")] = 224,
    part_positions: Annotated[
        int, typer.Option("--part-positions", help="a slide with more positions is cut in parts of so many")
    ] = 100_000,
    node_workers: Annotated[
        int, typer.Option("--node-workers", min=1, max=1024, help="workers a node in the predictions")
    ] = 10,
    shared_read_mb_per_s: Annotated[
        float, typer.Option("--shared-read-mb-per-s", help="of the file system, for all nodes together")
    ] = 10_000.0,
    shared_write_mb_per_s: Annotated[
        float, typer.Option("--shared-write-mb-per-s", help="of the file system, for all nodes together")
    ] = 10_000.0,
    sites_folder: Annotated[Path | None, typer.Option("--sites-folder", help="folder with site files")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the report")] = Path("preprocess-benchmark"),
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Measure Layer 1 in random order, fit a model, and write a report (HTML, PNG, CSV, JSON).

    It is the paper's Table 4 and Figure 7 for a site: workers × slides × sampling on its own cluster, and what the
    model says of 100, 1,000 and 8,000 nodes. Interrupted, it goes on with the same command.
    """
    from flows.preprocess_benchmark.flow import benchmark_preprocess
    from flows.preprocess_benchmark.plan import Conditions, Outlook, PreprocessBenchmark
    from flows.server import prefect_api
    from tasks.config import PreprocessConfig, validated

    settings = {"patch_px": patch_px, "grid_stride_px": stride_px, "grid_part_positions": part_positions}
    outlook = {
        "node_workers": node_workers,
        "read_mb_per_s": shared_read_mb_per_s,
        "write_mb_per_s": shared_write_mb_per_s,
    }
    plan = PreprocessBenchmark(
        sites_folder=sites_folder,
        workspace=workspace.resolve(),
        conditions=Conditions(
            site=site,
            slides=None if slides_from is None else slides_from.resolve(),
            synth_px=synth_px,
            mpp=mpp,
            settings=validated(PreprocessConfig, settings, "options"),
        ),
        workers=read_counts(workers, "--workers", most=_MOST, example="1,2,4"),
        slides=read_counts(slides, "--slides", most=_MOST, example="1,2,4"),
        sampling=_of(("random", "dense"), sampling, "--sampling"),
        encodings=_of(_encodings(), encodings, "--encodings"),
        repeats=repeats,
        seed=seed,
        outlook=validated(Outlook, outlook, "options"),
        output=output.resolve(),
    )
    with prefect_api(workspace.resolve() / "prefect"):
        result = benchmark_preprocess(plan)
    end_benchmark(result, "trials")


def _encodings() -> tuple[str, ...]:
    from tasks.config import Encoding

    return get_args(Encoding)


def _of(known: tuple[str, ...], text: str, option: str) -> Any:  # noqa: ANN401  # a tuple of literals
    names = read_names(text, option, example=",".join(known))
    if wrong := [name for name in names if name not in known]:
        raise InputError(
            f"{option} {text!r}: {wrong[0]!r} is not known",
            remedy=f"use some of {', '.join(known)}, with commas between them",
        )
    return names

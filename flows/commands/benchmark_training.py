"""``camnet benchmark training``: how Layer 2 scales on this machine, as a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.benchmark_options import end_benchmark, read_counts, read_names
from flows.commands.options import DEFAULT_WORKSPACE, WorkspaceOption
from tasks.errors import InputError

_MOST_ROWS = 100_000_000
_MOST_RANKS = 4096


def register(app: typer.Typer) -> None:
    """Add this command to `app`."""
    app.command()(training)


def training(
    architectures: Annotated[str, typer.Option("--architectures", help="names, with commas between them")] = "ResNet50",
    ranks: Annotated[
        str, typer.Option("--ranks", help="numbers of ranks, or RANKSxTHREADS each: 1,2 or 1x1,1x2,2x1")
    ] = "1,2",
    threads: Annotated[
        int, typer.Option("--threads", min=1, max=1024, help="CPU threads of a rank, where --ranks does not say")
    ] = 1,
    rows: Annotated[str, typer.Option("--rows", help="numbers of patches")] = "64,128,256",
    repeats: Annotated[int, typer.Option("--repeats", min=1, max=1000, help="trainings of each cell")] = 3,
    epochs: Annotated[
        int, typer.Option("--epochs", min=2, max=1000, help="of each training; the first counts as start-up")
    ] = 3,
    batch_size: Annotated[int, typer.Option("--batch-size", help="patches a rank and step")] = 16,
    patch_px: Annotated[int, typer.Option("--patch-px", help="side of a patch of noise")] = 224,
    shards_from: Annotated[
        Path | None, typer.Option("--shards-from", help="folder of shards; default: shards of noise, made here")
    ] = None,
    precision: Annotated[str, typer.Option("--precision", help="float32, float16, bfloat16")] = "float32",
    compression: Annotated[str, typer.Option("--compression", help="of gradients: none, float16")] = "none",
    xla: Annotated[bool, typer.Option("--xla", help="compile forward and backward, for GPUs")] = False,
    controller: Annotated[str, typer.Option("--controller", help="gloo, mpi")] = "gloo",
    latency_us: Annotated[
        float, typer.Option("--latency-us", help="of a message between nodes, in the model of efficiency")
    ] = 50.0,
    seed: Annotated[int, typer.Option("--seed", help="of the order of the measurements")] = 0,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the report")] = Path("training-benchmark"),
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Measure Layer 2 in random order and write a report (HTML, PNG, CSV, JSON).

    It is the paper's Figures 9 and 10 for this machine: training time by architecture and ranks, with the most --rows;
    and seconds an epoch as the data grow, with the first architecture on the last --ranks. Besides: the share of the
    all-reduce and of waiting for input, and what more nodes would make of it. Interrupted, it goes on with the same
    command.
    """
    from flows.server import prefect_api
    from flows.training_benchmark.flow import benchmark_training
    from flows.training_benchmark.plan import Conditions, Outlook, TrainingBenchmark, refuse_impossible
    from tasks.config import validated

    if shards_from is not None and not shards_from.is_dir():
        raise InputError("is no folder", subject=shards_from, remedy="give --shards-from a folder of shards")
    conditions = {
        "shards": None if shards_from is None else shards_from.resolve(),
        "patch_px": patch_px,
        "batch_size": batch_size,
        "epochs": epochs,
        "precision": precision,
        "compression": compression,
        "xla": xla,
        "controller": controller,
    }
    plan = TrainingBenchmark(
        workspace=workspace.resolve(),
        conditions=validated(Conditions, conditions, "options"),
        architectures=read_names(architectures, "--architectures", example="ResNet50,MobileNetV2"),
        shapes=_shapes(ranks, threads),
        rows=read_counts(rows, "--rows", most=_MOST_ROWS, example="64,128,256"),
        repeats=repeats,
        seed=seed,
        outlook=validated(Outlook, {"latency_us": latency_us}, "options"),
        output=output.resolve(),
    )
    refuse_impossible(plan)
    with prefect_api(workspace.resolve() / "prefect"):
        result = benchmark_training(plan)
    end_benchmark(result, "trainings")


def _shapes(text: str, threads: int) -> tuple[tuple[int, int], ...]:
    """Read ``1,2`` or ``1x1,1x2,2x1``: ranks, and threads of each."""
    remedy = "write --ranks 1,2 or --ranks 1x1,1x2,2x1"
    shapes = []
    for part in text.split(","):
        ranks, _, own = part.strip().partition("x")
        try:
            shape = int(ranks), int(own) if "x" in part else threads
        except ValueError as error:
            raise InputError(f"--ranks {text!r}: {part!r} is no number of ranks", remedy=remedy) from error
        if not all(1 <= number <= _MOST_RANKS for number in shape):
            raise InputError(f"--ranks {text!r}: each must be 1 to {_MOST_RANKS}", remedy=remedy)
        shapes.append(shape)
    return tuple(dict.fromkeys(shapes))

"""The tables of a training benchmark's report."""

from __future__ import annotations

from collections.abc import Sequence

from flows.training_benchmark.figures import FIGURE_EPOCHS, CellFigures, Growth, Spread
from flows.training_benchmark.plan import Cell, Outlook, TrainingBenchmark
from flows.training_benchmark.trial import Trial
from tasks.report.benchmark_data import Grid
from tasks.report.formats import duration, quantity, size
from tasks.training.ring import bus_gb_per_s, ring_all_reduce_s, ring_efficiency

WAITING_TARGET = 0.05
"""Of a step, for ResNet50 on CPUs."""
_SHAPE = "ranks × threads"


def times_grid(found: Sequence[CellFigures]) -> Grid:
    """Training time by architecture and ranks."""
    rows = [
        (
            one.cell.architecture,
            f"{one.parameters / 1e6:.1f}",
            one.cell.shape,
            f"{one.rows:,}",
            *_spread(one.epoch_s),
            quantity(one.images_per_s.median),
            quantity(one.start_up_s.median),
            quantity(one.first_epoch_s.median),
            duration(one.ten_epochs_s),
            f"{one.epoch_s.n} of {one.trials}",
        )
        for one in found
    ]
    return Grid(
        key="training-benchmark",
        title="Training time by architecture and ranks (the paper's Figure 9)",
        lead="Median of the epochs after the first, whose compilation of the step is start-up. Start-up is the time "
        f"from the call to the first step. {FIGURE_EPOCHS} epochs are calculated: start-up + first epoch + "
        f"{FIGURE_EPOCHS - 1} × epoch.",
        headings=(
            "network", "million parameters", _SHAPE, "patches", "s an epoch", "least to most", "images a s",
            "start-up s", "first epoch s", f"{FIGURE_EPOCHS} epochs", "epochs of trainings",
        ),
        rows=tuple(rows),
    )  # fmt: skip


def growth_grid(line: Growth | None, cell: Cell) -> Grid:
    """Seconds an epoch as the data grow."""
    title = f"Time an epoch as the data grow (the paper's Figure 10): {cell.architecture}, {cell.shape}"
    headings = ("patches", "s an epoch", "least to most", "line s", "measured less line s", "%", "n")
    if line is None:
        absent = "Not measured: a line needs two numbers of patches."
        return Grid(key="training-benchmark-growth", title=title, lead="", headings=headings, rows=(), absent=absent)
    explained = "" if line.r_squared is None else f", R² {line.r_squared:.4f}"
    return Grid(
        key="training-benchmark-growth",
        title=title,
        lead=f"Line through all epochs that count: {line.start_s:.3g} s + {1000 * line.s_per_patch:.4g} ms × patches; "
        f"root mean square of what is left {line.rms_s:.3g} s{explained}.",
        headings=headings,
        rows=tuple(
            (
                f"{rows:,}",
                *_spread(seconds),
                quantity(line.at(rows)),
                f"{left:+.3f}",
                f"{100 * left / line.at(rows):+.1f}",
                str(seconds.n),
            )
            for rows, seconds, left in line.points
        ),
    )


def all_reduce_grid(found: Sequence[CellFigures]) -> Grid:
    """Compare ranks with threads, and tell what of a step the all-reduce takes."""
    rows = []
    for one in found:
        alone = [other for other in found if (other.cell.architecture, other.cell.ranks, other.cell.threads)
                 == (one.cell.architecture, 1, 1)]  # fmt: skip
        faster = f"{one.images_per_s.median / alone[0].images_per_s.median:.2f}" if alone else ""
        own: tuple[str, ...] = ("", "", "", "", "")
        if one.all_reduce_s is not None and one.all_reduce_share is not None:
            rate = bus_gb_per_s(one.cell.ranks, one.gradient_bytes, one.all_reduce_s.median)
            share = f"{100 * one.all_reduce_share:.1f}"
            own = (*_spread(one.all_reduce_s), share, size(one.gradient_bytes), f"{rate:.2f}")
        step = (quantity(one.images_per_s.median), faster, *_spread(one.step_s))
        rows.append((one.cell.architecture, one.cell.shape, *step, *own))
    return Grid(
        key="training-benchmark-all-reduce",
        title="Ranks against threads, and the share of the all-reduce",
        lead="Seconds of a step, and those of it in which gradients were averaged (from Horovod's timeline: it begins "
        "when all ranks have handed in a gradient, so waiting for a slower rank is not in it).",
        headings=(
            "network", _SHAPE, "images a s", "times 1 × 1", "step s", "least to most", "all-reduce s", "least to most",
            "% of the step", "gradients", "Gb/s of a ring",
        ),
        rows=tuple(rows),
    )  # fmt: skip


def waiting_grid(found: Sequence[CellFigures]) -> Grid:
    """Share of a step in which ranks waited for input."""
    return Grid(
        key="training-benchmark-waiting",
        title="Waiting for input",
        lead=f"Share of an epoch's seconds, mean of the ranks. Wanted: below {100 * WAITING_TARGET:.0f} %.",
        headings=("network", _SHAPE, "patches", "median %", "least to most", "kept"),
        rows=tuple(
            (
                one.cell.architecture,
                one.cell.shape,
                f"{one.rows:,}",
                f"{100 * one.waiting_share.median:.2f}",
                f"{100 * one.waiting_share.least:.2f} to {100 * one.waiting_share.most:.2f}",
                "yes" if one.waiting_share.median < WAITING_TARGET else "no",
            )
            for one in found
        ),
    )


def efficiency_grid(found: Sequence[CellFigures], outlook: Outlook) -> Grid:
    """Tell what the model says of more nodes."""
    rows = []
    for one in fastest_alone(found):
        step_s, gradient_bytes = one.step_s.median, all_gradient_bytes(one, found)
        for nodes in outlook.nodes:
            cells = []
            for link in outlook.links:
                share = ring_efficiency(step_s, nodes, gradient_bytes, link)
                seconds = ring_all_reduce_s(nodes, gradient_bytes, link)
                cells.append(f"{100 * share:.1f} % ({seconds:.3f} s)")
            rows.append((one.cell.architecture, one.cell.shape, f"{step_s:.3f}", str(nodes), *cells))
    return Grid(
        key="training-benchmark-efficiency",
        title="Efficiency on more nodes, as the model says",
        lead="Predicted, not measured: step / (step + all-reduce), and the seconds of the all-reduce in brackets. "
        "What is assumed stands below.",
        headings=("network", _SHAPE + " of a node", "step s, measured", "nodes",
                  *(f"{link.gb_per_s:g} Gb/s" for link in outlook.links)),
        rows=tuple(rows),
        absent="Not predicted: no training of one rank was measured.",
    )  # fmt: skip


def assumptions_grid(plan: TrainingBenchmark) -> Grid:
    """List what the figures rest on."""
    conditions, outlook = plan.conditions, plan.outlook
    given = "patches of noise" if conditions.shards is None else "the given shards"
    rows = (
        ("all-reduce", "a ring: 2 (N - 1) / N × bytes / bandwidth + 2 (N - 1) × latency; no tree, no NVLink"),
        ("bandwidth", "each node has the whole link for itself in each direction, and the network has no bottleneck"),
        ("latency", f"{outlook.latency_us:g} µs a message on all links (--latency-us)"),
        ("overlap", "none: in truth gradients travel while others are still computed, so the model is too low here"),
        ("messages", "all gradients travel at once, which needs a fusion buffer as large as they are"),
        ("waiting", "nodes are equally fast; waiting for the slowest is not in the model, so it is too high here"),
        ("batch", f"{conditions.batch_size} patches a rank on each node, however many there are (weak scaling)"),
        ("step", "that of one rank here with the number of threads that was fastest"),
        ("input", f"{given}, as fast on each node as here; another page cache or file system is not in the model"),
    )
    return Grid(
        key="training-benchmark-assumptions",
        title="What is assumed",
        lead="Change one of these, and the figures change.",
        headings=("of", "is assumed"),
        rows=rows,
    )


def failures_grid(trials: Sequence[Trial]) -> Grid:
    """Trainings that failed."""
    return Grid(
        key="training-benchmark-failures",
        title="Failed",
        lead="The same command tries them again.",
        headings=("network", _SHAPE, "patches", "repeat", "why"),
        rows=tuple(
            (one.cell.architecture, one.cell.shape, f"{one.cell.rows:,}", str(one.repeat), one.error)
            for one in trials
            if one.error is not None
        ),
        absent="Nothing failed.",
    )


def fastest_alone(found: Sequence[CellFigures]) -> list[CellFigures]:
    """Give for each architecture its fastest cell of one rank."""
    best: dict[str, CellFigures] = {}
    for one in found:
        known = best.get(one.cell.architecture)
        if one.cell.ranks == 1 and (known is None or one.images_per_s.median > known.images_per_s.median):
            best[one.cell.architecture] = one
    return list(best.values())


def all_gradient_bytes(one: CellFigures, found: Sequence[CellFigures]) -> int:
    """Bytes that several ranks handed in, or, where none were measured, four a parameter."""
    known = [
        other.gradient_bytes
        for other in found
        if other.cell.architecture == one.cell.architecture and other.gradient_bytes
    ]
    return known[0] if known else 4 * one.parameters


def _spread(values: Spread) -> tuple[str, str]:
    return quantity(values.median), f"{quantity(values.least)} to {quantity(values.most)}"

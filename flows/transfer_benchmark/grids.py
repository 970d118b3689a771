"""The tables of a transfer benchmark's report: the paper's Table 5 and Figure 8 for one's own sites, and more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from tasks.report.benchmark_data import Grid
from tasks.report.formats import quantity, rate_interval, size
from transfer.benchmark import Trial
from transfer.figures import LineFit, break_even_bytes, line_fit, median_rate
from transfer.grouping import arrived, file_bytes, grouped, of_kind, rates, route, way


def table_five(trials: Sequence[Trial]) -> Grid:
    """Rates between the sites, in both directions."""
    largest = {
        pair: max(t.cell.file_bytes for t in found) for pair, found in grouped(of_kind(trials, "size"), route).items()
    }
    chosen = [trial for trial in of_kind(trials, "size") if trial.cell.file_bytes == largest[route(trial)]]
    sites = sorted({site for pair in largest for site in pair})
    rows = []
    by_row = grouped(chosen, lambda one: (one.cell.protocol, one.cell.file_bytes, one.cell.source))
    for (protocol, size_bytes, source), found in sorted(by_row.items()):
        to = grouped(found, lambda one: one.cell.destination)
        cells = [_rate(to[site]) if site in to else "—" if site == source else "not measured" for site in sites]
        repeats = sorted({str(len(rates(ones))) for ones in to.values()}, key=int)
        rows.append((protocol, size(size_bytes), source, *cells, ", ".join(repeats)))
    return Grid(
        key="transfer-benchmark",
        title="Between the sites (the paper's Table 5)",
        lead="Mb/s from the site of the line to that of the column, largest file of each pair, from the call to the "
        "verified file under its final name; median of the repeats with the 95 % interval of a bootstrap over them.",
        headings=("protocol", "file", "from", *(f"to {site}" for site in sites), "repeats"),
        rows=tuple(rows),
    )


def sizes_grid(trials: Sequence[Trial]) -> Grid:
    """Throughput and time by file size."""
    rows = []
    for (named, size_bytes), found in sorted(
        grouped(of_kind(trials, "size"), lambda one: (way(one), one.cell.file_bytes)).items()
    ):
        rows.append((*named, size(size_bytes), _rate(found), _seconds(found)))
    return Grid(
        key="transfer-benchmark-sizes",
        title="By file size (the paper's Figure 8)",
        lead="Throughput and time of one file.",
        headings=("from", "to", "protocol", "file", "Mb/s", "median s"),
        rows=tuple(rows),
    )


def break_even_grid(trials: Sequence[Trial]) -> Grid:
    """From which size on one protocol overtakes another."""
    fits, measured = _fits(trials), grouped(arrived(of_kind(trials, "size")), way)
    rows = []
    for (source, destination, early), fit in fits.items():
        for (other_source, other_destination, late), other in fits.items():
            if (source, destination) != (other_source, other_destination) or early == late:
                continue
            point = break_even_bytes(fit, other)
            if point is not None:
                both = [*measured[source, destination, early], *measured[source, destination, late]]
                beyond = "" if point <= max(file_bytes(one) for one in both) else ", beyond what was measured"
                told = f"{size(round(point))}{beyond}"
                rows.append((source, destination, late, early, told, _told(other), _told(fit)))
    return Grid(
        key="transfer-benchmark-break-even",
        title="Where one protocol overtakes another",
        lead="From a line through the times by size: start and rate of each protocol.",
        absent="No protocol overtakes another one: of each two, one is faster for all sizes that were measured.",
        headings=("from", "to", "protocol", "overtakes", "from files of", "its start and rate", "the other's"),
        rows=tuple(rows),
    )


def small_files_grid(trials: Sequence[Trial]) -> Grid:
    """Many small files against one large one."""
    rows = []
    for named, found in sorted(grouped(of_kind(trials, "files"), way).items()):
        cell = found[0].cell
        alike = [one for one in of_kind(trials, "size") if way(one) == named]
        nearest = min(
            {one.cell.file_bytes for one in alike}, key=lambda bytes_: abs(bytes_ - cell.total_bytes), default=None
        )
        one_file = _rate([one for one in alike if one.cell.file_bytes == nearest]) if nearest is not None else "-"
        many = f"{cell.files:,} × {size(cell.file_bytes)}"
        rows.append((*named, many, _rate(found), size(nearest) if nearest is not None else "-", one_file))
    return Grid(
        key="transfer-benchmark-small-files",
        title="Many small files against one large file",
        lead="The same call, with many files in one batch, and the single file whose size is nearest.",
        absent="Not measured: --small-files says how many.",
        headings=("from", "to", "protocol", "files", "Mb/s", "one file", "Mb/s of it"),
        rows=tuple(rows),
    )


def shards_grid(trials: Sequence[Trial]) -> Grid:
    """Tell how a run's own shards moved."""
    rows = []
    for (named, cell), found in grouped(of_kind(trials, "shards"), lambda one: (way(one), one.cell)).items():
        rows.append((*named, f"{cell.files:,}", size(cell.total_bytes), _rate(found), _seconds(found)))
    return Grid(
        key="transfer-benchmark-shards",
        title="A run's own shards",
        absent="Not measured: --shards names the manifest of a run.",
        lead="The shards of a run in one batch; all other files here hold random bytes.",
        headings=("from", "to", "protocol", "shards", "together", "Mb/s", "median s"),
        rows=tuple(rows),
    )


def streams_grid(trials: Sequence[Trial]) -> Grid:
    """Numbers of connections against throughput."""
    several = {way(trial) for trial in of_kind(trials, "streams")}
    largest = max((trial.cell.file_bytes for trial in of_kind(trials, "streams")), default=0)
    chosen = [
        trial
        for trial in trials
        if way(trial) in several and trial.cell.kind in ("size", "streams") and trial.cell.file_bytes == largest
    ]
    rows = [
        (*named, size(largest), str(count), _rate(found))
        for (named, count), found in sorted(grouped(chosen, lambda one: (way(one), one.cell.streams)).items())
    ]
    return Grid(
        key="transfer-benchmark-streams",
        title="Streams against throughput",
        lead="The largest file over different numbers of connections, where a protocol has several.",
        absent="Not measured: --streams names more than one number.",
        headings=("from", "to", "protocol", "file", "streams", "Mb/s"),
        rows=tuple(rows),
    )


def costs_grid(trials: Sequence[Trial]) -> Grid:
    """Tell what the time goes into, and what was tried or sent again."""
    rows = []
    for named, found in sorted(grouped(arrived(of_kind(trials, "size")), way).items()):
        whole_s = sum(trial.seconds for trial in found)
        shares = [
            sum(getattr(trial, name) for trial in found) / whole_s if whole_s else 0.0
            for name in ("wire_seconds", "verify_seconds", "startup_seconds")
        ]
        told = [f"{100 * share:.1f}" for share in (*shares, max(0.0, 1.0 - sum(shares)))]
        again = sum(trial.bytes_resent for trial in found)
        rows.append((*named, *told, str(sum(trial.retries for trial in found)), size(again)))
    return Grid(
        key="transfer-benchmark-costs",
        title="What the time goes into",
        lead="Shares of the whole time over all single files, in percent. Verification is what the digest at the "
        "destination took after the last byte; where it runs along the way, hardly anything is left of it. "
        "The rest is connecting, looking, renaming.",
        headings=(
            "from",
            "to",
            "protocol",
            "wire %",
            "verification %",
            "start-up %",
            "rest %",
            "retries",
            "sent again",
        ),
        rows=tuple(rows),
    )


def failures_grid(trials: Sequence[Trial]) -> Grid:
    """Trials that failed."""
    rows = tuple((*way(one), size(one.cell.file_bytes), one.start, one.error) for one in trials if one.error)
    return Grid(
        key="transfer-benchmark-failures",
        title="What failed",
        lead="These trials are in no figure above.",
        absent="No trial failed.",
        headings=("from", "to", "protocol", "file", "start", "error"),
        rows=rows,
    )


def _fits(trials: Sequence[Trial]) -> dict[tuple[str, str, str], LineFit]:
    fits = {}
    for named, found in sorted(grouped(arrived(of_kind(trials, "size")), way).items()):
        by_size = sorted(grouped(found, file_bytes).items())
        fit = line_fit([x for x, _ in by_size], [median(one.seconds for one in ones) for _, ones in by_size])
        if fit is not None:
            fits[named] = fit
    return fits


def _rate(trials: Iterable[Trial]) -> str:
    found = median_rate(rates(trials))
    return "failed" if found is None else rate_interval(found.median, found.low, found.high)


def _seconds(trials: Iterable[Trial]) -> str:
    found = [trial.seconds for trial in arrived(trials)]
    return f"{median(found):.2f}" if found else "failed"


def _told(fit: LineFit) -> str:
    return f"{fit.start_s:.2f} s, {quantity(fit.megabits_per_s)} Mb/s"

"""The report of a run as one HTML file that needs nothing else: no network, no scripts, no files beside it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tasks import atomic
from tasks.report import formats
from tasks.report.data import ReportData
from tasks.report.pictures import inline_pictures

# Twice the width at which they stand on a page of 1200 px, or what fine screens and print can show.
_FIGURE_PX = 1800
_CURVES_PX = 1600
_THUMBNAIL_PX = 720

_WRITERS = (
    formats.count,
    formats.decimal,
    formats.duration,
    formats.fraction,
    formats.interval,
    formats.megabytes,
    formats.percent,
    formats.rate,
    formats.score,
    formats.size,
    formats.utc,
)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the run that the page shows beside its rows.

    Attributes
    ----------
    rejected
        Positions left out by reason, the most frequent first.
    megabits_per_s
        Mean of the transfers' rates over the wire seconds that were measured; None when none was.
    """

    slides_by_state: dict[str, int]
    tumour_patches: int
    normal_patches: int
    grid_patches: int
    rejected: dict[str, int]
    slide_seconds: float
    stage_seconds: float
    bytes_moved: int
    megabits_per_s: float | None
    sites: tuple[str, ...]


def write_report(data: ReportData, path: Path) -> None:
    """Write the report of a run as one self-contained HTML file.

    Pictures are copied into the page, made smaller where they are wider than a screen shows or where the
    page would pass about 15 MB; the files themselves are left as they are. A picture that cannot be read
    is named on the page with the reason.

    Parameters
    ----------
    data
        Relative paths of pictures in it are relative to the folder of `path`.

    Raises
    ------
    PermanentFault, InputError
        `path` cannot be written.
    """
    atomic.write_text(path, report_html(data, path.parent))


def report_html(data: ReportData, folder: Path) -> str:
    """Draw the page; relative paths of pictures are relative to `folder`."""
    return (
        page_environment()
        .get_template("report.html.j2")
        .render(
            run=data,
            totals=totals(data),
            pictures=inline_pictures(_picture_widths_px(data), folder),
        )
    )


def page_environment() -> Environment:
    """Give the templates of this folder, with the writers of `tasks.report.formats` as filters."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        # Not by file name: every value on this page comes from files and file names of others.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {writer.__name__: writer for writer in _WRITERS}
    return environment


def totals(data: ReportData) -> Totals:
    """Sum the rows of a report."""
    rejected: Counter[str] = Counter()
    for row in data.slides:
        rejected.update(row.rejected)
    timed = [
        (transfer.megabits_per_s, transfer.wire_s)
        for transfer in data.transfers
        if transfer.megabits_per_s is not None and transfer.wire_s > 0
    ]
    wire_s = sum(seconds for _, seconds in timed)
    return Totals(
        slides_by_state=dict(Counter(row.state for row in data.slides)),
        tumour_patches=sum(row.tumour_patches for row in data.slides),
        normal_patches=sum(row.normal_patches for row in data.slides),
        grid_patches=sum(row.grid_patches for row in data.slides),
        rejected=dict(rejected.most_common()),
        slide_seconds=sum(row.seconds for row in data.slides),
        stage_seconds=sum(row.seconds for row in data.stages),
        bytes_moved=sum(row.bytes for row in data.transfers),
        megabits_per_s=sum(rate * seconds for rate, seconds in timed) / wire_s if timed else None,
        sites=tuple(dict.fromkeys(row.site for row in data.stages)),
    )


def _picture_widths_px(data: ReportData) -> dict[Path, int]:
    widths_px = {path: _THUMBNAIL_PX for _, path in data.thumbnails}
    for row in data.heatmaps:
        widths_px |= {path: _FIGURE_PX for path in (row.heatmap, row.panel) if path is not None}
    widths_px |= {path: _CURVES_PX for path in (data.curves, data.roc, data.reliability) if path is not None}
    return widths_px

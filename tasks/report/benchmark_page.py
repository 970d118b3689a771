"""The report of a benchmark as one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from tasks import atomic
from tasks.report.benchmark_data import BenchmarkData
from tasks.report.page import page_environment
from tasks.report.pictures import inline_pictures

_FIGURE_PX = 1800


def write_benchmark_page(data: BenchmarkData, path: Path) -> None:
    """Write the page; relative paths of pictures are relative to its folder.

    Raises
    ------
    PermanentFault, InputError
        `path` cannot be written.
    """
    pictures = inline_pictures({picture: _FIGURE_PX for _, picture in data.pictures}, path.parent)
    page = page_environment().get_template("benchmark.html.j2").render(report=data, pictures=pictures)
    atomic.write_text(path, page)

"""The report of a benchmark in the Prefect UI."""

from __future__ import annotations

from pathlib import Path

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from tasks.report.benchmark_data import BenchmarkData


def publish_report(data: BenchmarkData, path: Path, *, key: str) -> None:
    """Make each table of the page an artifact under the key of its grid, and a page of its facts under `key`.

    A table without rows is an artifact too: an older one under its key would pass for today's.
    """
    for grid in data.grids:
        told = f"{grid.lead} {data.units}" if grid.rows else grid.absent
        create_table_artifact(grid.records, key=grid.key, description=f"**{grid.title}**\n\n{told}\n\n{data.measured}.")
    facts = "\n".join(f"- {name}: {value}" for name, value in data.facts)
    tables = "\n".join(f"- {grid.title}: `{grid.key}`" for grid in data.grids)
    create_markdown_artifact(
        f"# {data.title}\n\n{data.measured}. {data.units}\n\nReport: `{path}`\n\n{facts}\n\nTables:\n\n{tables}\n",
        key=key,
        description=f"{data.title}: what was measured where, and the keys of its tables",
    )

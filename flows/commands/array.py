"""Layer 1 without Dask and Prefect: a script for sbatch, and what its tasks run."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Annotated

import typer
from pydantic import PositiveInt, RootModel

from flows.commands.options import DEFAULT_WORKSPACE, ConfigOption, WorkspaceOption, print_json
from tasks.errors import InputError, PartialResult


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(preprocess_part)


class PartCounts(RootModel[dict[str, PositiveInt]]):
    """Number of parts of each slide, by its name: what the tasks of an array would otherwise read from all slides."""


def preprocess_part(
    config: ConfigOption,
    task: Annotated[int, typer.Option("--task", min=0, help="which part, from 0")],
    of: Annotated[int, typer.Option("--of", min=1, help="number of parts")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    counts: Annotated[
        Path | None, typer.Option("--counts", help="number of parts of each slide, written by --sbatch-array")
    ] = None,
) -> None:
    """Layer 1 for one part of the slides, one after the other, in this process (see preprocess --sbatch-array)."""
    from flows.context import make_context
    from flows.sbatch_array import part_of
    from flows.slide_jobs import preprocess_here, slide_jobs, work_of
    from tasks.config import load_config

    if task >= of:
        raise InputError(f"there is no part {task} of {of}", remedy="count parts from 0: --task 0 to --task (--of - 1)")
    parts = {} if counts is None else _read_counts(counts)
    jobs = slide_jobs(make_context(load_config(config), workspace, "embedded"))
    work = [each for job in jobs for each in work_of(job, parts.get(job.record.name))]
    outcomes = [preprocess_here(work[index]) for index in part_of(len(work), task, of)]
    print_json([outcome.model_dump(mode="json") for outcome in outcomes])
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if failed:
        raise PartialResult(
            f"{len(failed)} of {len(outcomes)} slides or parts failed: "
            + ", ".join(outcome.slide for outcome in failed),
            subject=config,
            remedy=failed[0].remedy or "see the reasons above",
        )


def write_array(config: Path, workspace: Path, script: Path, array_size: int) -> None:
    """Write a job array for the slides that are not finished, one array task a slide, a part of one, or some of these.

    Raises
    ------
    InputError
        The site has no Slurm jobs, or nothing is left to do.
    """
    from flows.context import make_context
    from flows.sbatch_array import array_script, open_tasks
    from flows.slide_jobs import is_finished, slide_jobs, slide_of_work, work_of
    from tasks import atomic
    from tasks.config import load_config

    context = make_context(load_config(config), workspace, "embedded")
    site = context.source
    if site.dask.slurm is None:
        raise InputError(
            "the site has no table [dask.slurm], which says what a job may ask for",
            subject=f"site {site.name}",
            remedy="add it to the site file (docs/sites.md has an example); cluster may stay local",
        )
    jobs = slide_jobs(context)
    by_slide = {job.record.name: work_of(job) for job in jobs}
    work = [each for job in jobs for each in by_slide[job.record.name]]
    pending = [not is_finished(each) for each in work]
    of = min(len(pending), array_size)
    tasks = open_tasks(pending, of)
    if not tasks:
        raise InputError(
            f"all {len(jobs)} slides are finished",
            subject=context.config.name,
            remedy="run `camnet preprocess` with the same options: it writes their manifest",
        )
    counts = script.resolve().with_suffix(".counts.json")
    parts = {name: max(1, len(each) - 1) for name, each in by_slide.items()}
    atomic.write_text(counts, PartCounts(parts).model_dump_json(indent=1))
    command = [
        str(Path(sysconfig.get_path("scripts")) / "camnet"),
        "preprocess-part",
        *("--config", str(config.resolve())),
        *("--workspace", str(context.workspace)),
        *("--counts", str(counts)),
    ]
    name = f"camnet-{context.config.name}"
    site.dask.slurm.log_directory.mkdir(parents=True, exist_ok=True)
    atomic.write_text(script, array_script(site.dask.slurm, name=name, command=command, tasks=tasks, of=of))
    slides = {slide_of_work(each).record.name for each, waits in zip(work, pending, strict=True) if waits}
    print_json({"script": str(script), "array_tasks": len(tasks), "slides": len(slides)})


def _read_counts(path: Path) -> dict[str, int]:
    try:
        return PartCounts.model_validate_json(path.read_bytes()).root
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot be read as the parts of slides: {error}", subject=path, remedy="write the job array again"
        ) from error

"""Commands that look and change nothing: schema, sites, plan, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from flows.commands.options import DEFAULT_WORKSPACE, ConfigOption, JsonOption, WorkspaceOption, print_json
from tasks.errors import ExitCode

SitesOption = Annotated[Path | None, typer.Option("--sites", help="folder with site files")]


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    app.command()(schema)
    app.command()(sites)
    app.command()(plan)
    app.command()(doctor)


def schema(
    site: Annotated[bool, typer.Option("--site", help="of a site file instead of the run configuration")] = False,
) -> None:
    """Print the JSON Schema of the run configuration: every key with its unit and range."""
    from deployments.sites import Site
    from tasks.config import RunConfig

    print_json((Site if site else RunConfig).model_json_schema())


def sites(
    folder: SitesOption = None, workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False
) -> None:
    """List the sites."""
    from deployments.sites import load_sites

    found = load_sites(folder, workspace=workspace)
    if as_json:
        print_json({name: site.model_dump(mode="json") for name, site in found.items()})
        return
    table = Table("site", "root", "policy", "Dask", "Horovod slots", "SSH")
    for site in found.values():
        slots = str(site.horovod.most_ranks) if site.horovod else "-"
        ssh = f"{site.ssh.user}@{site.ssh.host}:{site.ssh.port}" if site.ssh else "-"
        table.add_row(site.name, str(site.root), site.policy, site.dask.summary, slots, ssh)
    Console().print(table)


def plan(config: ConfigOption, workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Say which stage runs where and why, and which slides go into which split; nothing is run."""
    from flows.context import make_context
    from flows.placement import placements
    from tasks.config import load_config
    from tasks.slides.cohort import find_slides
    from tasks.slides.cohort_split import split_cohort

    context = make_context(load_config(config), workspace, "embedded")
    cohort = context.config.cohort
    slides = find_slides(cohort)
    splits = split_cohort(slides, cohort, context.config.seed)
    stages = placements(context)
    if as_json:
        print_json({"stages": [stage.model_dump() for stage in stages], "splits": splits})
        return
    table = Table("stage", "site", "why")
    for stage in stages:
        table.add_row(stage.stage, stage.site, stage.why)
    console = Console()
    console.print(table)
    table = Table("slide", "patient", "centre", "truth", "annotation", "split")
    for slide in slides:
        centre = "-" if slide.centre is None else str(slide.centre)
        annotation = "-" if slide.annotation is None else slide.annotation.name
        table.add_row(slide.name, slide.patient, centre, slide.truth, annotation, splits.get(slide.name, "left out"))
    console.print(table)


def doctor(
    folder: SitesOption = None, workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False
) -> None:
    """Check this machine and the sites: software, what Horovod was built with, space, SSH keys."""
    from deployments.sites import load_sites
    from flows.checkup import check_machine, check_site

    findings = check_machine()
    for site in load_sites(folder, workspace=workspace).values():
        findings += check_site(site)
    if as_json:
        print_json([finding.model_dump() for finding in findings])
    else:
        table = Table("", "what", "found")
        for finding in findings:
            table.add_row("ok" if finding.good else "[red]no[/]", finding.what, finding.found)
        Console().print(table)
    if not all(finding.good for finding in findings):
        raise typer.Exit(ExitCode.USAGE)

"""What every flow is told: the run, its configuration and the sites."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from deployments.sites import Site, load_sites, site_named
from flows.software import software
from tasks.artifacts import Record
from tasks.config import RunConfig


class RunContext(Record):
    """One run, as it travels to every site.

    Attributes
    ----------
    workspace
        Folder of the coordinator (`camnet run`): run folders and, embedded, the sites' roots.
    execution
        ``embedded``: all stages run in this process's machine. ``deployed``: each stage is a Prefect
        deployment in the work pool of its site.
    software
        Of the coordinator; sites with another one refuse the run. None: not known.
    """

    config: RunConfig
    sites: dict[str, Site]
    workspace: Path
    execution: Literal["embedded", "deployed"] = "embedded"
    software: str | None = None

    @property
    def run_folder(self) -> Path:
        """Folder of the run at the coordinator: run.json, ledger, failures, report."""
        return self.workspace / "runs" / self.config.name

    @property
    def source(self) -> Site:
        """The site of Layer 1."""
        return site_named(self.sites, self.config.stages.preprocess)

    @property
    def trainer(self) -> Site:
        """The site of Layers 2 and 3."""
        return site_named(self.sites, self.config.stages.train)

    def folder_at(self, site: Site) -> Path:
        """Folder of the run at a site."""
        return site.root / self.config.name


def make_context(config: RunConfig, workspace: Path, execution: Literal["embedded", "deployed"]) -> RunContext:
    """Read the site files of a configuration and check that the stages' sites exist."""
    workspace = workspace.resolve()
    context = RunContext(
        config=config,
        sites=load_sites(config.sites, workspace=workspace),
        workspace=workspace,
        execution=execution,
        software=software(),
    )
    _ = context.source, context.trainer
    return context

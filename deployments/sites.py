"""Sites: where stages run, what they offer, and what may leave them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from deployments.endpoints import FdtEndpoint, GlobusEndpoint, GridftpEndpoint, SshEndpoint
from deployments.rank_jobs import RankJobs
from deployments.slurm_jobs import SlurmJobs
from tasks.artifacts import Record
from tasks.config import read_toml, validated
from tasks.errors import InputError

EMBEDDED_FOLDER = Path(__file__).parent / "sites"
_FILES = {"ssh": ("key", "known_hosts"), "gridftp": ("proxy", "certificates"), "globus": ("credentials",)}
"""Files of this machine that the tables of a site file name; relative ones lie beside the site file."""


class DaskCluster(Record):
    """The Dask cluster that Layer 1 runs on."""

    cluster: str = Field(
        "local", description="local, slurm, or the class of a cluster, for example dask_jobqueue.PBSCluster"
    )
    workers: int = Field(2, ge=1, description="most workers (local) or jobs (class); slurm has bounds of its own")
    keywords: dict[str, Any] = Field(default_factory=dict, description="handed to the cluster class as they are")
    slurm: SlurmJobs | None = Field(None, description="jobs of cluster = 'slurm', and of `--sbatch-array`")

    @field_validator("cluster")
    @classmethod
    def _is_known(cls, cluster: str) -> str:
        if cluster not in ("local", "slurm") and "." not in cluster:
            raise ValueError("is neither local nor slurm nor the import path of a class")
        return cluster

    @model_validator(mode="after")
    def _has_its_jobs(self) -> DaskCluster:
        if self.cluster == "slurm" and self.slurm is None:
            raise ValueError("cluster = 'slurm' needs a table [dask.slurm] (walltime and memory_mib at least)")
        return self

    @property
    def summary(self) -> str:
        """One line for tables."""
        if self.cluster == "slurm" and self.slurm is not None:
            return f"slurm, {self.slurm.summary}"
        return f"{self.cluster}, workers: {self.workers}"


class HorovodSlots(Record):
    """How Layer 2 starts its ranks."""

    launcher: Literal["local", "slurm"] = Field(
        "local", description="local: on the machine of the flow; slurm: a job of its own, see [horovod.slurm]"
    )
    slots: int = Field(2, ge=1, description="ranks at once of launcher = 'local'; a job's are in [horovod.slurm]")
    threads: int = Field(1, ge=1, description="CPU threads of each rank")
    gpu: bool = Field(
        False, description="whether each local rank must have a GPU; false: those without one take the CPU"
    )
    slurm: RankJobs | None = Field(None, description="the job of launcher = 'slurm'")

    @property
    def most_ranks(self) -> int:
        """Ranks that a training has unless it asks for fewer."""
        return self.slurm.most_ranks if self.slurm and self.launcher == "slurm" else self.slots

    @property
    def needs_gpu(self) -> bool:
        """Whether a rank without a GPU is a fault."""
        return self.slurm.gpus_per_node > 0 if self.slurm and self.launcher == "slurm" else self.gpu

    @model_validator(mode="after")
    def _has_its_job(self) -> HorovodSlots:
        if self.launcher == "slurm" and self.slurm is None:
            raise ValueError("launcher = 'slurm' needs a table [horovod.slurm] (walltime and memory_mib at least)")
        return self


class Site(Record):
    """One computing site.

    Attributes
    ----------
    root
        Folder of CamNet at the site; every artifact's path is relative to it.
    policy
        ``open``, or ``resident``: slides, patches and all that holds pixels may not leave; weights,
        scores and reports may.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    root: Path
    work_pool: str | None = None
    policy: Literal["open", "resident"] = "open"
    dask: DaskCluster = DaskCluster()
    horovod: HorovodSlots | None = None
    ssh: SshEndpoint | None = None
    gridftp: GridftpEndpoint | None = None
    globus: GlobusEndpoint | None = None
    fdt: FdtEndpoint | None = None

    @property
    def is_folder_here(self) -> bool:
        """Whether the root, seen from another site, is a folder of this machine."""
        return self.ssh is None and not (self.globus and self.globus.only)

    @model_validator(mode="after")
    def _is_reached_in_one_way(self) -> Site:
        if self.ssh and self.globus and self.globus.only:
            raise ValueError("[globus] says only = true, but there is an [ssh] account")
        return self


def load_site(path: Path, *, workspace: Path) -> Site:
    """Read one site file. A relative root is relative to `workspace`; paths may start with ``~`` or ``$NAME``.

    Raises
    ------
    InputError
        The file is missing or wrong, or a path in it has a variable that is not set.
    """
    site = validated(Site, read_toml(path), str(path))
    root = (workspace / _expanded(site.root, path)).resolve()
    update: dict[str, Any] = {"root": root}
    if site.dask.slurm:
        logs = root / _expanded(site.dask.slurm.log_directory, path)
        slurm = site.dask.slurm.model_copy(update={"log_directory": logs})
        update["dask"] = site.dask.model_copy(update={"slurm": slurm})
    for table, names in _FILES.items():
        endpoint = getattr(site, table)
        if endpoint:
            files = {name: file for name in names if (file := getattr(endpoint, name)) is not None}
            beside = {name: path.resolve().parent / _expanded(file, path) for name, file in files.items()}
            update[table] = endpoint.model_copy(update=beside)
    return site.model_copy(update=update)


def load_sites(folder: Path | None, *, workspace: Path) -> dict[str, Site]:
    """Read all site files of a folder (the two embedded sites when it is None), by name."""
    folder = folder or EMBEDDED_FOLDER
    sites = [load_site(path, workspace=workspace) for path in sorted(folder.glob("*.toml"))]
    if not sites:
        raise InputError("has no site files (*.toml)", subject=folder, remedy="write one a site, see the README")
    names = [site.name for site in sites]
    doubled = {name for name in names if names.count(name) > 1}
    if doubled:
        raise InputError(f"names {sorted(doubled)} twice", subject=folder, remedy="give each site its own name")
    return {site.name: site for site in sites}


def site_named(sites: dict[str, Site], name: str) -> Site:
    """Return the site called `name`, or raise an `InputError` that lists the known ones."""
    if name not in sites:
        raise InputError(f"no site is called {name!r}", remedy=f"use one of {', '.join(sorted(sites))}")
    return sites[name]


def _expanded(path: Path, source: Path) -> Path:
    """Replace ``$NAME`` and ``~``; what is left as it was would become the name of a folder."""
    try:
        expanded = Path(os.path.expandvars(path)).expanduser()
    except RuntimeError as error:
        raise InputError(f"{str(path)!r}: {error}", subject=source, remedy="write the path in full") from error
    if any(ord(character) < 32 or ord(character) == 127 for character in str(expanded)):
        raise InputError(f"{str(path)!r} has control characters", subject=source, remedy="name a path without them")
    if "$" in str(expanded):
        raise InputError(
            f"{str(path)!r} has a variable that is not set", subject=source, remedy="set it, or write the path in full"
        )
    return expanded

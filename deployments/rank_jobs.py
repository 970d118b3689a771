"""The Slurm job that the ranks of a training run in."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from deployments.slurm_jobs import Directive, Walltime, Word, seconds_of
from tasks.errors import InputError
from tasks.settings import Settings


class RankJobs(Settings):
    """The ``[horovod.slurm]`` table of a site file: one job a training, with the same number of ranks on each node."""

    queue: Word | None = Field(None, description="partition; default: the cluster's own")
    account: Word | None = Field(None, description="account that is charged")
    walltime: Walltime
    nodes: int = Field(1, ge=1, description="most nodes of a job")
    ranks_per_node: int = Field(1, ge=1, description="most ranks on a node; with GPUs, one for each")
    gpus_per_node: int = Field(0, ge=0, description="GPUs that are asked for on each node")
    cpus_per_rank: int | None = Field(None, ge=1, description="CPU cores of a rank; default: its threads")
    memory_mib: int = Field(ge=128, description="memory of a rank in MiB")
    launcher: Literal["srun", "mpirun"] = Field(
        "srun", description="what starts the ranks in the job; mpirun is for train.controller = 'mpi'"
    )
    mpi: Word = Field("pmix", description="what srun's --mpi is given for train.controller = 'mpi'")
    interface: Word | None = Field(
        None, description="network interface over which the ranks talk, for example ib0; default: that of the host name"
    )
    job_extra_directives: tuple[Directive, ...] = Field((), description='further options of sbatch: "--qos=long"')
    job_script_prologue: tuple[str, ...] = Field((), description="shell lines before the ranks: module load ...")
    warning_s: int = Field(
        300, ge=0, description="the ranks are told (SIGUSR1) this many seconds before the walltime; 0: not at all"
    )
    queue_timeout_s: float = Field(
        86_400.0, gt=0, description="the training ends (exit code 5) when its job has waited for this many seconds"
    )
    orphan_s: float = Field(
        120.0, ge=10, description="a job ends itself when the flow that follows it has been gone for this many seconds"
    )

    @property
    def most_ranks(self) -> int:
        """Ranks of a job on all nodes."""
        return self.nodes * self.ranks_per_node

    def nodes_for(self, ranks: int) -> int:
        """Give the fewest nodes on which `ranks` ranks fit, as many on each.

        Raises
        ------
        InputError
            They do not fit, or cannot be shared out evenly.
        """
        nodes = -(-ranks // self.ranks_per_node)
        if nodes > self.nodes:
            raise InputError(
                f"{ranks} ranks do not fit on {self.nodes} nodes with {self.ranks_per_node} ranks each",
                remedy="set train.ranks lower, or nodes and ranks_per_node in [horovod.slurm] of the site file higher",
            )
        if ranks % nodes:
            raise InputError(
                f"{ranks} ranks cannot be shared out evenly over {nodes} nodes",
                remedy=f"set train.ranks to a multiple of {nodes}",
            )
        return nodes

    def startable(self, ranks: int) -> int:
        """Give the most ranks, of `ranks` at most, that can be shared out evenly over nodes; 0: none."""
        for fewer in range(min(ranks, self.most_ranks), 0, -1):
            if fewer % -(-fewer // self.ranks_per_node) == 0:
                return fewer
        return 0

    @model_validator(mode="after")
    def _fits_together(self) -> RankJobs:
        if self.warning_s >= seconds_of(self.walltime):
            raise ValueError(f"warning_s = {self.warning_s} is not below walltime = {self.walltime!r}")
        return self

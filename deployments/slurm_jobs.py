"""The Slurm jobs that Layer 1 runs in at a site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from tasks.settings import Settings

# A worker needs this long to start and to be told of its first slide; less would be no time for work.
_LEAST_LIFETIME_S = 10.0
_WALLTIME = re.compile(r"(?:([0-9]+)-)?([0-9]+):([0-5][0-9]):([0-5][0-9])")

# These end up in the lines of a job script: what would break out of its line is refused.
Word = Annotated[str, Field(pattern=r"^\w[\w.,:@+/-]*$")]
Directive = Annotated[str, Field(pattern=r"^-[^\r\n]+$")]
Walltime = Annotated[
    str,
    Field(pattern=rf"^{_WALLTIME.pattern}$", description="time limit of a job, [DAYS-]HOURS:MINUTES:SECONDS"),
]


def seconds_of(walltime: str) -> int:
    """Give a walltime in seconds."""
    days, hours, minutes, seconds = (int(part or 0) for part in _WALLTIME.fullmatch(walltime).groups())  # type: ignore[union-attr]  # checked by the pattern
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


class SlurmJobs(Settings):
    """The ``[dask.slurm]`` table of a site file.

    A job holds `processes` workers. A worker does one slide (or part of a large one) at a time, so that a worker that
    dies costs the work on one, and the memory of a worker is that of one.
    """

    queue: Word | None = Field(None, description="partition; default: the cluster's own")
    account: Word | None = Field(None, description="account that is charged")
    walltime: Walltime
    cores: int = Field(1, ge=1, description="CPU cores of a job, shared by its workers")
    memory_mib: int = Field(ge=128, description="memory of a job in MiB, shared by its workers")
    processes: int = Field(1, ge=1, description="workers in a job; each does one slide at a time")
    minimum_jobs: int = Field(1, ge=0, description="jobs that are kept while there is work; a lost one is replaced")
    maximum_jobs: int = Field(2, ge=1, description="most jobs at once; never more than there are slides or parts")
    job_extra_directives: tuple[Directive, ...] = Field((), description='further options of sbatch: "--qos=long"')
    job_script_prologue: tuple[str, ...] = Field((), description="shell lines before a job's worker: module load ...")
    interface: Word | None = Field(None, description="network interface of scheduler and workers, for example ib0")
    local_directory: str | None = Field(
        None, pattern=r"^[\w./${}+-]+$", description="scratch folder of the workers on their node: $TMPDIR"
    )
    log_directory: Path = Field(Path("slurm-logs"), description="logs of the jobs; relative to the site's root")
    lifetime_margin_s: float = Field(
        300.0,
        ge=0,
        description="a worker takes no new slide this many seconds before its walltime; "
        "the longest slide should fit in",
    )
    lifetime_stagger_s: float = Field(
        120.0, ge=0, description="or up to this many seconds earlier, by chance: workers do not all end together"
    )
    lost_worker_timeout_s: float = Field(
        15.0, ge=0, description="a worker that does not come back in this time is replaced by a new job"
    )
    allowed_failures: int = Field(
        2, ge=0, description="a slide is tried again after so many deaths of its worker; after one more it has failed"
    )
    queue_timeout_s: float = Field(
        86_400.0, gt=0, description="the run ends (exit code 5) when it has no worker for this many seconds"
    )

    @property
    def walltime_s(self) -> int:
        """`walltime` in seconds."""
        return seconds_of(self.walltime)

    @property
    def lifetime_s(self) -> tuple[float, float]:
        """When a worker takes no new slides, in seconds of its age: earliest, latest."""
        latest = self.walltime_s - self.lifetime_margin_s
        return latest - self.lifetime_stagger_s, latest

    @property
    def summary(self) -> str:
        """One line for tables."""
        count = str(self.maximum_jobs)
        if self.minimum_jobs != self.maximum_jobs:
            count = f"{self.minimum_jobs} to {count}"
        where = f" in {self.queue}" if self.queue else ""
        return (
            f"jobs{where}: {count}; each: workers {self.processes}, cores {self.cores}, "
            f"memory {self.memory_mib} MiB, walltime {self.walltime}"
        )

    @model_validator(mode="after")
    def _fits_together(self) -> SlurmJobs:
        if self.minimum_jobs > self.maximum_jobs:
            raise ValueError(f"minimum_jobs = {self.minimum_jobs} is above maximum_jobs = {self.maximum_jobs}")
        if self.processes > self.cores:
            raise ValueError(f"processes = {self.processes}: each worker needs a core, and cores = {self.cores}")
        if self.lifetime_s[0] < _LEAST_LIFETIME_S:
            raise ValueError(
                f"walltime = {self.walltime!r} less lifetime_margin_s and lifetime_stagger_s leaves "
                f"{self.lifetime_s[0]:g} s for work (at least {_LEAST_LIFETIME_S:g}): "
                "ask for a longer walltime, or make them smaller"
            )
        return self

"""A watch over Slurm jobs that hold Dask workers: what would be an endless wait becomes an error with a name."""

from __future__ import annotations

import asyncio
import getpass
import logging
import time
from dataclasses import dataclass, field
from typing import Any

from distributed import Status

from deployments.slurm_jobs import SlurmJobs
from flows.slurm_classes import SLURMCluster, SLURMJob
from flows.slurm_commands import BUSY_S, NEVER_STARTS, RETRY_S, ask_slurm, is_busy, slurm_words
from tasks.errors import CamNetError, InputError, PermanentFault, RetryableFault

log = logging.getLogger(__name__)
_ASK_S = 5.0
_TELL_S = 60.0
# Dask has replaced a lost worker's job by then (after lost_worker_timeout_s), and the new one is in the queue.
_REPLACED_S = 15.0
_LOG_CHARACTERS = 500


@dataclass
class Submissions:
    """What Slurm says when it does not take a job; shared by a cluster's jobs and its watch.

    Attributes
    ----------
    troubles
        Emptied when it takes one.
    over
        Set when the cluster closes: no job is tried again.
    """

    troubles: list[str] = field(default_factory=list)
    over: bool = False


class SubmittedJob(SLURMJob):
    """A job of the cluster. Dask logs a failed submission and goes on as if there were a job; we keep the reason."""

    def __init__(self, *arguments: object, submissions: Submissions, **keywords: object) -> None:
        super().__init__(*arguments, **keywords)
        self._submissions = submissions
        self.refusal: str | None = None

    async def _submit_job(self, script_filename: str) -> str:
        notes, deadline = self._submissions, time.monotonic() + BUSY_S
        while True:
            try:
                said: str = await super()._submit_job(script_filename)
            except (RuntimeError, OSError) as error:
                reason = slurm_words(str(error))
                notes.troubles.append(reason)
                if notes.over or not is_busy(reason) or time.monotonic() > deadline:
                    self.refusal = reason
                    raise
                await asyncio.sleep(RETRY_S)
            else:
                notes.troubles.clear()
                return said

    async def close(self) -> None:
        """End the job; its cluster wants to find it closed then, which dask-jobqueue forgets to say."""
        await super().close()
        self.status: Any = Status.closed


class SlurmWatch:
    """Tells a cluster whose workers are to come from one that waits in vain."""

    def __init__(
        self, jobs: SlurmJobs, *, site: str, name: str, cluster: SLURMCluster, submissions: Submissions
    ) -> None:
        self._jobs = jobs
        self._site = site
        self._name = name
        self._cluster = cluster
        self._submissions = submissions
        self._had_workers = False
        self._seen_s = self._asked_s = self._told_s = time.monotonic()

    def __call__(self) -> None:
        """Check once; cheap as long as there are workers.

        Raises
        ------
        InputError
            Slurm refuses the jobs.
        RetryableFault
            Slurm cannot be reached, or no worker has come in `queue_timeout_s`.
        PermanentFault
            All jobs have ended and there is no worker.
        """
        now_s = time.monotonic()
        if self._cluster.scheduler_info["workers"]:
            self._had_workers = True
            self._seen_s = now_s
            return
        submitted = list(self._cluster.workers.values())
        refusals = [job.refusal for job in submitted if job.refusal is not None]
        if refusals and len(refusals) == len(submitted):
            raise self._refused(refusals[-1])
        if now_s - self._asked_s < min(_ASK_S, self._jobs.queue_timeout_s):
            return
        self._asked_s = now_s
        self._look_at_queue(bool(submitted), now_s - self._seen_s)

    def _look_at_queue(self, submitted: bool, alone_s: float) -> None:
        queue = ask_slurm("squeue", "-h", f"--name={self._name}", f"--user={getpass.getuser()}", "-o", "%i %T %r")
        waiting = [line.split(" ", 2) for line in (queue or "").splitlines() if line.count(" ") >= 2]
        reasons = {reason for _, state, reason in waiting if state == "PENDING"}
        if waiting and reasons and reasons <= NEVER_STARTS and all(state == "PENDING" for _, state, _ in waiting):
            raise self._refused(f"they would wait for ever ({', '.join(sorted(reasons))})")
        replaced_s = self._jobs.lost_worker_timeout_s + _REPLACED_S if self._had_workers else 0.0
        if queue == "" and submitted and alone_s > replaced_s:
            raise PermanentFault(
                f"its jobs have ended and no worker is there; the last one said: {self._last_log()}",
                subject=f"site {self._site}",
                remedy=f"see {self._jobs.log_directory}; the jobs need this Python environment, the slides and "
                "job_script_prologue as they are here; then run again: finished slides are kept",
            )
        known = [f"job {job} {state} ({reason})" for job, state, reason in waiting]
        stands = "; ".join(known + self._submissions.troubles[-1:]) or "no job is in the queue"
        if alone_s > self._jobs.queue_timeout_s:
            raise RetryableFault(
                f"no worker for {alone_s:.0f} s ({stands})",
                subject=f"site {self._site}",
                remedy="run again when the cluster is less busy, or change queue_timeout_s or what the jobs ask for "
                "in [dask.slurm] of the site file: finished slides are kept",
            )
        if time.monotonic() - self._told_s > _TELL_S:
            self._told_s = time.monotonic()
            log.info("site %s has had no worker for %.0f s: %s", self._site, alone_s, stands)

    def _refused(self, reason: str) -> CamNetError:
        subject = f"site {self._site}"
        if is_busy(reason):
            return RetryableFault(
                f"Slurm does not take jobs: {reason}",
                subject=subject,
                remedy="run again when Slurm answers (`sinfo`): finished slides are kept",
            )
        return InputError(
            f"Slurm refuses the jobs: {reason}",
            subject=subject,
            remedy="correct [dask.slurm] in the site file (queue, account, walltime, cores, memory_mib)",
        )

    def _last_log(self) -> str:
        logs = sorted(self._jobs.log_directory.glob(f"{self._name}-*.log"), key=lambda path: path.stat().st_mtime)
        text = logs[-1].read_text(errors="replace").strip() if logs else ""
        return text[-_LOG_CHARACTERS:] or "nothing"

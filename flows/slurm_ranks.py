"""The ranks of a training as a Slurm job: submitted, followed, and cancelled whatever happens."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tasks
from deployments.rank_jobs import RankJobs
from flows.ranks_script import job_environment, ranks_script
from flows.slurm_commands import BUSY_S, NEVER_STARTS, RETRY_S, is_busy, refuse_missing_commands, slurm_words
from flows.slurm_job import JobStatus, ended_after, fault_of, status_of
from tasks import atomic
from tasks.errors import InputError, RetryableFault
from tasks.training.allocation import LEASE_NAME, Allocation, start_command
from tasks.training.folder import CARD_NAME, LOG_NAME
from tasks.training.job import TrainingJob, read_job
from tasks.training.launcher import Follower, Progress, failure, last_lines
from tasks.training.rank_error import first_error
from tasks.training.roll_call import RollCall

log = logging.getLogger(__name__)
_POLL_S = 0.5
_ASK_S = 5.0
_TELL_S = 60.0
# A rank's error ends the job; a job that is still there so much later is ended by us.
_LAST_WORDS_S = 10.0
# Files of a job may be seen this much later on another machine (attributes that NFS keeps).
_SEEN_S = 60.0


@dataclass(frozen=True)
class SlurmRanks:
    """Runs trainings as Slurm jobs; called as `tasks.training.launcher.launch` is.

    Attributes
    ----------
    site
        Name of the site, for messages.
    """

    site: str
    jobs: RankJobs

    def __call__(
        self, job_path: Path, *, log_path: Path, silence_s: float, on_progress: Progress | None = None
    ) -> None:
        """Run all ranks of a job of training in one job of Slurm and wait for the end.

        When this returns or raises, the Slurm job has been ended. When this process is killed, the job ends
        itself within ``orphan_s``. The folder of `job_path` must be the same on all nodes.

        Raises
        ------
        CamNetError
            The error of the rank that failed first, as it was raised there.
        InputError
            Slurm refuses the job or would never start it.
        RankDied
            One died without a word, or with its node.
        RetryableFault
            Slurm cannot be reached, the job waited too long, reached its walltime, lost a node, was cancelled or
            pre-empted, or its ranks fell silent.
        PermanentFault
            Slurm ended the job because it took more memory than it had asked for.
        """
        refuse_missing_commands(f"site {self.site}", "set launcher = 'local' in its [horovod] table")
        job = read_job(job_path)
        name = f"camnet-train-{secrets.token_hex(4)}"
        script = self._write_script(job, job_path, log_path, name)
        with ended_after(name):
            number = self._submit(script)
            log.info("site %s: the ranks are job %s of Slurm (%s)", self.site, number, name)
            watch = _Watch(self, job, job_path.with_name(LEASE_NAME), name, number, on_progress)
            ended = watch.wait(silence_s)
        self._raise_failure(job, log_path, ended, silence_s)

    def _write_script(self, job: TrainingJob, job_path: Path, log_path: Path, name: str) -> Path:
        cpus = self.jobs.cpus_per_rank or job.threads
        allocation = Allocation(
            job=job_path,
            launcher=self.jobs.launcher,
            mpi=self.jobs.mpi,
            nodes=self.jobs.nodes_for(job.ranks),
            cpus_per_rank=cpus,
            interface=self.jobs.interface,
            orphan_s=self.jobs.orphan_s,
        )
        start_command(allocation, job)  # refuses what could not start before anything waits in a queue
        path = job_path.with_name("allocation.json")
        atomic.write_text(path, allocation.model_dump_json(indent=1) + "\n")
        command = [sys.executable, "-m", "tasks.training.allocation", str(path)]
        script = job_path.with_name("ranks.sh")
        text = ranks_script(
            self.jobs, name=name, command=command, log_path=log_path, ranks=job.ranks, cpus_per_rank=cpus
        )
        atomic.write_text(script, text)
        return script

    def _submit(self, script: Path) -> str:
        environment = job_environment(os.environ, package_root=Path(str(tasks.__file__)).parents[1])
        deadline = time.monotonic() + BUSY_S
        while True:
            said = subprocess.run(
                ["sbatch", "--parsable", str(script)], env=environment, capture_output=True, text=True, check=False
            )
            if said.returncode == 0:
                return said.stdout.strip().split(";")[0]
            reason = slurm_words(said.stderr)
            if not is_busy(reason):
                raise self.refused(reason)
            if time.monotonic() > deadline:
                raise RetryableFault(
                    f"Slurm does not take the job: {reason}",
                    subject=f"site {self.site}",
                    remedy="run again when Slurm answers (`sinfo`)",
                )
            time.sleep(RETRY_S)

    def refused(self, reason: str) -> InputError:
        """Give the error of a job that Slurm will never run."""
        return InputError(
            f"Slurm refuses the job: {reason}",
            subject=f"site {self.site}",
            remedy="correct [horovod.slurm] in the site file (queue, account, walltime, nodes, memory_mib)",
        )

    def _raise_failure(self, job: TrainingJob, log_path: Path, ended: JobStatus | None, silence_s: float) -> None:
        if first_error(job.errors_folder) is None and ended is not None:
            if ended.state in ("COMPLETED", "GONE") and _appears(job.model_folder / CARD_NAME):
                return
            fault = fault_of(ended, last_lines(log_path))
            # The ranks of the other nodes are left.
            lost_node = ended.state == "NODE_FAIL" and RollCall(job.roll_folder).dead(job.ranks)
            if fault is not None and not lost_node:
                raise fault
        silent = silence_s if ended is None else None
        raise failure(job, log_path, code=None, silence_s=silent, startable=self.jobs.startable)


class _Watch:
    """Follows one job from its submission to its end."""

    def __init__(
        self,
        ranks: SlurmRanks,
        job: TrainingJob,
        lease: Path,
        name: str,
        number: str,
        on_progress: Progress | None,
    ) -> None:
        self._ranks, self._job, self._lease, self._name = ranks, job, lease, name
        self._on_progress = on_progress
        self._follower = Follower(job.model_folder / LOG_NAME, on_progress)
        self._status = JobStatus(number, "PENDING")
        self._submitted_s = self._heard_s = time.monotonic()
        self._asked_s = self._told_s = float("-inf")

    def wait(self, silence_s: float) -> JobStatus | None:
        """Wait until the job has ended or must be ended; None when it fell silent."""
        failed_s: float | None = None
        while True:
            # What the file system refuses now it may take the next time; the job waits for `orphan_s`.
            with contextlib.suppress(OSError):
                self._lease.touch()
            now_s = time.monotonic()
            if self._follower.follow() or self._status.is_waiting:
                self._heard_s = now_s
            if now_s - self._asked_s > _ASK_S or (failed_s is not None and now_s - self._asked_s > 4 * _POLL_S):
                self._asked_s = now_s
                self._ask()
            if self._status.has_ended:
                self._follower.follow()
                return self._status
            if now_s - self._heard_s > silence_s:
                return None
            if failed_s is None and any(self._job.errors_folder.glob("rank-*.json")):
                failed_s = now_s
            if failed_s is not None and now_s - failed_s > _LAST_WORDS_S:
                return self._status
            time.sleep(_POLL_S)

    def _ask(self) -> None:
        before, self._status = self._status, status_of(self._name, self._status)
        status = self._status
        if status.is_waiting:
            self._tell_waiting(changed=status != before or self._told_s == float("-inf"))
        elif status.state == "RUNNING" and before.state != "RUNNING":
            log.info("job %s runs on %s", status.number, status.reason)

    def _tell_waiting(self, *, changed: bool) -> None:
        status, waited_s = self._status, time.monotonic() - self._submitted_s
        if status.reason in NEVER_STARTS:
            raise self._ranks.refused(f"it would wait for ever ({status.reason})")
        if waited_s > self._ranks.jobs.queue_timeout_s:
            raise RetryableFault(
                f"job {status.number} has waited for {waited_s:.0f} s ({status.reason})",
                subject=f"site {self._ranks.site}",
                remedy="run again when the cluster is less busy, or change queue_timeout_s or what the job asks for in "
                "[horovod.slurm] of the site file",
            )
        if changed or time.monotonic() - self._told_s > _TELL_S:
            self._told_s = time.monotonic()
            log.info("job %s waits (%s), since %.0f s", status.number, status.reason, waited_s)
            if self._on_progress is not None:
                self._on_progress({"event": "queue", "job": status.number, "reason": status.reason})


def _appears(path: Path) -> bool:
    deadline = time.monotonic() + _SEEN_S
    while not path.is_file():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True

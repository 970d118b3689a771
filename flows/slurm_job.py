"""One Slurm job: how it stands, how it ends, and what its end means."""

from __future__ import annotations

import contextlib
import getpass
import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from flows.slurm_commands import ask_slurm
from tasks.errors import CamNetError, PermanentFault, RetryableFault

log = logging.getLogger(__name__)
_POLL_S = 0.5
# After scancel: Slurm's KillWait, 30 s by default, and a little more.
_GONE_S = 45.0
_LINE = re.compile(r"\d+\|[A-Z_]+\|[^|]*\|[^|]*")
_WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"}
_ENDED = {
    "COMPLETED",
    "FAILED",
    "TIMEOUT",
    "DEADLINE",
    "CANCELLED",
    "PREEMPTED",
    "NODE_FAIL",
    "BOOT_FAIL",
    "OUT_OF_MEMORY",
    "LAUNCH_FAILED",
    "RECONFIG_FAIL",
    "REVOKED",
}


@dataclass(frozen=True)
class JobStatus:
    """A job as Slurm tells of it.

    Attributes
    ----------
    state
        Slurm's word; ``GONE`` when it has forgotten the job, ``UNKNOWN`` when it does not answer.
    reason
        Why it waits or has ended; of a running job its nodes.
    """

    number: str
    state: str
    reason: str = ""

    @property
    def is_waiting(self) -> bool:
        """Whether it has not begun."""
        return self.state in _WAITING

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.state in _ENDED or self.state == "GONE"


def status_of(name: str, before: JobStatus) -> JobStatus:
    """Ask for the job by its name: one that Slurm has forgotten gives an empty answer and no error.

    Of two jobs with that name (see `flows.ranks_script`) the one that has begun counts.
    """
    told = ask_slurm("squeue", "-h", "-t", "all", f"--name={name}", f"--user={getpass.getuser()}", "-o", "%i|%T|%r|%N")
    if told is None:
        return before if before.is_waiting else JobStatus(before.number, "UNKNOWN")
    if not told:
        return JobStatus(before.number, "GONE")
    known = [_read(line) for line in told.splitlines() if _LINE.fullmatch(line)]
    if not known:  # a banner, or the words of a program that stands before squeue
        log.warning("squeue says %r, which tells no job", told[:200])
        return before if before.is_waiting else JobStatus(before.number, "UNKNOWN")
    return min(known, key=lambda status: (status.is_waiting, int(status.number)))


def _read(line: str) -> JobStatus:
    number, state, reason, nodes = line.split("|", 3)
    return JobStatus(number, state, nodes if state == "RUNNING" else reason.replace("None", "no reason told yet"))


@contextlib.contextmanager
def ended_after(name: str) -> Iterator[None]:
    """End the job of that name after the block, however the block ends, and wait until nothing of it runs."""
    try:
        yield
    finally:
        of_job = [f"--name={name}", f"--user={getpass.getuser()}"]
        if ask_slurm("squeue", "-h", "-o", "%i", *of_job) != "":
            ask_slurm("scancel", "--quiet", *of_job)
            deadline = time.monotonic() + _GONE_S
            while ask_slurm("squeue", "-h", "-o", "%i", *of_job) and time.monotonic() < deadline:
                time.sleep(_POLL_S)


def fault_of(ended: JobStatus, last: str) -> CamNetError | None:
    """Give the error of a job that Slurm ended; None when its ranks ended it."""
    subject = f"job {ended.number}"
    told = f"Last lines:\n{last}\n"
    if ended.state == "OUT_OF_MEMORY":
        return PermanentFault(
            f"Slurm ended it for want of memory. {told}",
            subject=subject,
            remedy="raise memory_mib in [horovod.slurm] of the site file, or lower train.batch_size",
        )
    cause = {
        "TIMEOUT": "it reached its walltime",
        "DEADLINE": "it reached its deadline",
        "CANCELLED": "it was cancelled by somebody else",
        "PREEMPTED": "it was pre-empted",
        "NODE_FAIL": "a node failed",
        "BOOT_FAIL": "a node did not start",
        "LAUNCH_FAILED": "a node could not start it",
        "RECONFIG_FAIL": "a node could not be made ready",
        "REVOKED": "another cluster took it",
        "GONE": "it has ended, and Slurm does not know how",
    }.get(ended.state)
    if cause is None:
        return None
    return RetryableFault(
        f"{cause}. {told}",
        subject=subject,
        remedy="start the training again; if its walltime was too short, raise it in [horovod.slurm] of the site file",
    )

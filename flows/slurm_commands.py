"""Slurm's commands, and what their answers mean."""

from __future__ import annotations

import logging
import shutil
import subprocess

from tasks.errors import InputError

log = logging.getLogger(__name__)
_BUSY_WORDS = ("contact slurm controller", "timed out", "temporarily", "connection refused", "try again")
BUSY_S = 600.0
"""A Slurm that does not answer is asked to take a job for so long."""
RETRY_S = 2.0
_COMMANDS = ("sbatch", "squeue", "scancel")
# Slurm takes such jobs, unless it was told to look at limits at once, and never starts them.
NEVER_STARTS = {
    "AccountNotAllowed",
    "BadConstraints",
    "InvalidAccount",
    "InvalidQOS",
    "PartitionConfig",
    "PartitionNodeLimit",
    "PartitionTimeLimit",
    "QOSNotAllowed",
}


def is_busy(reason: str) -> bool:
    """Whether Slurm may take the same job a little later."""
    return any(words in reason.lower() for words in _BUSY_WORDS)


def slurm_words(said: str) -> str:
    """Take Slurm's own words from what it, or dask-jobqueue, tells of a command that failed."""
    stderr = said.partition("stderr:")[2].strip() or said.strip()
    return stderr.removeprefix("sbatch: error: ").replace("\nsbatch: error: ", "; ")


def ask_slurm(*command: str) -> str | None:
    """Run one of Slurm's commands; None when it does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("%s: %s", command[0], error)
        return None
    if done.returncode != 0:
        log.warning("%s: %s", command[0], done.stderr.strip())
        return None
    return done.stdout.strip()


def refuse_missing_commands(subject: str, instead: str) -> None:
    """Raise an `InputError` about `subject` when Slurm's commands are not here; `instead`: what else could be done."""
    missing = [command for command in _COMMANDS if shutil.which(command) is None]
    if missing:
        raise InputError(
            f"Slurm's commands are not on this machine ({', '.join(missing)})",
            subject=subject,
            remedy="run this stage on a login node of the site (or let its Prefect worker do so: --deployed), "
            f"or {instead}",
        )

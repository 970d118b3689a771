"""Start the ranks of a training, watch them, and end them all whatever happens."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import tasks
from tasks.errors import CamNetError, PermanentFault, RetryableFault
from tasks.training.folder import LOG_NAME
from tasks.training.job import TrainingJob, read_job
from tasks.training.processes import ProcessTree
from tasks.training.rank_died import RankDied
from tasks.training.rank_error import first_error
from tasks.training.roll_call import RollCall
from tasks.training.stop import stopped

log = logging.getLogger(__name__)
Progress = Callable[[dict[str, Any]], None]
Launch = Callable[..., None]
"""What runs the ranks of a job to their end; its arguments and errors are those of `launch`."""
_POLL_S = 0.2
# After the first rank has left an error, the others get this long to leave theirs.
_LAST_WORDS_S = 2.0
_LAST_LINES = 15
_FULL_BYTES = 2**18
_STOPS = (signal.SIGTERM, signal.SIGUSR1)
# Ranks that were told to stop get this long for their step and a checkpoint.
_STOP_S = 60.0
# The rest of the caller's environment stays out: settings of its own Horovod, MPI or Slurm job would mix in.
_KEPT = {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"}
_KEPT_PREFIXES = (
    "TF_",
    "NCCL_",
    "OMPI_MCA_",
    "HOROVOD_TIMELINE",
    "HOROVOD_CYCLE",
    "HOROVOD_FUSION",
    "HOROVOD_GLOO_IFACE",
)


def launch(
    job_path: Path,
    *,
    log_path: Path,
    silence_s: float,
    on_progress: Progress | None = None,
) -> None:
    """Run all ranks of a job on this machine and wait for the end.

    When this returns or raises, no process of the training is left. The end of one rank ends all.

    Parameters
    ----------
    job_path
        The job (`tasks.training.job.TrainingJob`): its ranks, threads and controller are used.
    log_path
        Receives all that the ranks print; what is in it stays.
    silence_s
        A training whose log does not grow for this long is ended.
    on_progress
        Called with each event of the training's log (see `tasks.training.log`) soon after it is written.

    Raises
    ------
    CamNetError
        The error of the rank that failed first, as it was raised there.
    RankDied
        One died without a word (killed).
    RetryableFault
        The ranks fell silent. Or they, or this process, were told to stop (SIGTERM, SIGUSR1) and have written a
        checkpoint.
    PermanentFault
        The launcher of the controller is not installed.
    """
    job = read_job(job_path)
    rank = [sys.executable, "-m", "tasks.training", str(job_path)]
    command = ranks_command(job.config.controller, job.ranks, rank)
    follower = Follower(job.model_folder / LOG_NAME, on_progress)
    with _signals() as told, ProcessTree(command, rank_environment(job), log_path) as tree:
        try:
            silent = _watch(tree, job, follower, silence_s, told)
        except BaseException:  # an interruption: that error does not say what has become of the training
            _stop(tree, job)
            if (error := first_error(job.errors_folder)) is not None:
                log.warning("%s", error.exception(last_lines(log_path), job.config))
            raise
        if told:
            _stop(tree, job)
        code = tree.returncode()
    follower.follow()
    error = first_error(job.errors_folder)
    if told and error is None and code != 0:
        raise stopped(told[0])
    if silent or code != 0 or error is not None:
        raise failure(job, log_path, code=code, silence_s=silence_s if silent else None)


def ranks_command(controller: Literal["gloo", "mpi"], ranks: int, rank: list[str]) -> list[str]:
    """Argument list that starts `ranks` copies of the command `rank` on this machine.

    Raises
    ------
    PermanentFault
        ``horovodrun`` is not beside this Python.
    """
    if controller == "mpi":
        return mpirun_command(ranks, rank, "-H", f"localhost:{ranks}", "--mca", "mpi_yield_when_idle", "1")
    horovodrun = Path(sys.executable).with_name("horovodrun")
    if not horovodrun.is_file():
        raise PermanentFault("is not there", subject=horovodrun, remedy="run containers/horovod/build.sh")
    return [str(horovodrun), "-np", str(ranks), "--gloo", "-H", f"localhost:{ranks}", *rank]


def mpirun_command(ranks: int, rank: list[str], *options: str) -> list[str]:
    """Argument list of Open MPI's ``mpirun`` for `ranks` copies of the command `rank`."""
    # Containers forbid the system call by which vader copies between processes.
    always = ["--allow-run-as-root", "--bind-to", "none", "--mca", "btl_vader_single_copy_mechanism", "none"]
    return ["mpirun", "-np", str(ranks), *options, *always, *rank]


def rank_environment(job: TrainingJob) -> dict[str, str]:
    """Environment of ranks on this machine: little of the caller's, and `rank_settings`."""
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    return kept | rank_settings(job)


def rank_settings(job: TrainingJob) -> dict[str, str]:
    """Variables that all ranks need; threads are limited so that ranks do not fight for cores."""
    threads = str(job.threads)
    fusion, cycle = job.config.fusion_mb, job.config.cycle_ms
    return {
        **({} if fusion is None else {"HOROVOD_FUSION_THRESHOLD": str(round(fusion * 2**20))}),
        **({} if cycle is None else {"HOROVOD_CYCLE_TIME": f"{cycle:g}"}),
        # The ranks run the code of this process, installed or not.
        "PYTHONPATH": str(Path(str(tasks.__file__)).parents[1]),
        "PYTHONUNBUFFERED": "1",
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "HOROVOD_CONTROLLER": job.config.controller,
        "HOROVOD_CPU_OPERATIONS": job.config.controller,
        "HOROVOD_GLOO_TIMEOUT_SECONDS": "120",
        "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS": str(max(1, round(job.config.silence_s))),
    }


class Follower:
    """Reads what was added to the training's log."""

    def __init__(self, path: Path, on_progress: Progress | None) -> None:
        self._path, self._on_progress, self._offset = path, on_progress, 0

    def follow(self) -> bool:
        """Hand on all new complete lines; whether there were any."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                added = file.read()
        except FileNotFoundError:
            return False
        complete = added[: added.rfind(b"\n") + 1]
        self._offset += len(complete)
        for line in complete.splitlines():
            if self._on_progress is not None:
                self._on_progress(json.loads(line))
        return bool(complete)


def _watch(tree: ProcessTree, job: TrainingJob, follower: Follower, silence_s: float, told: list[str]) -> bool:
    """Wait until the command ends, a rank leaves an error or a signal comes; whether it fell silent instead."""
    heard = time.monotonic()
    failed: float | None = None
    while tree.returncode() is None and not told:
        now = time.monotonic()
        if follower.follow():
            heard = now
        if now - heard > silence_s:
            return True
        if failed is None and _has_failed(job):
            failed = now
        if failed is not None and now - failed > _LAST_WORDS_S:
            return False
        time.sleep(_POLL_S)
    return False


def _has_failed(job: TrainingJob) -> bool:
    return job.errors_folder.is_dir() and any(job.errors_folder.glob("rank-*.json"))


@contextmanager
def _signals() -> Iterator[list[str]]:
    """Note what would kill this process, unless someone else listens (in a flow, Prefect does)."""
    told: list[str] = []

    def note(number: int, _: FrameType | None) -> None:
        told.append(f"the launcher got {signal.Signals(number).name}")

    of_main = threading.current_thread() is threading.main_thread()
    own = [number for number in _STOPS if of_main and signal.getsignal(number) == signal.SIG_DFL]
    for number in own:
        signal.signal(number, note)
    try:
        yield told
    finally:
        for number in own:
            signal.signal(number, signal.SIG_DFL)


def _stop(tree: ProcessTree, job: TrainingJob) -> None:
    """Tell the ranks to write a checkpoint and wait until they have."""
    job.stop_file.touch()
    deadline = time.monotonic() + _STOP_S
    while tree.returncode() is None and not _has_failed(job) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def failure(
    job: TrainingJob,
    log_path: Path,
    *,
    code: int | None,
    silence_s: float | None,
    startable: Callable[[int], int] = int,
) -> CamNetError:
    """Give the error to raise for a training that failed: that of a rank, of its silence, or of ranks that died.

    Parameters
    ----------
    startable
        With how many ranks of so many that are left the training can be started again.
    """
    last = last_lines(log_path)
    error = first_error(job.errors_folder)
    if error is not None:
        return error.exception(last, job.config)
    if silence_s is None and shutil.disk_usage(job.work).free < _FULL_BYTES:
        # A rank cannot even leave its error then.
        return PermanentFault(
            "the training ended, and the disk is full",
            subject=job.work,
            remedy="free some space there, then start the training again: it goes on from its last checkpoint",
        )
    told = f"Last lines:\n{last}\n"
    if silence_s is not None:
        return RetryableFault(
            f"the training said nothing for {silence_s:.0f} s and was ended. {told}",
            subject=log_path,
            remedy="look at the last lines; raise train.silence_s if epochs are slow",
        )
    dead = RollCall(job.roll_folder).dead(job.ranks)
    which = "".join(f"rank {rank}; " for rank in dead)
    of_code = "" if code is None else f"exit code {code}; "
    return RankDied(
        f"a rank died without a word ({which}{of_code}killed, or out of memory?). {told}",
        subject=log_path,
        remedy="start the training again; with fewer ranks or a smaller train.batch_size if memory was short",
        dead=dead,
        left=startable(job.ranks - len(dead)) if dead else 0,
    )


def last_lines(log_path: Path) -> str:
    """Last lines that the ranks printed."""
    with log_path.open("rb") as file:
        file.seek(max(0, log_path.stat().st_size - 16384))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-_LAST_LINES:])

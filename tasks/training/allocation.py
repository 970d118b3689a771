"""``python -m tasks.training.allocation ALLOCATION.json``: starts the ranks inside a Slurm job and waits for them."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Literal

import psutil
from pydantic import Field, ValidationError

from tasks.artifacts import Record
from tasks.errors import CamNetError, ExitCode, InputError
from tasks.training.gloo_place import RENDEZVOUS
from tasks.training.job import TrainingJob, read_job
from tasks.training.launcher import mpirun_command, rank_settings
from tasks.training.rank_error import RankError, leave_error

LEASE_NAME = "followed"
"""File beside the job that its flow touches again and again."""
_CHECK_S = 0.5
# Ranks that have been told to stop get this long to write a checkpoint; less when Slurm ends the job before.
_GRACE_S = 300.0
_log = logging.getLogger("tasks.training.allocation")


class Allocation(Record):
    """The nodes that Slurm gives to a training, and how ranks are started on them."""

    job: Path = Field(description="of the training, `tasks.training.job.TrainingJob`")
    launcher: Literal["srun", "mpirun"]
    mpi: str = Field(description="what srun's --mpi is given under the controller mpi")
    nodes: int = Field(ge=1)
    cpus_per_rank: int = Field(ge=1)
    interface: str | None = None
    orphan_s: float = Field(gt=0)


def start_command(allocation: Allocation, job: TrainingJob) -> list[str]:
    """Argument list that starts the ranks of `job` on all nodes of the allocation.

    Raises
    ------
    InputError
        ``mpirun`` is to start ranks that do not talk over MPI.
    """
    rank = [sys.executable, "-m", "tasks.training", str(allocation.job)]
    controller = job.config.controller
    if allocation.launcher == "mpirun":
        if controller != "mpi":
            raise InputError(
                f"mpirun starts ranks that talk over MPI, and train.controller is {controller}",
                remedy="set train.controller = 'mpi', or launcher = 'srun' in [horovod.slurm] of the site file",
            )
        return mpirun_command(job.ranks, rank)
    return [
        "srun",
        f"--ntasks={job.ranks}",
        f"--ntasks-per-node={job.ranks // allocation.nodes}",
        f"--cpus-per-task={allocation.cpus_per_rank}",
        "--distribution=block",
        "--kill-on-bad-exit=1",
        "--export=ALL",
        f"--mpi={allocation.mpi if controller == 'mpi' else 'none'}",
        *rank,
    ]


def interface_settings(interface: str | None) -> dict[str, str]:
    """Variables that keep Gloo, Open MPI and NCCL to one network interface."""
    if interface is None:
        return {}
    names = ("HOROVOD_GLOO_IFACE", "OMPI_MCA_btl_tcp_if_include", "OMPI_MCA_oob_tcp_if_include", "NCCL_SOCKET_IFNAME")
    return dict.fromkeys(names, interface)


def main(arguments: list[str]) -> int:
    """Run the ranks; the exit code is theirs."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s")
    if len(arguments) != 1:
        _log.error("usage: python -m tasks.training.allocation ALLOCATION.json")
        return ExitCode.USAGE
    try:
        allocation = Allocation.model_validate_json(Path(arguments[0]).read_bytes())
        job = read_job(allocation.job)
    except (OSError, ValidationError, InputError) as error:
        _log.error("%s: %s", arguments[0], error)
        return ExitCode.USAGE
    try:
        with _rendezvous(allocation, job) as meeting:
            environment = {**os.environ, **rank_settings(job), **interface_settings(allocation.interface), **meeting}
            return _run(start_command(allocation, job), environment, allocation)
    except CamNetError as error:
        leave_error(job.errors_folder, RankError.of(error, rank=0))
        return error.exit_code


@contextmanager
def _rendezvous(allocation: Allocation, job: TrainingJob) -> Iterator[dict[str, str]]:
    """Keep the place where Gloo's ranks find each other; give the variables that name it."""
    if job.config.controller != "gloo":
        yield {}
        return
    from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer

    address = _address(allocation)
    with RendezvousHTTPServer((address, 0), RendezvousHandler, 0) as server:
        threading.Thread(target=server.serve_forever, name="rendezvous", daemon=True).start()
        try:
            yield {RENDEZVOUS: address, "HOROVOD_GLOO_RENDEZVOUS_PORT": str(server.server_address[1])}
        finally:
            server.shutdown()


def _address(allocation: Allocation) -> str:
    """IPv4 address of this node that the ranks on the others reach."""
    if allocation.interface is None:
        address = socket.gethostbyname(socket.gethostname())
        if address.startswith("127.") and allocation.nodes > 1:
            raise InputError(
                f"the name of node {socket.gethostname()} stands for {address}, which other nodes cannot reach",
                remedy="set interface in [horovod.slurm] of the site file to the network of the nodes (`ip address`)",
            )
        return address
    found = psutil.net_if_addrs().get(allocation.interface, [])
    for one in found:
        if one.family == socket.AF_INET:
            return one.address
    raise InputError(
        f"node {socket.gethostname()} has no interface {allocation.interface} with an IPv4 address",
        remedy=f"correct interface in [horovod.slurm]; there are {', '.join(sorted(psutil.net_if_addrs()))}",
    )


def _run(command: list[str], environment: dict[str, str], allocation: Allocation) -> int:
    """Run `command` to its end; told to stop, or followed by no flow any more, tell the ranks and give them time."""
    told: list[str] = []

    def stop(number: int, _: FrameType | None) -> None:
        told.append(f"told to stop by {signal.Signals(number).name}")

    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, stop)
    lease = _Lease(allocation.job.with_name(LEASE_NAME), allocation.orphan_s)
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL) as ranks:
        while ranks.poll() is None:
            if lease.has_ended():
                told.append(f"the flow that follows this job has been gone for {allocation.orphan_s:.0f} s")
            if told:
                _log.info("%s", told[0])
                return _end(ranks)
            time.sleep(_CHECK_S)
        return _code(ranks.returncode)


def _end(ranks: subprocess.Popen[bytes]) -> int:
    # Both srun and mpirun hand this signal on; SIGTERM would make srun kill the ranks.
    ranks.send_signal(signal.SIGUSR1)
    try:
        return _code(ranks.wait(_GRACE_S))
    except subprocess.TimeoutExpired:
        ranks.kill()
        return ExitCode.RETRY_LATER


def _code(returncode: int) -> int:
    return returncode if returncode >= 0 else 128 - returncode


class _Lease:
    """Whether the flow's sign of life still changes; clocks of different machines are not compared."""

    def __init__(self, path: Path, orphan_s: float) -> None:
        self._path, self._orphan_s = path, orphan_s
        self._seen: int | None = None
        self._changed = time.monotonic()

    def has_ended(self) -> bool:
        """Look once."""
        try:
            sign: int | None = self._path.stat().st_mtime_ns
        except OSError:
            sign = self._seen
        if sign != self._seen:
            self._seen, self._changed = sign, time.monotonic()
        return time.monotonic() - self._changed > self._orphan_s


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A real Slurm on this machine for tests: munge, a controller and several virtual nodes, without systemd or cgroups."""

from __future__ import annotations

import getpass
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deployments.process_group import start_group, stop_group
from tests.services.camnet_cli import write_sites

PARTITION = "cpu"
_TRIES = 3
_START_S = 60.0
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


@dataclass(frozen=True)
class Slurm:
    """A running Slurm and its client commands.

    Attributes
    ----------
    environment
        What a process needs to use it, beside the variables that it has.
    nodes
        Names of the virtual nodes, all in the partition `PARTITION`.
    """

    folder: Path
    environment: dict[str, str]
    nodes: tuple[str, ...]

    def run(self, *command: str | Path) -> str:
        """Run a client command and give its output."""
        done = subprocess.run(
            [str(part) for part in command],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def states(self, job: str | None = None) -> dict[str, str]:
        """States of all jobs, or of one job or job array, finished ones too, by id."""
        only = () if job is None else ("-j", job)
        return dict(
            line.split("|") for line in self.run("squeue", "-h", "-t", "all", "-r", "-o", "%i|%T", *only).split()
        )

    def unfinished(self) -> list[str]:
        """Ids of the jobs that wait or run."""
        return self.run("squeue", "-h", "-r", "-o", "%i").split()

    def wait_for(self, job: str, timeout_s: float = 120) -> set[str]:
        """Wait for the end of a job or job array; give the states in which its tasks ended."""
        wait_until(lambda: not set(self.states(job).values()) & {"PENDING", "RUNNING", "COMPLETING"}, timeout_s)
        return set(self.states(job).values())

    def nodes_used(self) -> set[str]:
        """Nodes that jobs have run on so far."""
        return set(self.run("squeue", "-h", "-t", "all", "-r", "-o", "%N").split())


@dataclass(frozen=True)
class _Settings:
    cpus: int
    memory_mib: int
    kill_wait_s: int


@contextmanager
def running_slurm(nodes: int = 3, cpus: int = 1, memory_mib: int = 8000, kill_wait_s: int = 2) -> Iterator[Slurm]:
    """Run a Slurm in a folder of its own for as long as the block lasts; nothing in /etc is used or changed.

    The nodes promise more than the machine has, and limits of memory are for scheduling only (no cgroups). At
    the end all jobs are cancelled, the daemons stopped and the folder removed. The daemons die with us, also
    when we are killed.
    """
    # Not below pytest's folders: the path of a socket has 107 characters at most, and munge wants it reachable.
    folder = Path(tempfile.mkdtemp(prefix="camnet-slurm-"))
    folder.chmod(0o755)
    slurm = Slurm(
        folder,
        {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _PATH},
        tuple(f"n{number}" for number in range(1, nodes + 1)),
    )
    try:
        with _started(slurm, _Settings(cpus, memory_mib, kill_wait_s)):
            yield slurm
    finally:
        shutil.rmtree(folder)


@contextmanager
def _started(slurm: Slurm, settings: _Settings) -> Iterator[None]:
    with ExitStack() as stack:
        for left in reversed(range(_TRIES)):
            try:
                daemons = stack.enter_context(_daemons(slurm, settings))
                break
            except TimeoutError:  # another process took a port between our look and the daemon's
                if not left:
                    raise
        stack.callback(_cancel_all, slurm)
        assert all(daemon.poll() is None for daemon in daemons)
        yield


@contextmanager
def _daemons(slurm: Slurm, settings: _Settings) -> Iterator[list[subprocess.Popen[bytes]]]:
    folder = slurm.folder
    with ExitStack() as stack:
        daemons: list[subprocess.Popen[bytes]] = []

        def start(name: str, *command: str) -> None:
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            daemons.append(start_group(list(command), log, {**os.environ, **slurm.environment}))
            stack.callback(stop_group, daemons[-1])

        _write_configuration(slurm, settings)
        socket_path = folder / "munge.sock"
        # --force: its folder is below /tmp, which everybody may write to.
        start("munged", _daemon("munged"), "--foreground", "--force", f"--key-file={folder}/munge.key",
              f"--socket={socket_path}", f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/munged.seed",
              f"--log-file={folder}/munged.log")  # fmt: skip
        wait_until(socket_path.is_socket, _START_S, daemons)
        start("slurmctld", _daemon("slurmctld"), "-D", "-i")
        for node in slurm.nodes:
            start(f"slurmd-{node}", _daemon("slurmd"), "-D", "-N", node)
        wait_until(lambda: _idle_nodes(slurm) == len(slurm.nodes), _START_S, daemons)
        yield daemons


def wait_until(
    condition: Callable[[], bool], timeout_s: float, daemons: Sequence[subprocess.Popen[bytes]] = ()
) -> None:
    """Wait for a condition; TimeoutError when it does not come, at once when one of the daemons has ended."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        ended = [str(daemon.args) for daemon in daemons if daemon.poll() is not None]
        if ended or time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s; ended: {ended}")
        time.sleep(0.1)


def _idle_nodes(slurm: Slurm) -> int:
    done = subprocess.run(
        ["sinfo", "-h", "-N", "-t", "idle", "-o", "%N"],
        env={**os.environ, **slurm.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return len(set(done.stdout.split()))


def _cancel_all(slurm: Slurm) -> None:
    """End all jobs, so that none of their processes outlives the nodes."""
    waiting = slurm.unfinished()
    if waiting:
        slurm.run("scancel", *waiting)
        wait_until(lambda: not slurm.unfinished(), _START_S)


def _write_configuration(slurm: Slurm, settings: _Settings) -> None:
    folder, user, host = slurm.folder, getpass.getuser(), socket.gethostname().split(".")[0]
    key = folder / "munge.key"
    if not key.exists():
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
    controller, *ports = _free_ports(1 + len(slurm.nodes))
    lines = [
        "ClusterName=camnet-test",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={controller}",
        f"SlurmUser={user}",
        f"SlurmdUser={user}",
        f"AuthInfo=socket={folder}/munge.sock",
        f"StateSaveLocation={folder}/state",
        f"SlurmctldPidFile={folder}/slurmctld.pid",
        f"SlurmdPidFile={folder}/slurmd-%n.pid",
        f"SlurmdSpoolDir={folder}/spool-%n",
        # Nodes keep their sockets of PMIx there, under names that are the same on all of them.
        f"TmpFS={folder}/scratch-%n",
        # Loopback only.
        "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny",
        # No cgroups, no accounting, no MPI unless srun is told so.
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "JobAcctGatherType=jobacct_gather/none",
        "AccountingStorageType=accounting_storage/none",
        "MpiDefault=none",
        # Virtual nodes promise more than the machine has.
        "SlurmdParameters=config_overrides",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_CPU_Memory",
        "SchedulerParameters=batch_sched_delay=0,bf_interval=1",
        "ReturnToService=2",
        f"KillWait={settings.kill_wait_s}",
        # Finished jobs stay in squeue for the tests to ask.
        "MinJobAge=3600",
        *(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
            f"CPUs={settings.cpus} RealMemory={settings.memory_mib}"
            for node, port in zip(slurm.nodes, ports, strict=True)
        ),
        f"PartitionName={PARTITION} Nodes={','.join(slurm.nodes)} Default=YES MaxTime=1-0 State=UP",
    ]
    (folder / "slurm.conf").write_text("\n".join(lines) + "\n")
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
    for name in ("state", *(f"scratch-{node}" for node in slurm.nodes)):
        (folder / name).mkdir(exist_ok=True)


def _daemon(name: str) -> str:
    found = shutil.which(name, path=_PATH)
    assert found, f"{name} is not installed (Debian: slurm-wlm, munge; `make setup` installs them as root)"
    return found


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def slurm_sites(folder: Path, **jobs: object) -> Path:
    """Write site files of which the first runs Layer 1 on a Slurm of this machine; `jobs` are keys of [dask.slurm]."""
    write_sites(folder)
    keys: dict[str, object] = {
        "queue": PARTITION,
        "walltime": "0:10:00",
        "memory_mib": 2000,
        "minimum_jobs": 2,
        "maximum_jobs": 2,
        "interface": "lo",
        "lost_worker_timeout_s": 1,
    }
    # JSON's numbers, texts and lists of them are TOML's too.
    table = "".join(f"{name} = {json.dumps(value)}\n" for name, value in (keys | jobs).items())
    (folder / "site-a.toml").write_text(
        f'name = "site-a"\nroot = "site-a"\n[dask]\ncluster = "slurm"\n[dask.slurm]\n{table}'
    )
    return folder

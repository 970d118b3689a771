"""The place of a rank that ``srun`` started; Gloo's ranks are told it by variables that ``srun`` does not know."""

from __future__ import annotations

from collections.abc import Mapping

RENDEZVOUS = "HOROVOD_GLOO_RENDEZVOUS_ADDR"


def gloo_place(environment: Mapping[str, str]) -> dict[str, str]:
    """Give the variables by which Horovod knows a rank, made of those of its Slurm task.

    Nothing where ``horovodrun`` has told it, or where MPI will. There are as many ranks on each node.
    """
    if RENDEZVOUS not in environment or "HOROVOD_RANK" in environment or "SLURM_PROCID" not in environment:
        return {}
    size, nodes = int(environment["SLURM_STEP_NUM_TASKS"]), int(environment["SLURM_STEP_NUM_NODES"])
    return {
        "HOROVOD_HOSTNAME": environment["SLURMD_NODENAME"],
        "HOROVOD_RANK": environment["SLURM_PROCID"],
        "HOROVOD_SIZE": str(size),
        "HOROVOD_LOCAL_RANK": environment["SLURM_LOCALID"],
        "HOROVOD_LOCAL_SIZE": str(size // nodes),
        "HOROVOD_CROSS_RANK": environment["SLURM_NODEID"],
        "HOROVOD_CROSS_SIZE": str(nodes),
    }

"""Where each stage runs, and why."""

from __future__ import annotations

from flows.context import RunContext
from tasks.artifacts import Record


class Placement(Record):
    """One stage at one site, with the reason in one line."""

    stage: str
    site: str
    why: str


def placements(context: RunContext) -> tuple[Placement, ...]:
    """Give the plan of a run: the stages in their order, with their sites."""
    source, trainer = context.source, context.trainer
    ranks = trainer.horovod.most_ranks if trainer.horovod else 0
    moved = "nothing moves: both layers are at one site"
    if source.name != trainer.name:
        over = f"SSH ({trainer.ssh.host}:{trainer.ssh.port})" if trainer.ssh else "a folder of this machine"
        moved = f"shards go to {trainer.name}, reached by {over}"
    return (
        Placement(stage="preprocess", site=source.name, why=f"the slides are there; Dask: {source.dask.summary}"),
        Placement(stage="stage", site=source.name, why=moved),
        Placement(stage="train", site=trainer.name, why=f"named by the configuration; {ranks} Horovod slots"),
        Placement(stage="infer", site=trainer.name, why="the model and the dense shards are there"),
        Placement(stage="explain", site=trainer.name, why="the model and the scores are there"),
    )

"""A training whose ranks may die: it goes on with those that are left, from its newest checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks.errors import InputError
from tasks.training.checkpoint import CheckpointCard, newest_checkpoint
from tasks.training.job import TrainingJob, write_job
from tasks.training.launcher import Launch, Progress
from tasks.training.rank_died import RankDied
from tasks.training.reset import Reset


def run_ranks(
    job: TrainingJob,
    checkpoints: Path,
    *,
    start: Launch,
    log_path: Path,
    on_progress: Progress | None = None,
) -> TrainingJob:
    """Run the ranks of a job to their end, from its newest checkpoint on, and again with those that are left.

    A start has a folder of its own below ``job.work``. With ``train.min_ranks`` the training is started again when
    ranks have died, as long as so many are left, but never twice from the same checkpoint: what dies there again has
    another reason than chance. So each reset costs at most what lies between two checkpoints.

    Returns
    -------
    TrainingJob
        The job as it was started last.

    Raises
    ------
    CamNetError
        As `start`; a `tasks.training.rank_died.RankDied` when the training cannot go on with those that are left.
    InputError
        ``train.min_ranks`` is more than the job's ranks.
    """
    least = job.config.min_ranks
    if least is not None and least > job.ranks:
        raise InputError(f"min_ranks = {least} is more than the {job.ranks} ranks", remedy="lower train.min_ranks")
    log_path.parent.mkdir(parents=True, exist_ok=True)
    log_path.write_bytes(b"")
    told = _OnceEach(on_progress)
    first, resets = job.model_copy(update={"asked_ranks": job.ranks, "checkpoints": checkpoints}), list[Reset]()
    resume, refused = newest_checkpoint(checkpoints, first.identity)
    reset = None
    if resume is not None and resume.ranks != first.ranks:
        reset = _reset(resume.ranks, first.ranks, resume)
    started = first.model_copy(update={"resume": resume, "refused": refused, "reset": reset})
    while True:
        started = started.model_copy(update={"work": job.work / f"start-{len(resets) + 1}"})
        started.work.mkdir()
        job_path = started.work / "job.json"
        write_job(job_path, started)
        try:
            start(job_path, log_path=log_path, silence_s=job.config.silence_s, on_progress=told)
        except RankDied as died:
            resume, refused = newest_checkpoint(checkpoints, first.identity)
            reset = _reset(started.ranks, died.left, resume, died.dead) if least and died.left >= least else None
            if reset is None or reset.checkpoint in [before.checkpoint for before in resets]:
                raise
            resets.append(reset)
            started = first.model_copy(
                update={"ranks": reset.ranks, "resume": resume, "refused": refused, "reset": reset}
            )
        else:
            return started


def _reset(before: int, ranks: int, resume: CheckpointCard | None, died: tuple[int, ...] = ()) -> Reset:
    return Reset(
        ranks_before=before,
        ranks=ranks,
        died=died,
        checkpoint=resume.number if resume else None,
        epoch=resume.epoch if resume else 1,
        step=resume.step + 1 if resume else 1,
    )


class _OnceEach:
    """Tells each event of the log once, although every start repeats those of the starts before."""

    def __init__(self, on_progress: Progress | None) -> None:
        self._on_progress = on_progress
        self._told: set[str] = set()

    def __call__(self, event: dict[str, Any]) -> None:
        known = json.dumps(event, sort_keys=True)
        if self._on_progress is not None and known not in self._told:
            if "time" in event:
                self._told.add(known)
            self._on_progress(event)

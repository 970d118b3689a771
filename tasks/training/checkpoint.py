"""Checkpoints: numbered files from which an interrupted training goes on.

A checkpoint is ``checkpoint-NNNNNN.h5``, arrays only, and ``checkpoint-NNNNNN.json``, a `CheckpointCard` with the
digest of the arrays, which is written last. All that is random in a training is drawn from seed, epoch, rank and step,
or is a variable of the network (dropout), so there is no other state.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from tasks import atomic
from tasks.artifacts import Record
from tasks.digests import file_digest
from tasks.hdf5 import new_hdf5
from tasks.training.epoch_parts import EpochPart

_GROUPS = ("variables", "optimizer", "best", "measures", "arrivals")
KEPT = 2
"""So many checkpoints are kept: when the newest is damaged there is one before it."""
Arrays = list[NDArray[Any]]


class CheckpointCard(Record):
    """What a checkpoint is of.

    Attributes
    ----------
    number
        From 1; the newest has the highest.
    training
        `tasks.training.job.TrainingJob.identity` of the training.
    digest
        Of the file with the arrays.
    ranks
        That wrote it.
    epoch
        In which the training goes on, from 1; one more than ``train.epochs`` after the last.
    step
        Steps of this epoch that are done.
    parts
        By how many ranks they were.
    trainable
        What the optimizer's state is for: ``head``, ``all``, or a layer.
    best_epoch
        Best epoch so far; 0: none has ended.
    best_rank
        What epochs are compared by.
    """

    made_by: Literal["camnet-checkpoint/2"] = "camnet-checkpoint/2"
    number: int = Field(ge=1)
    training: str
    digest: str
    ranks: int = Field(ge=1)
    epoch: int = Field(ge=1)
    step: int = Field(ge=0)
    parts: tuple[EpochPart, ...] = ()
    trainable: str
    best_epoch: int = Field(ge=0)
    best_rank: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _parts_make_the_steps(self) -> CheckpointCard:
        if sum(part.steps for part in self.parts) != self.step:
            raise ValueError("the parts of the epoch do not add up to its steps")
        return self


@dataclass(frozen=True)
class CheckpointArrays:
    """The arrays of a checkpoint.

    Attributes
    ----------
    variables
        All variables of the network, in its order.
    optimizer
        All variables of the optimizer.
    best
        Weights of the best epoch; empty: none has ended.
    best_logit
        (N,) float64 logits of the validation rows with these; empty without validation.
    sums
        (ranks, 3) float64: what each rank has added up in this epoch, see `tasks.training.trainer.Trainer`.
    statistics
        (ranks, n) float32: moving statistics of each rank; (0, 0) between epochs, when all have the same.
    log
        Lines of the training's log that a training which goes on takes over.
    measures
        Of all ranks together, see `tasks.training.measures.Measures`; empty without importance.
    arrivals
        `tasks.training.arriving.ArrivingShards.first_epoch`; empty where no shards arrive.
    """

    variables: Arrays
    optimizer: Arrays
    best: Arrays
    best_logit: NDArray[np.float64]
    sums: NDArray[np.float64]
    statistics: NDArray[np.float32]
    log: str
    measures: Arrays = field(default_factory=list)
    arrivals: Arrays = field(default_factory=list)

    def sums_of(self, rank: int, ranks: int) -> NDArray[np.float64]:
        """Give what one of `ranks` ranks goes on adding to, (3,): its own, or its share when they are not as many."""
        if len(self.sums) == ranks:
            own: NDArray[np.float64] = self.sums[rank].copy()
            return own
        loss = float(self.sums[:, 0].sum()) if rank == 0 else 0.0
        return np.array([loss, *self.sums[:, 1:].mean(axis=0)])

    def statistics_of(self, rank: int, ranks: int) -> NDArray[np.float32]:
        """Give the moving statistics of one of `ranks` ranks, (n,): its own, or the mean when they are not as many."""
        own: NDArray[np.float32] = self.statistics.mean(axis=0)
        if len(self.statistics) == ranks:
            own = self.statistics[rank]
        return own


def write_checkpoint(folder: Path, arrays: CheckpointArrays, **card: Any) -> CheckpointCard:  # noqa: ANN401  # fields of the card
    """Write the next checkpoint and remove all but the last two.

    Parameters
    ----------
    card
        Fields of `CheckpointCard`, all but ``digest``.

    Raises
    ------
    PermanentFault, InputError
        The disk is full or the folder is not writable; the checkpoints before are untouched.
    """
    number = int(card["number"])
    path = arrays_path(folder, number)
    with new_hdf5(path) as file:
        for name in _GROUPS:
            group = file.create_group(name)
            for index, value in enumerate(getattr(arrays, name)):
                group[f"{index:06d}"] = value
        file["best_logit"] = arrays.best_logit
        file["sums"] = arrays.sums
        file["statistics"] = arrays.statistics
        file["log"] = np.frombuffer(arrays.log.encode(), np.uint8)
    written = CheckpointCard(digest=file_digest(path), **card)
    atomic.write_text(_card_path(folder, number), written.model_dump_json(indent=1) + "\n")
    _remove_all_but(folder, range(number - KEPT + 1, number + 1))
    return written


def read_arrays(folder: Path, card: CheckpointCard) -> CheckpointArrays:
    """Read a checkpoint that `newest_checkpoint` gave."""
    with h5py.File(arrays_path(folder, card.number), "r") as file:
        variables, optimizer, best, measures, arrivals = (
            [file[name][key][()] for key in sorted(file[name])] for name in _GROUPS
        )
        return CheckpointArrays(
            variables=variables,
            optimizer=optimizer,
            best=best,
            best_logit=file["best_logit"][()],
            sums=file["sums"][()],
            statistics=file["statistics"][()],
            log=file["log"][()].tobytes().decode(),
            measures=measures,
            arrivals=arrivals,
        )


def newest_checkpoint(folder: Path, training: str) -> tuple[CheckpointCard | None, tuple[str, ...]]:
    """Find the newest good checkpoint of a training.

    Returns
    -------
    tuple
        Its card, None when there is none; and, newest first, what is wrong with newer ones, which are removed.
    """
    refused: list[str] = []
    for path in sorted(folder.glob("checkpoint-*.json"), reverse=True):
        card, fault = _checked(path, training)
        if fault is None:
            return card, tuple(refused)
        refused.append(f"{path.stem} {fault}")
        path.unlink()
        path.with_suffix(".h5").unlink(missing_ok=True)
    return None, tuple(refused)


def remove_checkpoints(folder: Path) -> None:
    """Remove the folder of a training that is finished."""
    shutil.rmtree(folder, ignore_errors=True)


def arrays_path(folder: Path, number: int) -> Path:
    """Name the file with the arrays."""
    return folder / f"checkpoint-{number:06d}.h5"


def _card_path(folder: Path, number: int) -> Path:
    return arrays_path(folder, number).with_suffix(".json")


def _checked(path: Path, training: str) -> tuple[CheckpointCard | None, str | None]:
    try:
        card = CheckpointCard.model_validate_json(path.read_bytes())
        if card.training != training:
            return None, "is of another training"
        arrays = path.with_suffix(".h5")
        if arrays_path(path.parent, card.number) == arrays and file_digest(arrays) == card.digest:
            return card, None
    except (OSError, ValidationError):
        pass
    return None, "is damaged"


def _remove_all_but(folder: Path, numbers: range) -> None:
    """Remove older checkpoints, and what processes left that were killed while they wrote."""
    kept = {path.name for number in numbers for path in (arrays_path(folder, number), _card_path(folder, number))}
    for path in folder.iterdir():
        if path.name not in kept:
            with suppress(OSError):
                path.unlink()

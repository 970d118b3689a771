"""All that a rank needs to know, as one JSON file."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError, field_validator, model_validator

from tasks import atomic
from tasks.artifacts import Record
from tasks.digests import bytes_digest, file_digest
from tasks.errors import InputError, IntegrityError
from tasks.train_config import TrainConfig
from tasks.training.checkpoint import CheckpointCard
from tasks.training.expected import ExpectedShard
from tasks.training.reset import Reset

_MOST_READER_THREADS = 8


class ShardOfJob(Record):
    """A shard and the digest that it had when it was verified after the transfer."""

    path: Path = Field(description="absolute, at the site that trains")
    digest: str


class TrainingJob(Record):
    """One training.

    Attributes
    ----------
    work
        Folder of this attempt; rank 0 writes the model into `model_folder` below it.
    ranks
        That are started.
    asked_ranks
        That were asked for, more than `ranks` when some have died; None: `ranks`.
    key
        Content key of the training.
    threads
        CPU threads of each rank.
    expected
        What is known of each of `shards`, some of which have not arrived; empty: all are there.
    unnamed
        Whether the card numbers patients and shards instead of naming them.
    gpu
        Whether each rank must have a GPU; else it takes the CPU where there is none.
    checkpoints
        Folder of the checkpoints; it outlives the attempt. None: none are written.
    resume
        The checkpoint there from which the training goes on; None: it begins.
    refused
        What was wrong with checkpoints that were newer.
    reset
        That this start is; None: it has the ranks of `resume`, or it begins.
    """

    config: TrainConfig
    shards: tuple[ShardOfJob, ...]
    expected: tuple[ExpectedShard, ...] = ()
    work: Path
    ranks: int = Field(ge=1)
    asked_ranks: int | None = Field(None, ge=1)
    threads: int = Field(1, ge=1)
    seed: int = Field(ge=0)
    key: str
    manifest_digest: str | None = None
    unnamed: bool = False
    gpu: bool = False
    checkpoints: Path | None = None
    resume: CheckpointCard | None = None
    refused: tuple[str, ...] = ()
    reset: Reset | None = None

    @field_validator("work")
    @classmethod
    def _absolute(cls, work: Path) -> Path:
        if not work.is_absolute():
            raise ValueError("must be an absolute path: ranks may start in another folder")
        return work

    @model_validator(mode="after")
    def _expects_what_it_follows(self) -> TrainingJob:
        if len(self.expected) != (len(self.shards) if self.config.arrival.follow else 0):
            raise ValueError("a job that follows arriving shards expects each of them, and no other does")
        return self

    @property
    def reader_threads(self) -> int:
        """How many threads of a rank read."""
        return self.config.reader_threads or min(self.threads, _MOST_READER_THREADS)

    @property
    def model_folder(self) -> Path:
        """Where rank 0 writes the model."""
        return self.work / "model"

    @property
    def errors_folder(self) -> Path:
        """Where ranks leave the errors that ended them."""
        return self.work / "errors"

    @property
    def roll_folder(self) -> Path:
        """Where ranks say that they begin and that they end (`tasks.training.roll_call.RollCall`)."""
        return self.work / "roll"

    @property
    def stop_file(self) -> Path:
        """What the launcher makes when the ranks are to stop."""
        return self.work / "stop"

    @property
    def identity(self) -> str:
        """Digest of what must be the same for a training to go on from a checkpoint."""
        files, pace = {"weights", "start_from", "stain_reference"}, {"checkpoint_epochs", "checkpoint_minutes"}
        config = self.config.model_dump_json(exclude=files | pace | {"silence_s", "min_ranks"})
        facts = [self.key, f"seed {self.seed}", f"{self.asked_ranks or self.ranks} ranks", config]
        return bytes_digest("\n".join([*facts, *(shard.digest for shard in self.shards)]).encode())


def write_job(path: Path, job: TrainingJob) -> None:
    """Write `job` as JSON."""
    atomic.write_text(path, job.model_dump_json(indent=1) + "\n")


def read_job(path: Path) -> TrainingJob:
    """Read a job.

    Raises
    ------
    InputError
        The file is missing or is no job.
    """
    try:
        return TrainingJob.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(
            f"is no training job ({error})", subject=path, remedy="start trainings with `camnet train`"
        ) from error


def verify_shard(shard: ShardOfJob) -> None:
    """Compare a shard with its digest: disks decay, and a transfer that was verified may be long ago.

    Raises
    ------
    IntegrityError
        The file is missing or has another digest.
    """
    remedy = "transfer the shard again (camnet transfer --again)"
    try:
        digest = file_digest(shard.path)
    except OSError as error:
        raise IntegrityError(f"cannot be read ({error.strerror})", subject=shard.path, remedy=remedy) from error
    if digest != shard.digest:
        raise IntegrityError(f"has the digest {digest}, not {shard.digest}", subject=shard.path, remedy=remedy)

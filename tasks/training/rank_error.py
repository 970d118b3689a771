"""The error that ended a rank, as a file: exit codes do not survive ``horovodrun``."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from pydantic import ValidationError

from tasks import atomic, errors
from tasks.artifacts import Record
from tasks.errors import CamNetError, ExitCode
from tasks.train_config import TrainConfig

_KINDS: dict[str, type[CamNetError]] = {
    kind.__name__: kind
    for kind in (
        errors.InputError,
        errors.RetryableFault,
        errors.PermanentFault,
        errors.IntegrityError,
        errors.PolicyRefusal,
        errors.PartialResult,
    )
}
# Horovod's and TensorFlow's way to say that another rank has gone, and memory running out.
_CONSEQUENCES = {"HorovodInternalError", "UnknownError", "AbortedError", "CancelledError", "InternalError"}
_OUT_OF_MEMORY = {"MemoryError", "ResourceExhaustedError"}


class RankError(Record):
    """Why a rank ended.

    Attributes
    ----------
    kind
        Name of the exception's class.
    at_s
        Seconds since the epoch of the rank's clock; to tell the first error from those that followed.
    """

    rank: int
    at_s: float
    kind: str
    cause: str
    subject: str | None = None
    remedy: str | None = None
    exit_code: int

    @classmethod
    def of(cls, error: BaseException, rank: int) -> RankError:
        """Describe `error` of rank `rank`."""
        kind, now = type(error).__name__, time.time()
        if not isinstance(error, CamNetError):
            cause = " ".join(str(error).split())[:1000]
            return cls(rank=rank, at_s=now, kind=kind, cause=cause, exit_code=ExitCode.BUG)
        return cls(
            rank=rank,
            at_s=now,
            kind=kind,
            cause=error.cause,
            subject=error.subject,
            remedy=error.remedy,
            exit_code=error.exit_code,
        )

    @property
    def is_consequence(self) -> bool:
        """Whether it only says that another rank has gone."""
        return self.kind in _CONSEQUENCES

    def exception(self, last_lines: str, config: TrainConfig) -> CamNetError:
        """Give the error to raise where the ranks of a training with `config` were started."""
        if self.kind in _KINDS:
            return _KINDS[self.kind](self.cause, subject=self.subject, remedy=self.remedy)
        if self.kind in _OUT_OF_MEMORY:
            return errors.PermanentFault(
                f"rank {self.rank} ran out of memory ({self.cause[:200]})", remedy=_for_less_memory(config)
            )
        return CamNetError(f"rank {self.rank} ended with {self.kind}: {self.cause}. Last lines:\n{last_lines}")


def _for_less_memory(config: TrainConfig) -> str:
    half = config.batch_size // 2
    if not half:
        return "choose a smaller network, smaller patches or train.precision = 'bfloat16'"
    parts = 2 * config.accumulate_steps
    return (
        f"set train.batch_size = {half} and train.accumulate_steps = {parts}; "
        f"an update is still made from {half * parts} patches of each rank"
    )


def leave_error(folder: Path, error: RankError) -> None:
    """Write `error` into `folder`."""
    atomic.write_text(folder / f"rank-{error.rank}-{secrets.token_hex(4)}.json", error.model_dump_json())


def first_error(folder: Path) -> RankError | None:
    """Return the error that came first and is no consequence of another rank's end, if there is one."""
    found: list[RankError] = []
    for path in sorted(folder.glob("rank-*.json")):
        try:
            found.append(RankError.model_validate_json(path.read_bytes()))
        except (OSError, ValidationError):
            continue
    causes = [error for error in found if not error.is_consequence]
    return min(causes, key=lambda error: error.at_s, default=None)

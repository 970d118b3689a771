"""Shards that arrive while a training runs: all ranks find the same ones, verified, where an epoch begins."""

from __future__ import annotations

import time
from pathlib import Path

import horovod.tensorflow as hvd
import numpy as np
from numpy.typing import NDArray

from tasks.digests import file_digest
from tasks.errors import IntegrityError, RetryableFault
from tasks.training import collective
from tasks.training.arrival import is_complete, named, shards_of_epoch, why_wait
from tasks.training.cohort import Cohort, ShardFacts, checked_cohort, read_facts
from tasks.training.job import TrainingJob
from tasks.training.log import LogValue, TrainingLog
from tasks.training.stop import Stop

_POLL_S = 1.0
Ints = NDArray[np.int64]


class ArrivingShards:
    """What has arrived of the shards that a job expects.

    A shard counts when every rank sees it with its size, and one of them has found its digest right. All ranks must
    call each method in the same order.

    Attributes
    ----------
    first_epoch
        (shards,) epoch from which each is used, 0: not there yet; the same on all ranks, and kept in checkpoints.
    cohort
        The shards that the epoch has.
    """

    def __init__(self, job: TrainingJob, log: TrainingLog, stop: Stop) -> None:
        self._job, self._log, self._stop = job, log, stop
        self._stamps: dict[int, tuple[int, int]] = {}
        self._facts: dict[int, ShardFacts] = {}
        self._taken = 0
        self.first_epoch = np.zeros(len(job.shards), np.int64)
        self.cohort = Cohort(())

    @property
    def is_complete(self) -> bool:
        """Whether all shards have arrived."""
        return bool(np.all(self.first_epoch > 0))

    @property
    def settled_after(self) -> int | None:
        """Epoch after which no more shards came; None while some are missing."""
        return int(self.first_epoch.max()) - 1 if self.is_complete else None

    def restore(self, first_epoch: Ints, epoch: int, step: int) -> None:
        """Take what a checkpoint says has arrived and was verified again; an epoch that has begun gets no more."""
        self.first_epoch, self._taken = first_epoch.copy(), epoch if step else 0
        self._read(epoch)

    def take_up(self, epoch: int) -> bool:
        """Look for new shards, and wait where the epoch cannot begin without; False: the ranks were told to stop.

        Raises
        ------
        RetryableFault
            No shard came for the configured time, and the epoch cannot begin.
        IntegrityError, InputError
            A shard is not the one that was expected, or does not go with the others.
        """
        if epoch == self._taken or self.is_complete:
            return True
        first_epoch, since = self.first_epoch.copy(), time.monotonic()
        while True:
            new = self._arrived(np.flatnonzero(first_epoch == 0))
            if len(new):
                first_epoch[new], since = epoch, time.monotonic()
            why = why_wait(self._job.config, self._job.expected, first_epoch > 0, epoch=epoch, ranks=hvd.size())
            if why is None:
                break
            self._log.progress("waiting", epoch=epoch, shards=int(np.sum(first_epoch > 0)), why=why)
            given_up = hvd.rank() == 0 and time.monotonic() - since > self._job.config.arrival.patience_s
            told, given_up_by = collective.total([float(self._stop.reason is not None), float(given_up)]).tolist()
            if told:
                return False
            if given_up_by:
                raise self._missing(np.flatnonzero(first_epoch == 0), why)
            time.sleep(_POLL_S)
        self._taken = epoch
        if np.any(first_epoch != self.first_epoch):
            self.first_epoch = first_epoch
            self._read(epoch)
        return True

    def row(self) -> dict[str, LogValue]:
        """Tell what the epoch has, for the log."""
        expected, there = self._job.expected, self.first_epoch > 0
        return {
            "shards": int(there.sum()),
            "shards_expected": len(expected),
            "rows": len(self.cohort.rows("train")),
            "validation_rows": len(self.cohort.rows("validation")),
            "validation_complete": is_complete(expected, there, "validation"),
        }

    def _arrived(self, missing: Ints) -> Ints:
        """Give those of the missing that are there and verified; each is verified by one rank."""
        seen = collective.total_counts(np.array([self._is_there(number) for number in missing.tolist()], np.int64))
        candidates: Ints = missing[seen == hvd.size()]
        if not len(candidates):
            return candidates
        good = np.zeros(len(candidates), np.int64)
        for place in range(hvd.rank(), len(candidates), hvd.size()):
            good[place] = self._is_good(int(candidates[place]))
            self._log.progress("verify", shards=place + 1, of=len(candidates))
        good = collective.total_counts(good)
        for number in candidates[good == 0].tolist():
            self._log.write("shard-refused", shard=self._name(number), cause="has another digest than expected")
        arrived: Ints = candidates[good > 0]
        return arrived

    def _is_there(self, number: int) -> bool:
        """Look for a file of the right size that this rank has not refused."""
        stamp = self._stamp(number)
        return stamp is not None and stamp[0] == self._job.expected[number].bytes and self._stamps.get(number) != stamp

    def _is_good(self, number: int) -> bool:
        stamp, shard = self._stamp(number), self._job.shards[number]
        try:
            if file_digest(shard.path) == shard.digest:
                return True
        except OSError:
            # It went away or cannot be read: it is not there yet.
            return False
        if stamp is not None:
            self._stamps[number] = stamp
        return False

    def _stamp(self, number: int) -> tuple[int, int] | None:
        try:
            status = self._job.shards[number].path.stat()
        except OSError:
            return None
        return status.st_size, status.st_mtime_ns

    def _read(self, epoch: int) -> None:
        numbers = shards_of_epoch(self.first_epoch, epoch).tolist()
        for number in numbers:
            if number not in self._facts:
                self._facts[number] = self._as_expected(number)
        self.cohort = checked_cohort([self._facts[number] for number in numbers])

    def _as_expected(self, number: int) -> ShardFacts:
        expected, path = self._job.expected[number], self._job.shards[number].path
        facts = read_facts(path)
        if (facts.split, facts.patient, int(np.sum(facts.label >= 0))) != (
            expected.split,
            expected.patient,
            expected.rows,
        ):
            raise IntegrityError(
                f"is of the {facts.split} split, but another patient, split or number of rows was expected",
                subject=path,
                remedy="transfer shards and their list again (camnet transfer --again)",
            )
        return facts

    def _missing(self, numbers: Ints, why: str) -> RetryableFault:
        refused = collective.total_counts(np.array([number in self._stamps for number in numbers.tolist()], np.int64))
        names = [
            f"{self._name(number)} ({'damaged' if bad else 'missing'})"
            for number, bad in zip(numbers.tolist(), refused.tolist(), strict=True)
        ]
        return RetryableFault(
            f"no shard came for {self._job.config.arrival.patience_s:.0f} s, and {why}: {named(names)}",
            remedy="see that the transfer runs, or transfer them again, then start the training again: it goes on",
        )

    def _name(self, number: int) -> str:
        return f"shard-{number + 1:05}" if self._job.unnamed else Path(self._job.expected[number].path).name

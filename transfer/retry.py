"""Trying again, later and later, while the fault is one that passes."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from tasks.errors import RetryableFault
from transfer.brake import Brake, Cancelled

T = TypeVar("T")
_LONGEST_PAUSE_S = 60.0
_random = secrets.SystemRandom()
_log = logging.getLogger(__name__)


def retrying(attempt: Callable[[int], T], *, attempts: int, backoff_s: float, brake: Brake) -> T:
    """Call ``attempt(k)`` for k = 0, 1, ... until it does not raise `RetryableFault`; raise the last fault.

    The pause before try k is ``backoff_s`` · 2^(k-1), at most 60 s, times a random factor of 0.5 to 1.5, so
    that many streams that were cut at once do not all come back at once. Other errors are not tried again,
    and nothing is once `brake` is stopped.
    """
    for k in range(attempts - 1):
        try:
            return attempt(k)
        except Cancelled:
            raise
        except RetryableFault as fault:
            pause = pause_s(k, backoff_s)
            _log.warning("%s Trying again in %.1f s (%d of %d).", fault, pause, k + 2, attempts)
            brake.wait(pause)
    return attempt(attempts - 1)


def pause_before_next(failures: int, backoff_s: float, brake: Brake) -> None:
    """Wait as `retrying` does; a stopped brake ends that, and the next attempt finds it stopped."""
    with suppress(Cancelled):
        brake.wait(pause_s(failures, backoff_s))


def pause_s(failures: int, backoff_s: float) -> float:
    """Seconds to wait after so many earlier failures (see `retrying`)."""
    return min(_LONGEST_PAUSE_S, backoff_s * 2.0 ** min(failures, 30)) * _random.uniform(0.5, 1.5)

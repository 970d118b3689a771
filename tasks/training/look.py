"""When the ranks ask each other how things stand."""

from __future__ import annotations

import time

import horovod.tensorflow as hvd

from tasks.training import collective
from tasks.training.stop import Stop

_LOOK_S = 0.5
_MOST_STEPS_A_LOOK = 100


class Look:
    """When the ranks ask each other whether to stop or write: twice a second, because each time costs some ms.

    Attributes
    ----------
    next_step
        Number of steps after which they ask; the same on all ranks.
    """

    def __init__(self, first_step: int) -> None:
        self._last_step, self.next_step = first_step, first_step + 1
        self._last = time.monotonic()

    def told_after(self, step: int, stop: Stop, is_due: bool) -> tuple[bool, bool]:
        """Ask, all ranks after the same step; whether one was told to stop, and whether a checkpoint is due."""
        now = time.monotonic()
        # The clocks of the ranks differ, and all must write together.
        due = float(is_due and hvd.rank() == 0)
        told, due, seconds = collective.total([float(stop.reason is not None), due, now - self._last]).tolist()
        steps_a_look = _LOOK_S * (step - self._last_step) * hvd.size() / max(seconds, 1e-6)
        self._last_step, self._last = step, now
        self.next_step = step + max(1, min(_MOST_STEPS_A_LOOK, int(steps_a_look)))
        return bool(told > 0), bool(due > 0)

"""A Dask worker that finishes its slide before its lifetime ends it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from distributed import Status, Worker

_POLL_S = 0.2
_FETCHED_S = 10.0


class FinishingWorker(Worker):
    """Takes no new task when its lifetime is over, ends the one that it has, and leaves.

    Dask's own worker leaves at once: its running task is thrown away and begun again elsewhere. The time between
    the lifetime and the walltime of the job (`lifetime_margin_s` in the site file) is there to end it.
    """

    async def close_gracefully(self, restart: bool | None = None, reason: str = "worker-close-gracefully") -> None:
        """Leave the cluster; see `distributed.Worker`, which calls this at the end of a lifetime."""
        if reason == "worker-lifetime-reached" and self.status in (Status.running, Status.paused):
            await self._finish()
        await super().close_gracefully(restart=restart, reason=reason)

    async def _finish(self) -> None:
        # Dask resumes a worker that it finds paused while there is enough memory.
        self.memory_manager.memory_pause_fraction = False
        self.status: Any = Status.paused
        while self.state.executing and self.status == Status.paused:
            await asyncio.sleep(_POLL_S)
        # What nobody has fetched when we leave would be made again.
        deadline = time.monotonic() + _FETCHED_S
        while self.data and self.status == Status.paused and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_S)

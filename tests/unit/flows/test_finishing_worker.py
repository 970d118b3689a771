from __future__ import annotations

import asyncio
import time
from pathlib import Path

from distributed import Client, Scheduler, Worker, get_worker

from flows.finishing_worker import FinishingWorker

LIFETIME_S = 1.0
TASK_S = 2.5


def work(seconds: float, notes: str) -> None:
    """Take a while, and note at which worker."""
    with Path(notes).open("a") as file:
        file.write(f"{get_worker().name}\n")
    time.sleep(seconds)


async def work_beyond_a_lifetime(kind: type[Worker], long: Path, short: Path) -> None:
    """Give an old worker a task that is longer than its lifetime, and then a short one to whoever there is."""
    async with (
        Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler,
        kind(scheduler.address, name="old", nthreads=1, lifetime=f"{LIFETIME_S}s", dashboard=False) as old,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        begun = client.submit(work, TASK_S, str(long))
        while not long.exists():
            await asyncio.sleep(0.05)
        async with Worker(scheduler.address, name="young", nthreads=1, dashboard=False):
            await asyncio.sleep(LIFETIME_S)
            later = client.submit(work, 0.0, str(short))
            for future in (begun, later):
                await asyncio.wait_for(future.result(), 30)
                future.release()
            await asyncio.wait_for(old.finished(), 30)


def test_the_running_task_is_finished_and_no_further_one_taken(tmp_path: Path) -> None:
    asyncio.run(work_beyond_a_lifetime(FinishingWorker, tmp_path / "long", tmp_path / "short"))
    assert (tmp_path / "long").read_text().split() == ["old"]
    assert (tmp_path / "short").read_text().split() == ["young"]


def test_the_worker_of_dask_itself_throws_it_away(tmp_path: Path) -> None:
    """When this fails, Dask does by itself what our worker is for."""
    asyncio.run(work_beyond_a_lifetime(Worker, tmp_path / "long", tmp_path / "short"))
    assert (tmp_path / "long").read_text().split() == ["old", "young"]

from __future__ import annotations

import copy
import threading
import time

import pytest

from tasks.errors import RetryableFault
from transfer.brake import Brake, Cancelled


def test_without_a_limit_nothing_waits_until_it_is_stopped() -> None:
    brake = Brake()
    brake.pass_on(10**12)
    brake.stop()
    with pytest.raises(Cancelled):
        brake.pass_on(1)
    with pytest.raises(Cancelled):
        brake.wait(0)
    brake.release()
    brake.pass_on(1)


def test_all_streams_together_keep_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    brake = Brake(limit_mb_per_s=2.0)
    monkeypatch.setattr(brake, "wait", waited.append)
    threads = [threading.Thread(target=brake.pass_on, args=(1_000_000,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waited) == [0.0, 0.5, 1.0, 1.5, 2.0]


def test_a_stop_wakes_who_waits() -> None:
    brake = Brake(limit_mb_per_s=1e-6)
    brake.pass_on(1_000_000)  # the next one would wait for days
    raised = []

    def wait() -> None:
        try:
            brake.pass_on(1)
        except Cancelled as fault:
            raised.append(fault)

    thread = threading.Thread(target=wait)
    thread.start()
    brake.stop()
    thread.join(timeout=30)
    assert len(raised) == 1
    assert isinstance(copy.copy(raised[0]), RetryableFault)

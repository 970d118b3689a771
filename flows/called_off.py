"""A stage that runs beside another one hears from it that it is to end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tasks.errors import RetryableFault

_OFF: ContextVar[threading.Event | None] = ContextVar("camnet-called-off", default=None)


@contextmanager
def called_off_by(off: threading.Event) -> Iterator[None]:
    """Let what runs inside the block, in this thread, be called off by an event."""
    token = _OFF.set(off)
    try:
        yield
    finally:
        _OFF.reset(token)


def refuse_when_called_off() -> None:
    """Go on, unless this stage was called off; long ones ask again and again.

    Raises
    ------
    RetryableFault
        It was.
    """
    off = _OFF.get()
    if off is not None and off.is_set():
        raise RetryableFault(
            "the training was called off, because the transfer that it follows has ended early",
            remedy="mend what ended the transfer, then run again: both go on where they were",
        )

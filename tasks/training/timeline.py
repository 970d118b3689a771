"""Horovod's timeline of a training: how long its ranks averaged gradients."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from tasks.errors import IntegrityError

_GRADIENT = "gradient."
"""How `tasks.training.collective.average_gradients` names them."""
_MICROSECOND = 1e-6
_BYTES = {"float16": 2, "float32": 4, "float64": 8}


@dataclass(frozen=True)
class StepAllReduce:
    """What one step of a training handed to its ranks.

    Attributes
    ----------
    seconds
        In which gradients were being averaged: Horovod begins when all ranks have handed in theirs, so waiting for a
        slower rank is not in it. Averages of several gradients at the same time count once.
    bytes
        Of the gradients of a rank, as they travel: those that TensorFlow knows to be equal travel once.
    """

    seconds: float
    bytes: int


def gradient_all_reduces(path: Path) -> list[StepAllReduce]:
    """Read the file that ``HOROVOD_TIMELINE`` names; give all steps that were taken, in their order.

    Raises
    ------
    IntegrityError
        The file is absent, or no whole timeline.
    """
    try:
        events: list[dict[str, Any]] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise IntegrityError(
            f"is no whole timeline of Horovod ({error})", subject=path, remedy="measure this training again"
        ) from error
    gradients = {
        event["pid"]
        for event in events
        if event.get("name") == "process_name" and event["args"].get("name", "").startswith(_GRADIENT)
    }
    of_gradient: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        if event["pid"] in gradients and event["ph"] in "BE":
            of_gradient[event["pid"]].append(event)
    # A gradient is averaged once a step, so the first average of each makes the first step, and so on.
    averages = [list(_averages(one)) for one in of_gradient.values()]
    return [_joined(step) for step in zip(*averages, strict=True)]


def _averages(events: Iterable[dict[str, Any]]) -> Iterable[tuple[float, float, int]]:
    """Give begin, end (both µs) and bytes of each average of one gradient; events nest as brackets do."""
    open_events: list[dict[str, Any]] = []
    for event in events:
        if event["ph"] == "B":
            open_events.append(event)
            continue
        begun = open_events.pop()
        if begun["name"] == "ALLREDUCE":
            yield begun["ts"], event["ts"], _tensor_bytes(event["args"])


def _tensor_bytes(facts: dict[str, str]) -> int:
    shape: list[int] = json.loads(facts["shape"])
    return _BYTES[facts["dtype"]] * prod(shape)


def _joined(averages: Iterable[tuple[float, float, int]]) -> StepAllReduce:
    """Join the averages of a step: the length of the union of their times."""
    microseconds, until, all_bytes = 0.0, float("-inf"), 0
    for begin, end, size_bytes in sorted(averages):
        microseconds += max(0.0, end - max(begin, until))
        until, all_bytes = max(until, end), all_bytes + size_bytes
    return StepAllReduce(microseconds * _MICROSECOND, all_bytes)

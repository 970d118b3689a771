"""How far the slides of a batch are, for the UI."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact

log = logging.getLogger(__name__)


class SlidesProgress:
    """Share of the slides that have ended; the parts of a large slide count as parts of one."""

    def __init__(self, slides: int) -> None:
        self._slides = slides
        self._ended = 0
        self._parts: dict[str, int] = {}
        self._parts_ended: Counter[str] = Counter()
        self._artifact: Any = None
        with server_may_be_away():
            self._artifact = create_progress_artifact(0.0, key="slides-progress", description=self.told)

    def slide_begins(self, slide: str, parts: int) -> None:
        """Count a slide that is so many tasks from now on."""
        self._parts[slide] = parts

    def part_ended(self, slide: str) -> None:
        """Count one of these tasks as ended."""
        self._parts_ended[slide] += 1
        self._tell()

    def slide_ended(self, slide: str) -> None:
        """Count a whole slide as ended, in parts or not."""
        self._parts.pop(slide, None)
        self._parts_ended.pop(slide, None)
        self._ended += 1
        self._tell()

    @property
    def percent(self) -> float:
        """Share of the slides that have ended."""
        in_parts = sum(self._parts_ended[slide] / parts for slide, parts in self._parts.items())
        return 100.0 * (self._ended + in_parts) / self._slides

    @property
    def told(self) -> str:
        """For people."""
        told = f"{self._ended} of {self._slides} slides"
        if not self._parts:
            return told
        return f"{told}, {self._parts_ended.total()} of {sum(self._parts.values())} parts of large slides in work"

    def _tell(self) -> None:
        if self._artifact is not None:
            with server_may_be_away():
                update_progress_artifact(self._artifact, self.percent, description=self.told)


@contextmanager
def server_may_be_away() -> Iterator[None]:
    """Go on with the slides also when the server does not hear of them: hours of work are worth more."""
    try:
        yield
    except Exception as error:  # whatever its client raises
        log.warning("the Prefect server was not told: %s", error)

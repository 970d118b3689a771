from __future__ import annotations

from typing import Any

import pytest

from flows import slides_progress
from flows.slides_progress import SlidesProgress


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, str]]:
    """What the server is told."""
    said: list[tuple[float, str]] = []

    def create(progress: float, *, key: str, description: str) -> str:
        said.append((progress, description))
        return key

    def update(artifact: str, progress: float, *, description: str) -> None:
        said.append((round(progress, 1), description))

    monkeypatch.setattr(slides_progress, "create_progress_artifact", create)
    monkeypatch.setattr(slides_progress, "update_progress_artifact", update)
    return said


def test_parts_of_a_large_slide_count_as_parts_of_one(told: list[tuple[float, str]]) -> None:
    progress = SlidesProgress(4)
    progress.slide_ended("small")
    progress.slide_begins("large", 5)
    progress.part_ended("large")
    progress.part_ended("large")
    progress.slide_begins("other", 3)
    progress.slide_ended("tiny")
    for _ in range(3):
        progress.part_ended("large")
    progress.slide_ended("large")
    progress.part_ended("other")
    progress.part_ended("other")
    progress.part_ended("other")
    progress.slide_ended("other")
    percent = [share for share, _ in told]
    assert percent == sorted(percent)
    assert [told[place] for place in (0, 1, 3, 4, -1)] == [
        (0, "0 of 4 slides"),
        (25, "1 of 4 slides"),
        (35, "1 of 4 slides, 2 of 5 parts of large slides in work"),
        (60, "2 of 4 slides, 2 of 8 parts of large slides in work"),
        (100, "4 of 4 slides"),
    ]


def test_slides_go_on_without_the_server(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def away(*arguments: Any, **keywords: Any) -> str:  # noqa: ANN401  # as the client's
        raise OSError("no route")

    monkeypatch.setattr(slides_progress, "create_progress_artifact", away)
    progress = SlidesProgress(1)
    progress.slide_ended("a")
    assert progress.told == "1 of 1 slides"
    assert "no route" in caplog.text

"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from tasks.slides.synthetic.cohort import CohortSummary

# The usual deadline of 200 ms is missed on a machine that also runs ranks and servers; time is not what they test.
hypothesis.settings.register_profile("camnet", deadline=None)
# CI tries the same examples for the same code, so that a red run can be repeated; HYPOTHESIS_PROFILE=search looks for
# new ones, for long.
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None, max_examples=3000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "camnet"))

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real slides and labelled patches (CAMNET_TEST_DATA, default ../shared/data)."""
    folder = Path(os.environ.get("CAMNET_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    # Slides are too large, and not ours, to come with the code; what needs none of them is tested all the same.
    if not (folder / "MANIFEST.md").is_file():
        pytest.skip(f"no real slides at {folder} (set CAMNET_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def small_cohort(tmp_path_factory: pytest.TempPathFactory) -> CohortSummary:
    """Six synthetic slides of 2048 x 2048 pixels at 0.5 µm, three of them with tumour; tests only read it."""
    from tests.services.cohort import small_cohort

    return small_cohort(tmp_path_factory.mktemp("small_cohort"), slides=6, centres=3, side_px=2048)

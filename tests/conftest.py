"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real slides and labelled patches (CAMNET_TEST_DATA, default ../shared/data)."""
    folder = Path(os.environ.get("CAMNET_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "MANIFEST.md").is_file():
        pytest.skip(f"no real slides at {folder} (set CAMNET_TEST_DATA)")
    return folder

"""The examples of docs/sites.md are site files that load."""

from __future__ import annotations

import re
from pathlib import Path

from deployments.sites import load_site
from deployments.slurm_jobs import SlurmJobs

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "sites.md"


def test_the_example_of_a_slurm_site_loads_and_shows_nearly_every_key(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (tmp_path / "site.toml").write_text(example)
    site = load_site(tmp_path / "site.toml", workspace=tmp_path)
    assert site.dask.slurm is not None
    assert set(SlurmJobs.model_fields) - site.dask.slurm.model_fields_set <= {"log_directory"}


def test_every_key_that_it_names_there_is() -> None:
    named = set(re.findall(r"`([a-z]+_[a-z_]+)`", DOCUMENT.read_text()))
    assert named - {"dask_jobqueue"} <= set(SlurmJobs.model_fields)

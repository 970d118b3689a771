"""The examples of docs/sites.md are site files that load."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deployments.endpoints import GlobusEndpoint, GridftpEndpoint
from deployments.rank_jobs import RankJobs
from deployments.sites import Site, load_site
from deployments.slurm_jobs import SlurmJobs
from tasks.config import PreprocessConfig
from transfer.servers import GridftpServer

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "sites.md"
EXAMPLES = [
    example
    for example in re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    if not example.startswith("[preprocess]")  # that is of the run configuration
]
HEAD = 'name = "site-x"\nroot = "/srv/camnet"\n'


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.splitlines()[0] for example in EXAMPLES])
def test_every_example_loads(tmp_path: Path, example: str) -> None:
    """Examples of one table lack the head of a site file."""
    (tmp_path / "site.toml").write_text(example if example.startswith("name") else HEAD + example)
    site = load_site(tmp_path / "site.toml", workspace=tmp_path)
    tables = re.findall(r"^\[([a-z]+)", example, re.MULTILINE)
    assert tables
    assert all(getattr(site, table) is not None for table in tables)


def example(table: str, tmp_path: Path) -> Site:
    """Load the example that has this table."""
    found = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (one,) = (text for text in found if f"\n[{table}]\n" in text)
    (tmp_path / "site.toml").write_text(one)
    return load_site(tmp_path / "site.toml", workspace=tmp_path)


def test_the_example_of_a_slurm_site_loads_and_shows_nearly_every_key(tmp_path: Path) -> None:
    site = example("dask.slurm", tmp_path)
    assert site.dask.slurm is not None
    assert set(SlurmJobs.model_fields) - site.dask.slurm.model_fields_set <= {"log_directory"}


def test_the_example_of_a_slurm_job_of_ranks_shows_every_key(tmp_path: Path) -> None:
    site = example("horovod.slurm", tmp_path)
    assert site.horovod is not None
    assert site.horovod.slurm is not None
    assert set(RankJobs.model_fields) == site.horovod.slurm.model_fields_set
    assert site.horovod.most_ranks == 16


def test_the_example_of_a_globus_site_loads_and_shows_every_key(tmp_path: Path) -> None:
    site = example("globus", tmp_path)
    assert site.globus is not None
    assert set(GlobusEndpoint.model_fields) == site.globus.model_fields_set
    assert site.globus.credentials == tmp_path / "globus.json"


def test_the_example_of_a_gridftp_site_shows_every_key(tmp_path: Path) -> None:
    site = example("gridftp", tmp_path)
    assert site.gridftp is not None
    assert set(GridftpEndpoint.model_fields) == site.gridftp.model_fields_set
    assert GridftpServer(**site.gridftp.model_dump()).certificates == tmp_path / "authorities"


def test_every_key_that_it_names_there_is() -> None:
    named = set(re.findall(r"`([a-z]+_[a-z_]+)`", DOCUMENT.read_text()))
    known = {name for model in (SlurmJobs, RankJobs, GlobusEndpoint, PreprocessConfig) for name in model.model_fields}
    assert named - {"dask_jobqueue"} <= known

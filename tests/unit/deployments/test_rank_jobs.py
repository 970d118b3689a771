from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from deployments.rank_jobs import RankJobs
from deployments.sites import HorovodSlots, Site, load_site
from tasks.errors import InputError


def jobs(**changes: Any) -> RankJobs:  # noqa: ANN401  # fields of the record
    return RankJobs.model_validate({"walltime": "2:00:00", "memory_mib": 4000} | changes)


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 64))
def test_ranks_are_shared_out_evenly_over_the_fewest_nodes_or_refused(nodes: int, each: int, ranks: int) -> None:
    wanted = jobs(nodes=nodes, ranks_per_node=each)
    fewest = -(-ranks // each)
    if fewest > nodes or ranks % fewest:
        with pytest.raises(InputError, match=r"train\.ranks"):
            wanted.nodes_for(ranks)
    else:
        assert wanted.nodes_for(ranks) == fewest


def test_a_warning_after_the_walltime_is_refused() -> None:
    with pytest.raises(ValidationError, match="warning_s = 7200 is not below walltime"):
        jobs(warning_s=7200)


@pytest.mark.parametrize("text", ["cpu\n#SBATCH --wrap=x", "a b", "$(touch x)"])
def test_what_would_break_out_of_its_line_is_refused(text: str) -> None:
    for name in ("queue", "account", "interface", "mpi"):
        with pytest.raises(ValidationError, match=name):
            jobs(**{name: text})


def test_a_site_says_how_many_ranks_a_training_has(tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text(
        'name = "a"\nroot = "r"\n[horovod]\nlauncher = "slurm"\n'
        '[horovod.slurm]\nwalltime = "1:00:00"\nmemory_mib = 4000\nnodes = 3\nranks_per_node = 4\n'
    )
    loaded = load_site(site, workspace=tmp_path)
    assert loaded.horovod is not None
    assert loaded.horovod.most_ranks == 12
    # As it travels to the site: defaults are written out.
    assert Site.model_validate_json(loaded.model_dump_json()) == loaded

    site.write_text('name = "a"\nroot = "r"\n[horovod]\nlauncher = "slurm"\n')
    with pytest.raises(InputError, match=r"needs a table \[horovod.slurm\]"):
        load_site(site, workspace=tmp_path)


def test_what_is_left_is_started_with_as_many_ranks_on_each_node() -> None:
    wanted = jobs(nodes=3, ranks_per_node=2)
    assert [wanted.startable(left) for left in range(8)] == [0, 1, 2, 2, 4, 4, 6, 6]
    for left in range(1, 8):
        assert wanted.nodes_for(wanted.startable(left)) <= 3


@pytest.mark.parametrize(
    ("horovod", "needs"),
    [
        ({}, False),
        ({"gpu": True}, True),
        ({"launcher": "slurm", "slurm": {"walltime": "1:00:00", "memory_mib": 1000}}, False),
        ({"launcher": "slurm", "slurm": {"walltime": "1:00:00", "memory_mib": 1000, "gpus_per_node": 2}}, True),
    ],
)
def test_a_site_that_promises_gpus_needs_them(horovod: dict[str, Any], needs: bool) -> None:
    assert HorovodSlots.model_validate(horovod).needs_gpu is needs

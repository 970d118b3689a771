from __future__ import annotations

from pathlib import Path

from deployments.endpoints import SshEndpoint
from deployments.sites import DaskCluster
from deployments.slurm_jobs import SlurmJobs
from flows.context import RunContext, make_context
from flows.placement import placements
from tasks.config import parse_config

STAGES = ["preprocess", "stage", "train", "infer", "explain"]


def context_of(workspace: Path, source: str, trainer: str) -> RunContext:
    data = {"cohort": {"slides": "slides"}, "stages": {"preprocess": source, "train": trainer}}
    return make_context(parse_config(data, folder=workspace, source="test"), workspace, "embedded")


def test_every_stage_has_a_site_and_a_reason(tmp_path: Path) -> None:
    plan = placements(context_of(tmp_path, "site-a", "site-b"))
    assert [row.stage for row in plan] == STAGES
    assert [row.site for row in plan] == ["site-a", "site-a", "site-b", "site-b", "site-b"]
    assert "local" in plan[0].why
    assert plan[1].why == "shards go to site-b, reached by a folder of this machine"
    assert "2 Horovod slots" in plan[2].why


def test_at_one_site_nothing_moves(tmp_path: Path) -> None:
    plan = placements(context_of(tmp_path, "site-b", "site-b"))
    assert {row.site for row in plan} == {"site-b"}
    assert plan[1].why == "nothing moves: both layers are at one site"


def test_a_site_behind_ssh_is_named_with_its_address(tmp_path: Path) -> None:
    context = context_of(tmp_path, "site-a", "site-b")
    account = SshEndpoint(host="gpu.example.org", port=2222, user="me", key=Path("k"), known_hosts=Path("h"))
    trainer = context.trainer.model_copy(update={"ssh": account})
    plan = placements(context.model_copy(update={"sites": context.sites | {"site-b": trainer}}))
    assert plan[1].why == "shards go to site-b, reached by SSH (gpu.example.org:2222)"


def test_a_slurm_site_shows_what_its_jobs_ask_for(tmp_path: Path) -> None:
    context = context_of(tmp_path, "site-a", "site-b")
    jobs = SlurmJobs(queue="cpu", walltime="1:00:00", memory_mib=2000, cores=4, processes=2, maximum_jobs=20)
    source = context.source.model_copy(update={"dask": DaskCluster(cluster="slurm", slurm=jobs)})
    plan = placements(context.model_copy(update={"sites": context.sites | {"site-a": source}}))
    assert plan[0].why == (
        "the slides are there; Dask: slurm, jobs in cpu: 1 to 20; "
        "each: workers 2, cores 4, memory 2000 MiB, walltime 1:00:00"
    )

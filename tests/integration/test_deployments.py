"""A real Prefect server, one worker a site, and the pipeline as deployments; seen in a real browser."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.run_state import read_state
from flows.transfer_benchmark.flow import TransferBenchmark
from tasks.patches.store import open_shard
from tests.services.browser import dump_dom
from tests.services.camnet_cli import stored_as, write_config
from tests.services.endless_training import endless_training, ranks_of
from tests.services.prefect_server import REPOSITORY, asked, prefect, server_with_workers
from tests.services.slurm import Slurm, running_slurm, wait_until

pytestmark = pytest.mark.slow
POOLS = ("camnet-site-a", "camnet-site-b")


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with running_slurm(nodes=2) as slurm:
        yield slurm


@pytest.fixture(scope="module")
def server(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with server_with_workers(tmp_path_factory.mktemp("prefect"), POOLS, slurm.environment) as environment:
        yield environment


def test_the_pipeline_runs_by_deployments_each_in_the_pool_of_its_site(
    server: dict[str, str], cohort: Path, tmp_path: Path
) -> None:
    follow = "[train.arrival]\nfollow = true\n"
    config = write_config(tmp_path / "run.toml", cohort, more=stored_as("tiles") + follow)
    parameters = ["--param", f"config={config}", "--param", f"workspace={tmp_path / 'ws'}"]
    output = prefect(server, "deployment", "run", "run/coordinator", *parameters, "--watch")
    assert "Completed" in output

    runs = {run["name"]: run for run in asked(server, "flow_runs")}
    pools = {name: run["work_pool_name"] for name, run in runs.items() if run["deployment_id"]}
    stages = {name.removesuffix("-test"): pool for name, pool in pools.items() if name.endswith("-test")}
    assert stages == {
        "preprocess": "camnet-site-a",
        "stage": "camnet-site-a",
        "train": "camnet-site-b",
        "infer": "camnet-site-b",
        "explain": "camnet-site-b",
    }
    assert {run["state_type"] for run in runs.values()} == {"COMPLETED"}
    assert all(runs[f"{stage}-test"]["parent_task_run_id"] for stage in stages)
    # The training does not wait for the end of the transfer.
    assert runs["train-test"]["created"] < runs["stage-test"]["end_time"]

    keys = {artifact["key"] for artifact in asked(server, "artifacts")}
    assert {"slides", "transfers", "model", "evaluation", "run-summary", "report"} <= keys
    state = read_state(tmp_path / "ws" / "runs" / "test")
    assert state is not None
    assert state.state == "done"
    assert state.staged is not None
    assert state.trained is not None
    assert {shard.first_epoch is not None for shard in state.trained.card.shards} == {True}
    for path in (tmp_path / "ws" / "site-b" / "test" / "patches" / "sampled").iterdir():
        with open_shard(path) as shard:
            assert shard.attributes.encoding == "tiles"
    assert (tmp_path / "ws" / "runs" / "test" / "report.html").is_file()

    whole = next(run for run in runs.values() if run["parent_task_run_id"] is None)
    page = dump_dom(f"{server['PREFECT_API_URL'].removesuffix('/api')}/runs/flow-run/{whole['id']}").dom
    assert "Completed" in page
    assert "coordinator" in page


def test_the_transfer_benchmark_has_a_weekly_schedule_that_waits_for_its_parameters(server: dict[str, str]) -> None:
    [weekly] = [one for one in asked(server, "deployments") if one["name"] == "weekly"]
    assert weekly["entrypoint"] == "flows.transfer_benchmark.flow.benchmark_transfer"
    plan = TransferBenchmark.model_validate(weekly["parameters"]["plan"])
    [schedule] = weekly["schedules"]
    assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("17 3 * * 1", "UTC")
    assert not schedule["active"], f"not before the parameters name real sites instead of {plan.sites}"
    prefect(server, "deployment", "schedule", "resume", "benchmark-transfer/weekly", schedule["id"])
    [weekly] = [one for one in asked(server, "deployments") if one["name"] == "weekly"]
    assert [one["active"] for one in weekly["schedules"]] == [True]
    prefect(server, "deployment", "schedule", "pause", "benchmark-transfer/weekly", schedule["id"])


def test_an_error_at_a_site_reaches_the_coordinator_with_its_remedy(server: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    config = write_config(tmp_path / "run.toml", tmp_path / "empty", name="empty")
    parameters = ["--param", f"config={config}", "--param", f"workspace={tmp_path / 'ws'}"]
    prefect(server, "deployment", "run", "run/coordinator", *parameters, "--watch", failing=True)
    state = read_state(tmp_path / "ws" / "runs" / "empty")
    assert state is not None
    assert state.fatal is not None
    assert state.fatal.stage == "preprocess"
    assert "no slides" in state.fatal.cause
    assert "camnet synth" in (state.fatal.remedy or "")


ON_SLURM = {"walltime": "0:10:00", "memory_mib": 2000, "nodes": 2, "interface": "lo"}


def began_to_train(models: Path) -> bool:
    return any('"epoch"' in log.read_text() for log in models.rglob("log.jsonl"))


def is_cancelled(server: dict[str, str], run: dict[str, Any]) -> bool:
    [found] = asked(server, "flow_runs", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    return str(found["state_type"]) == "CANCELLED"


def test_cancelling_a_training_ends_its_ranks_and_its_job(slurm: Slurm, server: dict[str, str], tmp_path: Path) -> None:
    parameters = json.dumps(endless_training(tmp_path, {"launcher": "slurm", "slurm": ON_SLURM}))
    prefect(server, "deployment", "run", "train/site-b", "--params", parameters)
    models = tmp_path / "site-b" / "endless" / "models"
    wait_until(lambda: began_to_train(models), 180)
    assert len(ranks_of(models)) > 2
    [job] = slurm.unfinished()

    [run] = [run for run in asked(server, "flow_runs") if run["state_type"] == "RUNNING"]
    prefect(server, "flow-run", "cancel", run["id"])
    wait_until(lambda: not ranks_of(models) and not slurm.unfinished(), 60)
    assert slurm.states(job) == {job: "CANCELLED"}
    wait_until(lambda: is_cancelled(server, run), 60)
    assert list(models.glob(".*.part")) == []


COORDINATOR = """
import json
import sys
from prefect import flow
from flows.at import at
from flows.context import RunContext
from flows.train import TrainResult, train
from tasks.artifacts import Artifact

told = json.loads(sys.argv[1])
context, manifest = RunContext.model_validate(told["context"]), Artifact.model_validate(told["manifest"])
flow(name="coordinator-of-test")(lambda: at(context, context.trainer, train, TrainResult, manifest=manifest))()
"""


def test_a_coordinator_that_is_interrupted_cancels_the_training_at_its_site(
    server: dict[str, str], tmp_path: Path
) -> None:
    parameters = json.dumps(endless_training(tmp_path, {"slots": 2}))
    models = tmp_path / "site-b" / "endless" / "models"
    command = [sys.executable, "-c", COORDINATOR, parameters]
    with subprocess.Popen(
        command,
        env={**server, "PYTHONPATH": str(REPOSITORY)},
        # Where the tests run in the background, a shell has had the signal ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # no threads yet
    ) as coordinator:
        try:
            wait_until(lambda: began_to_train(models), 180)
            assert len(ranks_of(models)) > 2
            [run] = [
                run
                for run in asked(server, "flow_runs")
                if run["state_type"] == "RUNNING" and run["name"].startswith("train-")
            ]
        finally:
            coordinator.send_signal(signal.SIGINT)
            try:
                assert coordinator.wait(60) != 0
            finally:
                coordinator.kill()
    wait_until(lambda: not ranks_of(models), 60)
    wait_until(lambda: is_cancelled(server, run), 60)
    assert list(models.glob(".*.part")) == []

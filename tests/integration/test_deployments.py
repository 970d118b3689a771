"""A real Prefect server, one worker a site, and the pipeline as deployments; seen in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.run_state import read_state
from tasks.patches.store import open_shard
from tests.services.browser import dump_dom
from tests.services.camnet_cli import stored_as, write_config
from tests.services.prefect_server import asked, prefect, server_with_workers

pytestmark = pytest.mark.slow
POOLS = ("camnet-site-a", "camnet-site-b")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with server_with_workers(tmp_path_factory.mktemp("prefect"), POOLS) as environment:
        yield environment


def test_the_pipeline_runs_by_deployments_each_in_the_pool_of_its_site(
    server: dict[str, str], cohort: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "run.toml", cohort, more=stored_as("tiles"))
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

    keys = {artifact["key"] for artifact in asked(server, "artifacts")}
    assert {"slides", "transfers", "model", "evaluation", "run-summary", "report"} <= keys
    state = read_state(tmp_path / "ws" / "runs" / "test")
    assert state is not None
    assert state.state == "done"
    assert state.staged is not None
    for path in (tmp_path / "ws" / "site-b" / "test" / "patches" / "sampled").iterdir():
        with open_shard(path) as shard:
            assert shard.attributes.encoding == "tiles"
    assert (tmp_path / "ws" / "runs" / "test" / "report.html").is_file()

    whole = next(run for run in runs.values() if run["parent_task_run_id"] is None)
    page = dump_dom(f"{server['PREFECT_API_URL'].removesuffix('/api')}/runs/flow-run/{whole['id']}").dom
    assert "Completed" in page
    assert "coordinator" in page


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

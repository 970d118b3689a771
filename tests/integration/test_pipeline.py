"""The whole line on two sites of one machine, with SSH between them and two Horovod ranks; dense grids in parts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from deployments.loopback_sshd import LoopbackSshd
from flows.run_state import RunState, read_state
from tasks.errors import ExitCode
from tasks.inference.scores import read_scores
from tests.services.camnet_cli import TRAIN, Done, camnet, write_config, write_sites
from tests.services.html_page import Page
from transfer.ledger import Ledger
from transfer.manifest import read_manifest

pytestmark = pytest.mark.slow
# The slides have 256 positions.
PART_POSITIONS, PARTS = 90, 3


@dataclass(frozen=True)
class FinishedRun:
    config: Path
    workspace: Path
    first: Done
    state: RunState

    @property
    def folder(self) -> Path:
        return self.workspace / "runs" / "test"


@pytest.fixture(scope="module")
def run(cohort: Path, sshd: LoopbackSshd, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """One run of ``camnet run``, with no Prefect server configured."""
    folder = tmp_path_factory.mktemp("run")
    table = (
        f'[ssh]\nhost = "{sshd.host}"\nport = {sshd.port}\nuser = "{sshd.user}"\n'
        f'key = "{sshd.key}"\nknown_hosts = "{sshd.known_hosts}"\n'
    )
    sites = write_sites(folder / "sites", ssh=table)
    in_parts = TRAIN.replace("[preprocess]", f"[preprocess]\ngrid_part_positions = {PART_POSITIONS}")
    config = write_config(folder / "run.toml", cohort, more=f'sites = "{sites}"\n{in_parts}')
    first = camnet("run", "-c", config, "-w", folder / "ws")
    assert first.code == ExitCode.DONE, first.output + first.errors
    state = read_state(folder / "ws" / "runs" / "test")
    assert state is not None
    return FinishedRun(config, folder / "ws", first, state)


def test_every_slide_is_accounted_for(run: FinishedRun) -> None:
    assert run.state.state == "done"
    assert run.state.preprocessed is not None
    states = {outcome.slide: outcome.state for outcome in run.state.preprocessed.outcomes}
    assert len(states) == 8
    assert set(states.values()) == {"done"}


def test_shards_arrive_verified_over_ssh_and_the_ledger_measures_them(run: FinishedRun) -> None:
    there = run.workspace / "site-b" / "test" / "patches"
    manifest = read_manifest(there / "manifest.json")
    assert {entry.path: (there / entry.path).stat().st_size for entry in manifest.entries} == {
        entry.path: entry.bytes for entry in manifest.entries
    }
    rows = Ledger(run.workspace / "site-a" / "test" / "ledger.jsonl").read()
    assert {row.path for row in rows if row.outcome == "done"} >= {entry.path for entry in manifest.entries}
    assert {row.protocol for row in rows} == {"streams"}
    for row in rows:
        if row.megabits_per_s is not None:
            assert row.megabits_per_s == pytest.approx(row.wire_bytes * 8 / 1e6 / row.wire_seconds)


def test_large_slides_travel_in_parts_and_become_one_heatmap_and_one_panel_each(run: FinishedRun) -> None:
    assert run.state.preprocessed is not None
    assert run.state.inferred is not None
    assert run.state.explained is not None
    outcomes = {outcome.slide: outcome for outcome in run.state.preprocessed.outcomes if outcome.split == "test"}
    assert outcomes
    manifest = read_manifest(run.workspace / "site-b" / "test" / "patches" / "manifest.json")
    scored = {slide.scores.slide: slide for slide in run.state.inferred.slides}
    assert scored.keys() == outcomes.keys()
    for name, slide in scored.items():
        paths = [f"grid/{name}.part-{part:04}-of-{PARTS:04}.patches.h5" for part in range(1, PARTS + 1)]
        entries = [entry for entry in manifest.entries if entry.path.startswith(f"grid/{name}.")]
        assert [entry.path for entry in entries] == list(slide.shards) == paths
        rows = sum(entry.rows or 0 for entry in entries)
        assert outcomes[name].grid_patches == slide.scores.patches == rows > 0
        scores = read_scores(slide.scores_file.under(run.workspace / "site-b"))
        assert len(set(zip(scores.x_level0_px.tolist(), scores.y_level0_px.tolist(), strict=True))) == rows
    assert sorted(slide.slide for slide in run.state.explained.slides) == sorted(scored)


def test_training_is_distributed_and_splits_by_patient(run: FinishedRun) -> None:
    assert run.state.trained is not None
    card = run.state.trained.card
    assert card.ranks == 2
    assert card.equal_weights_over_ranks
    patients = [set(patients) for patients in card.split_patients.values()]
    assert sum(map(len, patients)) == len(set.union(*patients))
    tested = {shard.patient for shard in card.shards if shard.split == "test"}
    assert tested
    assert not tested & {shard.patient for shard in card.shards if shard.split != "test"}
    measured = {metrics.split: metrics for metrics in card.metrics}
    assert measured["test"].held_out
    assert sum(centre.rows for centre in measured["test"].centres) == measured["test"].rows


def test_only_slides_that_were_not_trained_on_are_scored(run: FinishedRun) -> None:
    assert run.state.trained is not None
    assert run.state.inferred is not None
    trained_on = {shard.patient for shard in run.state.trained.card.shards if shard.split != "test"}
    scored = {slide.scores.patient for slide in run.state.inferred.slides}
    assert scored
    assert not scored & trained_on
    assert run.state.inferred.evaluation is not None
    assert run.state.inferred.evaluation.patch_auc.value is not None


def test_the_report_is_self_contained_and_shows_every_stage_and_heatmap(run: FinishedRun) -> None:
    page = Page((run.folder / "report.html").read_text())
    assert page.leaks() == []
    text = (run.folder / "report.html").read_text()
    for stage in ("preprocess", "stage", "train", "infer", "explain"):
        assert f">{stage}<" in text
    assert run.state.inferred is not None
    for slide in run.state.inferred.slides:
        assert slide.scores.slide in text
    assert "test: measured once, after the training" in page.section("training")
    alts = [picture["alt"] for picture in page.all("img")]
    for drawn in ("Training curves", "ROC curves", "Reliability diagrams"):
        assert sum(alt.startswith(drawn) for alt in alts) == 1
    assert "streams" in text
    assert "Mb/s" in text


def test_a_second_run_does_nothing_twice(run: FinishedRun) -> None:
    made = {
        path: path.stat().st_mtime_ns
        for site in ("site-a", "site-b")
        for path in (run.workspace / site).rglob("*")
        if path.is_file()
    }
    ledger = (run.workspace / "site-a" / "test" / "ledger.jsonl").read_bytes()
    again = camnet("run", "-c", run.config, "-w", run.workspace, "--json")
    assert again.code == ExitCode.DONE, again.errors
    state = json.loads(again.output)
    for stage in ("staged", "trained", "inferred", "explained"):
        assert state[stage]["reused"] is True, stage
    assert all(outcome["reused"] for outcome in state["preprocessed"]["outcomes"])
    assert (run.workspace / "site-a" / "test" / "ledger.jsonl").read_bytes() == ledger
    after = {path: path.stat().st_mtime_ns for path in made}
    assert {path.name for path in made if after[path] != made[path]} == set()


def test_status_and_report_need_no_server(run: FinishedRun) -> None:
    status = camnet(
        "status", "test", "-w", run.workspace, "--json", environment={"PREFECT_API_URL": "http://127.0.0.1:9"}
    )
    assert json.loads(status.output)["state"] == "done"
    report = camnet("report", "test", "-w", run.workspace, environment={"PREFECT_API_URL": "http://127.0.0.1:9"})
    assert Path(report.output.strip()).is_file()


def test_a_changed_training_makes_a_new_model_of_the_same_shards(run: FinishedRun, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(run.config.read_text().replace("batch_size = 16", "batch_size = 24"))
    done = camnet("run", "-c", config, "-w", run.workspace, "--json")
    assert done.code == ExitCode.DONE, done.errors
    state = json.loads(done.output)
    assert state["staged"]["reused"] is True
    assert state["trained"]["reused"] is False
    assert run.state.trained is not None
    assert state["trained"]["card"]["key"] != run.state.trained.card.key

"""``camnet benchmark training`` with real Horovod ranks, and what it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.training_benchmark.plan import Cell, Conditions
from flows.training_benchmark.trial import Trial
from tasks.artifacts import read_lines
from tasks.errors import ExitCode
from tests.services.camnet_cli import camnet
from tests.services.prefect_server import asked
from tests.services.training_trials import made_trial

pytestmark = pytest.mark.slow
SMALL = ("--architectures", "CamNetSmall", "--patch-px", "32", "--batch-size", "4", "--epochs", "2", "--repeats", "1")


def test_two_ranks_are_measured_beside_what_an_interrupted_benchmark_has_left(tmp_path: Path, prefect_url: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    kept = made_trial(Cell(architecture="CamNetSmall", ranks=2, threads=1, rows=24))
    (out / "conditions.json").write_text(Conditions(patch_px=32, batch_size=4, epochs=2).model_dump_json())
    (out / "trials.jsonl").write_text(kept.model_dump_json() + "\n" + kept.model_dump_json()[:40])
    places = ("-o", out, "-w", tmp_path / "ws")
    command = ("benchmark", "training", *SMALL, "--ranks", "2", "--rows", "16,24", *places)
    done = camnet(*command, environment={"PREFECT_API_URL": prefect_url})
    assert done.code == ExitCode.DONE, done.errors

    known, own = read_lines(out / "trials.jsonl", Trial)
    assert known == kept, "what was finished is not measured again"
    assert (own.cell.shape, own.rows, [epoch.steps for epoch in own.epochs]) == ("2 × 1", 16, [2, 2])
    assert len(own.all_reduce_s) == 2, "of each step after the first epoch"
    assert own.gradient_bytes == 4 * own.parameters > 0
    for seconds in own.all_reduce_s:
        assert 0 < seconds < own.counted[0].seconds
    assert 0 < own.start_up_s < own.start_up_s + sum(epoch.seconds for epoch in own.epochs) < own.wall_s
    assert not list((tmp_path / "ws" / "benchmark-training").iterdir()), "what trainings made is gone"

    report = Path(json.loads(done.output)["report"])
    page = report.read_text()
    for words in ("Figure 9", "Figure 10", "Line through all epochs", "% of the step", "Waiting for input", "assumed"):
        assert words in page
    assert page.count("data:image/") == 2
    assert {path.name for path in report.parent.iterdir()} == {
        "conditions.json", "trials.jsonl", "training-benchmark.html", "training-benchmark.json", "epochs.csv",
        "figure-9.png", "figure-10.png",
    }  # fmt: skip
    tables = ("all-reduce", "assumptions", "efficiency", "failures", "growth", "report", "waiting")
    question = {"artifacts": {"key": {"like_": "training-benchmark"}}}
    latest = {one["key"]: one for one in asked({"PREFECT_API_URL": prefect_url}, "artifacts/latest", question)}
    assert set(latest) == {"training-benchmark", *(f"training-benchmark-{name}" for name in tables)}
    (row,) = json.loads(latest["training-benchmark"]["data"])
    assert (row["network"], row["ranks × threads"], row["patches"]) == ("CamNetSmall", "2 × 1", "24")
    assert str(report) in latest["training-benchmark-report"]["data"]

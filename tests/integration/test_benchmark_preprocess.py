"""``camnet benchmark preprocess`` on a LocalCluster and on a real Slurm, and its report in a browser."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.preprocess_benchmark.cell import Trial
from tasks.artifacts import read_lines
from tasks.errors import ExitCode
from tests.services.browser import dump_dom
from tests.services.camnet_cli import Done, camnet, write_sites
from tests.services.cohort import small_cohort
from tests.services.prefect_server import asked
from tests.services.slurm import Slurm, running_slurm, slurm_sites

pytestmark = pytest.mark.slow
SMALL = ("--patch-px", "96", "--stride-px", "96", "--repeats", "1", "--encodings", "raw")


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with running_slurm(nodes=2) as slurm:
        yield slurm


def measured(folder: Path, environment: dict[str, str], slides: Path, *options: str) -> Done:
    places: tuple[str | Path, ...] = ("--sites-folder", folder / "sites", "-w", folder / "ws", "-o", folder / "out")
    command = ("benchmark", "preprocess", "--site", "site-a", "--slides-from", slides, *places, *SMALL)
    return camnet(*command, *options, environment=environment)


def numbers(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / "preprocess-benchmark.json").read_text())
    return found


def test_a_small_matrix_its_report_and_what_is_missing_of_it(tmp_path: Path, prefect_url: str) -> None:
    environment, out = {"PREFECT_API_URL": prefect_url}, tmp_path / "out"
    small_cohort(tmp_path / "slides", slides=2)
    write_sites(tmp_path / "sites")
    matrix = ("--workers", "1,2", "--slides", "2", "--sampling", "dense")
    done = measured(tmp_path, environment, tmp_path / "slides", *matrix)
    assert done.code == ExitCode.DONE, done.errors
    result = json.loads(done.output)
    assert (result["trials"], result["failed"]) == (3, 0)  # with the warm-up
    page = dump_dom(Path(result["report"]).as_uri())
    assert page.console == ()
    for words in ("its machine, not this one", "Measured here", "43 million patches", "The fitted parameters"):
        assert words in page.dom
    for words in ("The model against the measurements", "What is assumed", "Nothing failed", "data:image/png"):
        assert words in page.dom
    with (out / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["slides"], row["workers"], row["most_workers"]) for row in rows} == {("2", "1", "1"), ("2", "2", "2")}
    for row in rows:
        legs = [float(row[f"{leg}_s"]) for leg in ("queued", "startup", "slides", "manifest")]
        assert sum(legs) == pytest.approx(float(row["seconds"]))
        assert 0 < float(row["tasks_cpu_s"]) < float(row["workers_cpu_s"])
    assert not list((tmp_path / "ws" / "site-a" / "benchmark-preprocess").iterdir()), "what trials made is gone"
    keys = {"preprocess-benchmark", "preprocess-prediction", "preprocess-benchmark-report"}
    latest = asked(environment, "artifacts/latest", {"artifacts": {"key": {"any_": sorted(keys)}}})
    assert {one["key"] for one in latest} == keys
    (table,) = (json.loads(one["data"]) for one in latest if one["key"] == "preprocess-benchmark")
    assert len(table) == 2

    path = out / "trials.jsonl"
    kept = path.read_bytes().splitlines(keepends=True)
    cut_off = kept.pop()[:40]
    path.write_bytes(b"".join(kept) + cut_off)  # killed in the middle of a line
    broken = sorted((tmp_path / "slides").rglob("*.tif"))[-1]
    broken.write_bytes(broken.read_bytes()[:1000])
    done = measured(tmp_path, environment, tmp_path / "slides", *matrix)
    assert done.code == ExitCode.PARTIAL, done.errors
    assert "1 of 3 trials failed" in done.errors
    assert "1 slides failed" in (out / "preprocess-benchmark.html").read_text()
    assert path.read_bytes().startswith(b"".join(kept)), "what was finished is not measured again"
    assert [trial.error is None for trial in read_lines(path, Trial)] == [True] * 2 + [False]
    done = measured(tmp_path, environment, tmp_path / "slides", *matrix, "--stride-px", "48")
    assert done.code == ExitCode.USAGE
    assert "holds measurements under other conditions" in done.errors


def test_on_slurm_with_slides_in_bands(slurm: Slurm, cohort: Path, tmp_path: Path, prefect_url: str) -> None:
    slurm_sites(tmp_path / "sites")
    environment = {**slurm.environment, "PREFECT_API_URL": prefect_url}
    matrix = ("--workers", "2", "--slides", "2", "--part-positions", "100", "--shared-write-mb-per-s", "500")
    done = measured(tmp_path, environment, cohort, *matrix)
    assert done.code == ExitCode.DONE, done.errors
    assert slurm.nodes_used() == {"n1", "n2"}
    assert not slurm.unfinished()
    random, dense = sorted(
        (trial for trial in read_lines(tmp_path / "out" / "trials.jsonl", Trial) if trial.repeat),
        key=lambda trial: trial.cell.rank,
    )
    for trial in (random, dense):
        assert trial.course is not None
        assert trial.effort is not None
        assert (trial.course.workers, len(trial.effort.workers)) == (2, 2)
        assert {name.partition("/")[0] for name in trial.effort.workers} == {"n1", "n2"}
        assert min(trial.course.startup_s, trial.course.slides_s, trial.course.coordinator_cpu_s) > 0
    assert dense.bands > 1
    assert dense.course is not None
    assert dense.course.tasks == 2 * (dense.bands + 2)
    found = numbers(tmp_path)
    for kind in ("random raw", "dense raw"):
        costs = found["models"][kind]["costs"]
        assert min(costs.values()) >= 0
        for name in ("start_s", "worker_start_cpu_s", "read_s_per_mb", "masks_s_per_mpx", "cut_s_per_patch"):
            assert costs[name] > 0, name
        assert costs["reads_a_byte"] >= 1
    limited = [one for one in found["predictions"] if one["machine"]["write_mb_per_s"] is not None]
    assert [one["machine"]["nodes"] for one in limited] == [100, 1000, 8000]
    least_s = 43e6 * found["models"]["dense raw"]["patch_mb"] / 500
    for one in limited:
        assert one["seconds"] > one["limits_s"]["shared writing"] == pytest.approx(least_s)

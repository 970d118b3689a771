"""One part of the slides by itself: what the tasks of a job array run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tasks.errors import ExitCode
from tests.services.camnet_cli import camnet, write_config


def test_names_that_shells_take_apart_are_plain_names_and_a_broken_slide_is_named(cohort: Path, tmp_path: Path) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    names = ["-rf $(reboot)", 'it\'s "odd" & 100%;', "plain"]
    for name in names:
        shutil.copy(min(cohort.rglob("*.tif")), slides / f"{name}.tif")
    (slides / "zero.tif").write_bytes(b"")
    options = ("-c", write_config(tmp_path / "run.toml", slides), "-w", tmp_path / "ws")
    nowhere = {"PREFECT_API_URL": "http://127.0.0.1:9/api"}

    first = camnet("preprocess-part", *options, "--task", "0", "--of", "2", environment=nowhere)
    assert first.code == ExitCode.DONE, first.errors
    second = camnet("preprocess-part", *options, "--task", "1", "--of", "2", environment=nowhere)
    assert second.code == ExitCode.PARTIAL, second.errors
    assert second.error["cause"] == "1 of 2 slides or parts failed: zero"
    outcomes = [outcome for part in (first, second) for outcome in json.loads(part.output)]
    states = {outcome["slide"]: outcome["state"] for outcome in outcomes}
    assert states == {**dict.fromkeys(names, "done"), "zero": "failed"}

    beyond = camnet("preprocess-part", *options, "--task", "2", "--of", "2")
    assert beyond.code == ExitCode.USAGE
    assert "no part 2 of 2" in beyond.error["cause"]

    counts = tmp_path / "counts.json"
    for wrong in ("{", '{"plain": 0}'):
        counts.write_text(wrong)
        refused = camnet("preprocess-part", *options, "--task", "0", "--of", "2", "--counts", counts)
        assert refused.code == ExitCode.USAGE
        assert str(counts) in refused.error["subject"]


def test_a_site_without_slurm_jobs_gets_no_array(cohort: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "run.toml", cohort)
    done = camnet("preprocess", "-c", config, "-w", tmp_path / "ws", "--sbatch-array", tmp_path / "array.sh")
    assert done.code == ExitCode.USAGE
    assert "[dask.slurm]" in done.error["cause"]
    assert not (tmp_path / "array.sh").exists()

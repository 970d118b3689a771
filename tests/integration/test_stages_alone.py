"""Every stage alone from the command line, on real slides and on a synthetic cohort."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.errors import ExitCode
from tasks.patches.store import open_shard
from tests.services.camnet_cli import camnet, stored_as, write_config
from tests.services.prefect_server import asked
from transfer.manifest import read_manifest

pytestmark = pytest.mark.slow


def test_the_stages_one_after_the_other_make_what_a_run_makes(cohort: Path, tmp_path: Path, prefect_url: str) -> None:
    follow = "[train.arrival]\nfollow = true\npatience_s = 120\n"
    config = write_config(tmp_path / "run.toml", cohort, more=stored_as("jpeg") + follow)
    workspace = tmp_path / "ws"
    server = {"PREFECT_API_URL": prefect_url}
    options = ("-c", config, "-w", workspace)
    early = camnet("train", *options, environment=server)
    assert early.code == ExitCode.USAGE
    assert "camnet preprocess" in early.error["remedy"]
    done = camnet("preprocess", *options, environment=server)
    assert done.code == ExitCode.DONE, done.errors
    ahead = json.loads(camnet("transfer", "--dry-run", *options, environment=server).output)
    assert (ahead["protocol"], {file["state"] for file in ahead["files"]}) == ("local", {"missing"})
    assert ahead["bytes_to_send"] == sum(file["bytes"] for file in ahead["files"]) > 0
    with ThreadPoolExecutor() as pool:
        # The training is first there, and waits for what the transfer brings.
        training = pool.submit(camnet, "train", *options, environment=server)
        moved = camnet("transfer", *options, environment=server)
        assert moved.code == ExitCode.DONE, moved.errors
        assert training.result().code == ExitCode.DONE, training.result().errors
    for command in ("infer", "explain"):
        done = camnet(command, *options, environment=server)
        assert done.code == ExitCode.DONE, done.errors
    after = json.loads(camnet("transfer", "--dry-run", *options, environment=server).output)
    assert ({file["state"] for file in after["files"]}, after["bytes_to_send"]) == ({"there"}, 0)
    newest = {"artifacts": {"key": {"any_": ["transfer-progress"]}}, "sort": "CREATED_DESC"}
    (progress, *_) = asked(server, "artifacts", newest)
    assert progress["data"] == 100.0
    assert "100 %" in progress["description"]
    assert json.loads(done.output)["slides"]
    whole = camnet("run", *options, "--json", environment=server)
    state = json.loads(whole.output)
    assert all(state[stage]["reused"] for stage in ("staged", "trained", "inferred", "explained"))
    assert (workspace / "runs" / "test" / "report.html").is_file()


def test_real_slides_go_through_preprocessing(real_data: Path, tmp_path: Path, prefect_url: str) -> None:
    slides = tmp_path / "slides"
    shutil.copytree(real_data / "mini_camelyon", slides)
    shutil.copy(real_data / "slides" / "CMU-1-Small-Region.svs", slides)
    config = write_config(tmp_path / "run.toml", slides)
    config.write_text(
        config.read_text().replace("[cohort]", "[cohort]\ntest_fraction = 0.9\nvalidation_fraction = 0.0")
    )
    done = camnet("preprocess", "-c", config, "-w", tmp_path / "ws", environment={"PREFECT_API_URL": prefect_url})
    assert done.code == ExitCode.DONE, done.errors
    folder = tmp_path / "ws" / "site-a" / "test" / "patches"
    manifest = read_manifest(folder / "manifest.json")
    assert {entry.kind for entry in manifest.entries} == {"patches", "thumbnail", "annotation"}
    with open_shard(folder / "sampled" / "patient_004_node_4.patches.h5") as shard:
        assert shard.attributes.mpp == pytest.approx(0.243, abs=0.001)
        assert (shard.label == 1).sum() == 40
        assert (shard.label == 0).sum() == 40
    with open_shard(folder / "sampled" / "CMU-1-Small-Region.patches.h5") as shard:
        assert shard.attributes.mpp == pytest.approx(0.499, abs=0.001)
        assert set(shard.label.tolist()) == {-1}


def test_synth_makes_the_same_cohort_for_the_same_seed(tmp_path: Path) -> None:
    options = ("--slides", "2", "--width-px", "1024", "--height-px", "1024", "--seed", "3")
    for name in ("one", "other"):
        done = camnet("synth", tmp_path / name, *options)
        assert done.code == ExitCode.DONE, done.errors
    made = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len([path for path in made if path.suffix == ".tif"]) == 2
    for path in made:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "other" / path).read_bytes(), path


def test_looking_changes_nothing(cohort: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "run.toml", cohort)
    plan = json.loads(camnet("plan", "-c", config, "-w", tmp_path / "ws", "--json").output)
    assert [stage["stage"] for stage in plan["stages"]] == ["preprocess", "stage", "train", "infer", "explain"]
    assert set(plan["splits"].values()) == {"train", "validation", "test"}
    assert set(json.loads(camnet("sites", "-w", tmp_path / "ws", "--json").output)) == {"site-a", "site-b"}
    assert "preprocess" in json.loads(camnet("schema").output)["properties"]
    findings = {
        finding["what"]: finding for finding in json.loads(camnet("doctor", "-w", tmp_path / "ws", "--json").output)
    }
    assert "Gloo" in findings["horovod"]["found"]
    assert "MPI" in findings["horovod"]["found"]
    assert not (tmp_path / "ws").exists()

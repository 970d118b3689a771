"""What a user gets for bad input: a named failure or one clear error, the right exit code, the rest finished."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.loopback_sshd import LoopbackSshd
from flows.run_state import read_state
from tasks.errors import ExitCode
from tests.services.camnet_cli import TRAIN, camnet, write_config, write_sites
from transfer.manifest import read_manifest

pytestmark = pytest.mark.slow


@pytest.fixture
def server(prefect_url: str) -> dict[str, str]:
    return {"PREFECT_API_URL": prefect_url}


@pytest.fixture(scope="module")
def bad_cohort(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good slides among five that fail each in its own way."""
    folder = tmp_path_factory.mktemp("bad")
    images, annotations = sorted((cohort / "images").glob("*.tif")), cohort / "annotations"
    with_tumour = next(path for path in images if (annotations / f"{path.stem}.xml").exists())
    shutil.copy(with_tumour, folder / "patient_060_node_0.tif")
    shutil.copy(annotations / f"{with_tumour.stem}.xml", folder / "patient_060_node_0.xml")
    shutil.copy(images[0], folder / "patient_061_node_0.tif")
    (folder / "patient_062_node_0.tif").write_bytes(b"II*\0 no slide at all")
    shutil.copy(with_tumour, folder / "patient_063_node_0.tif")
    (folder / "patient_063_node_0.xml").write_text("this is no XML <")
    _with_broken_tiles(images[0], folder / "patient_064_node_0.tif")
    _without_mpp(images[0], folder / "patient_065_node_0.tif")
    whole = images[0].read_bytes()
    (folder / "patient_066_node_0.tif").write_bytes(whole[: len(whole) // 2])
    return folder


def _with_broken_tiles(slide: Path, broken: Path) -> None:
    import tifffile

    data = bytearray(slide.read_bytes())
    with tifffile.TiffFile(slide) as file:
        for page in file.pages:
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
                data[offset : offset + count] = b"\0" * count
    broken.write_bytes(data)


def _without_mpp(slide: Path, copy: Path) -> None:
    import tifffile

    shutil.copy(slide, copy)
    with tifffile.TiffFile(copy, mode="r+b") as file:
        for page in file.pages:
            tags = page.tags
            tags["ResolutionUnit"].overwrite(1)


def test_bad_slides_are_named_and_the_good_ones_finished(
    bad_cohort: Path, tmp_path: Path, server: dict[str, str]
) -> None:
    config = write_config(tmp_path / "run.toml", bad_cohort)
    done = camnet("preprocess", "-c", config, "-w", tmp_path / "ws", environment=server)
    assert done.code == ExitCode.PARTIAL, done.errors
    outcomes = {outcome["slide"]: outcome for outcome in json.loads(done.output)["outcomes"]}
    assert {name for name, outcome in outcomes.items() if outcome["state"] == "done"} == {
        "patient_060_node_0",
        "patient_061_node_0",
    }
    assert (
        "does not open" in outcomes["patient_062_node_0"]["reason"]
        or "format" in outcomes["patient_062_node_0"]["reason"]
    )
    assert "XML" in outcomes["patient_063_node_0"]["reason"]
    assert "decoded" in outcomes["patient_064_node_0"]["reason"]
    assert "resolution" in outcomes["patient_065_node_0"]["reason"]
    assert "--mpp" in outcomes["patient_065_node_0"]["remedy"] or "mpp" in outcomes["patient_065_node_0"]["remedy"]
    assert outcomes["patient_066_node_0"]["state"] == "failed"
    assert outcomes["patient_066_node_0"]["remedy"]
    for name in outcomes:
        if outcomes[name]["state"] == "failed":
            assert name in done.error["cause"]
    manifest = read_manifest(tmp_path / "ws" / "site-a" / "test" / "patches" / "manifest.json")
    assert {Path(entry.path).name.split(".")[0] for entry in manifest.entries} == {
        "patient_060_node_0",
        "patient_061_node_0",
    }


def test_an_unknown_key_names_the_nearest_known_one(tmp_path: Path, cohort: Path) -> None:
    config = write_config(tmp_path / "run.toml", cohort, more=TRAIN.replace("batch_size", "batch_sise"))
    done = camnet("run", "-c", config, "-w", tmp_path / "ws")
    assert done.code == ExitCode.USAGE
    assert "batch_sise" in done.error["cause"]
    assert "batch_size" in done.error["cause"]
    assert done.error["subject"].endswith("run.toml")
    assert not (tmp_path / "ws").exists()


def test_a_missing_configuration_and_a_wrong_option_are_usage_errors(tmp_path: Path) -> None:
    assert camnet("run", "-c", tmp_path / "none.toml").code == ExitCode.USAGE
    assert camnet("run", "--no-such-option").code == ExitCode.USAGE
    assert camnet("status", "no-such-run", "-w", tmp_path).code == ExitCode.USAGE


def test_a_cohort_without_slides_says_so(tmp_path: Path, server: dict[str, str]) -> None:
    (tmp_path / "empty").mkdir()
    config = write_config(tmp_path / "run.toml", tmp_path / "empty")
    done = camnet("run", "-c", config, "-w", tmp_path / "ws", environment=server)
    assert done.code == ExitCode.USAGE
    assert "no slides" in done.error["cause"]
    assert "camnet synth" in done.error["remedy"]
    state = read_state(tmp_path / "ws" / "runs" / "test")
    assert state is not None
    assert state.fatal is not None
    assert "no slides" in (tmp_path / "ws" / "runs" / "test" / "report.html").read_text()


@pytest.fixture(scope="module")
def preprocessed(cohort: Path, tmp_path_factory: pytest.TempPathFactory, prefect_url: str) -> Path:
    folder = tmp_path_factory.mktemp("preprocessed")
    config = write_config(folder / "run.toml", cohort)
    done = camnet("preprocess", "-c", config, "-w", folder / "ws", environment={"PREFECT_API_URL": prefect_url})
    assert done.code == ExitCode.DONE, done.errors
    return folder / "ws"


def test_a_wrong_host_key_is_refused(
    preprocessed: Path,
    cohort: Path,
    tmp_path: Path,
    ssh_table: str,
    sshd: LoopbackSshd,
    server: dict[str, str],
) -> None:
    other = tmp_path / "known_hosts"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    kind, key, *_ = (tmp_path / "key.pub").read_text().split()
    other.write_text(f"[{sshd.host}]:{sshd.port} {kind} {key}\n")
    before = other.read_bytes()
    sites = write_sites(tmp_path / "sites", ssh=ssh_table.replace(str(sshd.known_hosts), str(other)))
    config = write_config(tmp_path / "run.toml", cohort, more=f'sites = "{sites}"\n{TRAIN}')
    workspace = shutil.copytree(preprocessed, tmp_path / "ws")
    done = camnet("transfer", "-c", config, "-w", workspace, environment=server)
    assert done.code in (ExitCode.USAGE, ExitCode.RETRY_LATER)
    assert "key" in done.error["cause"]
    assert sshd.host in json.dumps(done.error)
    assert done.error["remedy"]
    assert other.read_bytes() == before
    assert not (workspace / "site-b").exists()


def test_a_full_destination_is_named_and_the_next_run_finishes(
    preprocessed: Path, cohort: Path, tmp_path: Path, small_disk: Path, server: dict[str, str]
) -> None:
    sites = write_sites(tmp_path / "sites")
    (sites / "site-b.toml").write_text(f'name = "site-b"\nroot = "{small_disk}/root"\n[horovod]\nslots = 2\n')
    config = write_config(tmp_path / "run.toml", cohort, more=f'sites = "{sites}"\n{TRAIN}')
    workspace = shutil.copytree(preprocessed, tmp_path / "ws")
    done = camnet("transfer", "-c", config, "-w", workspace, environment=server)
    assert done.code == ExitCode.RETRY_LATER, done.errors
    assert "No space left" in done.error["cause"]
    assert done.error["remedy"]
    assert not list(small_disk.rglob("manifest.json"))
    subprocess.run(["mount", "-o", "remount,size=200m", small_disk], check=True)
    again = camnet("transfer", "-c", config, "-w", workspace, environment=server)
    assert again.code == ExitCode.DONE, again.errors
    read_manifest(small_disk / "root" / "test" / "patches" / "manifest.json")


@pytest.mark.parametrize("more", ["", "[train.arrival]\nfollow = true\n"])
def test_pixels_of_a_resident_site_stay_there(
    preprocessed: Path, cohort: Path, tmp_path: Path, server: dict[str, str], more: str
) -> None:
    sites = write_sites(tmp_path / "sites", policy="resident")
    config = write_config(tmp_path / "run.toml", cohort, more=f'sites = "{sites}"\n{TRAIN}{more}')
    workspace = shutil.copytree(preprocessed, tmp_path / "ws")
    done = camnet("transfer", "-c", config, "-w", workspace, environment=server)
    assert done.code == ExitCode.POLICY, done.errors
    assert "site-a" in json.dumps(done.error)
    assert not (workspace / "site-b").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small-disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "camnet-test", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)

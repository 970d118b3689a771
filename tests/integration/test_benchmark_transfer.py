"""``camnet benchmark transfer`` between a folder and an account, and its report in a browser."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.loopback_sshd import LoopbackSshd, loopback_sshd
from tasks.errors import ExitCode
from tests.services.browser import dump_dom
from tests.services.camnet_cli import Done, camnet
from tests.services.html_page import Page
from tests.services.prefect_server import asked
from tests.services.slurm import wait_until
from tests.services.sshd_route import account_of
from transfer import trial
from transfer.benchmark import Cell, read_trials
from transfer.ledger import Ledger
from transfer.manifest import Kind, manifest_of, write_manifest
from transfer.model import Endpoint, TransferOptions

pytestmark = pytest.mark.slow
CAMNET = Path(sys.executable).with_name("camnet")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with loopback_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def sites(tmp_path: Path, sshd: LoopbackSshd) -> Path:
    folder = tmp_path / "sites"
    folder.mkdir()
    for name in ("site-a", "site-b"):
        (folder / f"{name}.toml").write_text(f'name = "{name}"\nroot = "{tmp_path / name}"\n')
    with (folder / "site-b.toml").open("a") as file:
        file.write(f'[ssh]\nhost = "{sshd.host}"\nport = {sshd.port}\nuser = "{sshd.user}"\n')
        file.write(f'key = "{sshd.key}"\nknown_hosts = "{sshd.known_hosts}"\n')
    return folder


def measured(sites: Path, url: str, *options: str) -> Done:
    places: tuple[str | Path, ...] = ("-o", sites.parent / "out", "-w", sites.parent / "ws", "--sites-folder", sites)
    command = ("benchmark", "transfer", "--sites", "site-a,site-b", *places, *options)
    return camnet(*command, environment={"PREFECT_API_URL": url})


def artifacts_as_the_page_has_them(url: str, out: Path) -> dict[str, list[dict[str, str]]]:
    """The rows of each table's latest artifact, which are those of the page, and its description, which is its lead."""
    page = Page((out / "transfer-benchmark.html").read_text())
    keys = [found["id"] for found in page.all("section") if "id" in found]
    question = {"artifacts": {"key": {"any_": [*keys, "transfer-benchmark-report"]}}}
    latest = {one["key"]: one for one in asked({"PREFECT_API_URL": url}, "artifacts/latest", question)}
    assert str(out / "transfer-benchmark.html") in latest.pop("transfer-benchmark-report")["data"]
    assert set(latest) == set(keys)
    tables = {}
    for key in keys:
        tables[key] = json.loads(latest[key]["data"])
        section = page.section(key)
        heading, told, _ = latest[key]["description"].split("\n\n")
        assert section.startswith(heading.strip("*"))
        assert section.split(". ")[0].removeprefix(heading.strip("*")).strip() in told
        words = " ".join(" ".join(cell for row in tables[key] for cell in row.values()).split())
        assert section.endswith(words), "the same rows, in the same order"
    return {key: tables[key] for key in keys}


def test_a_small_matrix_its_report_and_its_trend(sites: Path, prefect_url: str) -> None:
    small = ("--protocols", "sftp", "--sizes", "10kB,1MB", "--small-files", "5", "--streams", "2,1", "--repeats", "1")
    done = measured(sites, prefect_url, *small)
    assert done.code == ExitCode.DONE, done.errors
    result = json.loads(done.output)
    assert (result["trials"], result["failed"]) == (16, 0)  # 2 routes × (2 sizes + 1 streams + 1 files) × 2
    out = sites.parent / "out"
    page = dump_dom(Path(result["report"]).as_uri())
    assert page.console == ()
    for words in ("Table 5", "Figure 8", "Streams against throughput", "Many small files", "No trial failed"):
        assert words in page.dom
    with (out / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["source"], row["destination"]) for row in rows} == {("site-a", "site-b"), ("site-b", "site-a")}
    assert all(float(row["megabits_per_s"]) > 0 for row in rows)
    assert [list((sites.parent / name).iterdir()) for name in ("site-a", "site-b")] == [[], []]
    assert len(artifacts_as_the_page_has_them(prefect_url, out)["transfer-benchmark-trend"]) == 0
    again = measured(sites, prefect_url, *small)
    assert again.code == ExitCode.DONE, again.errors
    assert (out / "trend.png").is_file()
    assert page.dom.count("data:image/png") == 2
    assert dump_dom(Path(result["report"]).as_uri()).dom.count("data:image/png") == 3
    counts = {key: len(found) for key, found in artifacts_as_the_page_has_them(prefect_url, out).items()}
    assert counts == {
        "transfer-benchmark": 2,
        "transfer-benchmark-sizes": 4,
        "transfer-benchmark-break-even": 0,
        "transfer-benchmark-small-files": 2,
        "transfer-benchmark-shards": 0,
        "transfer-benchmark-streams": 4,
        "transfer-benchmark-costs": 2,
        "transfer-benchmark-trend": 4,
        "transfer-benchmark-failures": 0,
    }
    assert [len(read_trials(path)) for path in sorted((out / "rounds").iterdir())] == [16, 16]


def test_finished_trials_are_not_measured_again_and_a_failed_one_is_told(sites: Path, prefect_url: str) -> None:
    small = ("--protocols", "sftp", "--sizes", "10kB", "--small-files", "0", "--streams", "1", "--repeats", "1")
    assert measured(sites, prefect_url, *small).code == ExitCode.DONE
    out = sites.parent / "out"
    (kept,) = (out / "rounds").iterdir()
    lines = kept.read_text().splitlines(keepends=True)
    kept.unlink()
    (out / "trials.jsonl").write_text("".join(lines[:2]) + lines[2][:40])  # killed in the middle of a line
    (sites.parent / "site-a").rmdir()
    (sites.parent / "site-a").write_text("a file where the root should be")
    broken = measured(sites, prefect_url, *small)
    assert broken.code == ExitCode.PARTIAL
    (kept,) = (out / "rounds").iterdir()
    assert [trial.error is None for trial in read_trials(kept)] == [True, True, False, False]
    assert "What failed" in (out / "transfer-benchmark.html").read_text()

    kept.rename(out / "trials.jsonl")  # as if it had been interrupted after these failures
    (sites.parent / "site-a").unlink()
    mended = measured(sites, prefect_url, *small)
    assert mended.code == ExitCode.DONE, mended.errors
    (kept,) = (out / "rounds").iterdir()
    assert [trial.error is None for trial in read_trials(kept)] == [True, True, False, False, True, True]


def test_what_a_killed_benchmark_left_at_the_sites_is_taken_away_by_the_next_one(sites: Path, prefect_url: str) -> None:
    small = ("--protocols", "sftp", "--sizes", "10kB", "--small-files", "0", "--streams", "1", "--repeats", "1")
    out, ends = sites.parent / "out", [sites.parent / name for name in ("site-a", "site-b")]
    places = ("-o", out, "-w", sites.parent / "ws", "--sites-folder", sites)
    run = subprocess.Popen(
        [CAMNET, "benchmark", "transfer", "--sites", "site-a,site-b", *places, *small, "--sizes", "1GB"],
        env={**os.environ, "PREFECT_API_URL": prefect_url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: any(path.is_file() for end in ends for path in end.rglob("*.camnet-part")), 60)
    run.kill()
    run.wait()
    left = [path for end in ends for path in end.rglob("*") if path.is_file()]
    assert {path.suffix for path in left} == {".bin", ".camnet-part"}
    assert measured(sites, prefect_url, *small).code == ExitCode.DONE
    assert [list(end.iterdir()) for end in ends] == [[], []]
    assert list((out / "under-way").iterdir()) == []


def test_an_interruption_is_no_failure_also_where_the_site_went_away_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loopback_sshd(tmp_path / "sshd") as server:

        def interrupted(*_: object, **__: object) -> None:
            os.kill(server.pid, signal.SIGTERM)
            raise KeyboardInterrupt

        monkeypatch.setattr(trial, "measure", interrupted)
        here = Endpoint(site="a", root=str(tmp_path / "a"))
        there = Endpoint(site="b", root=str(tmp_path / "b"), ssh=account_of(server))
        cell = Cell(kind="size", source="a", destination="b", protocol="sftp", file_bytes=10, streams=1)
        options, ledger, notes = TransferOptions(), Ledger(tmp_path / "ledger"), tmp_path / "notes"
        with pytest.raises(KeyboardInterrupt):
            trial.run_trial(cell, 1, here, there, options=options, ledger=ledger, notes=notes)
    assert len(list(notes.iterdir())) == 1, "the next benchmark takes away what stays"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--sizes", "1MiB"), "is no size"),
        (("--protocols", "carrier-pigeon"), "no mover is called"),
        (("--protocols", "local"), "is no folder of this machine"),
        (("--streams", "0"), "each must be 1 to 32"),
        (("--sites", "site-a"), "--sites names 1, at least 2 are needed"),
        (("--sites", "site-a,site-x"), "no site is called 'site-x'"),
    ],
)
def test_wrong_options_are_the_users_mistake(
    sites: Path, prefect_url: str, options: tuple[str, ...], said: str
) -> None:
    done = measured(sites, prefect_url, "--small-files", "0", *options)
    assert done.code == ExitCode.USAGE
    assert said in done.errors


def put_shards(folder: Path, site: str) -> Path:
    """Write two files as shards of a run, and what else its manifest names."""
    (folder / "patches").mkdir(parents=True)
    files: list[tuple[str, Kind]] = [("patches/a.h5", "patches"), ("patches/b.h5", "patches"), ("counts.json", "log")]
    for number, (path, _) in enumerate(files, start=1):
        (folder / path).write_bytes(os.urandom(10_000 * number))
    manifest = manifest_of(folder, [(path, kind, None, None) for path, kind in files], run="r", site=site)
    write_manifest(folder / "manifest.json", manifest)
    return folder / "manifest.json"


def test_a_runs_own_shards_are_moved_and_stay_where_they_are(sites: Path, prefect_url: str) -> None:
    manifest = put_shards(sites.parent / "site-a" / "runs" / "r", "site-a")
    before = sorted((sites.parent / "site-a").rglob("*"))
    small = ("--protocols", "streams", "--sizes", "10kB", "--small-files", "0", "--repeats", "1")
    done = measured(sites, prefect_url, *small, "--shards", str(manifest))
    assert done.code == ExitCode.DONE, done.errors
    assert "A run's own shards" in Path(json.loads(done.output)["report"]).read_text().replace("&#39;", "'")
    with (sites.parent / "out" / "trials.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "shards"]
    assert [(row["source"], row["destination"], row["files"], row["file_bytes"]) for row in rows] == [
        ("site-a", "site-b", "2", "15000")
    ] * 2
    assert sorted((sites.parent / "site-a").rglob("*")) == before
    assert list((sites.parent / "site-b").iterdir()) == []


def test_shards_that_may_not_leave_are_refused_before_anything_is_measured(sites: Path, prefect_url: str) -> None:
    with (sites / "site-b.toml").open("r+") as file:
        rest = file.read()
        file.seek(0)
        file.write(f'policy = "resident"\n{rest}')
    manifest = put_shards(sites.parent / "site-b" / "runs" / "r", "site-b")
    done = measured(sites, prefect_url, "--protocols", "streams", "--sizes", "10kB", "--shards", str(manifest))
    assert done.code == ExitCode.POLICY, done.errors
    assert "may not leave site-b for site-a" in done.errors
    assert not (sites.parent / "out" / "trials.jsonl").exists()


@pytest.mark.parametrize(
    ("at", "site", "words"),
    [
        ("site-a/runs/r", "site-c", "names files at site-c, which is none of the sites that are measured"),
        ("elsewhere", "site-a", "the root of site-a"),
    ],
)
def test_shards_that_are_not_at_a_measured_site_are_the_users_mistake(
    sites: Path, prefect_url: str, at: str, site: str, words: str
) -> None:
    manifest = put_shards(sites.parent / at, site)
    done = measured(sites, prefect_url, "--protocols", "streams", "--sizes", "10kB", "--shards", str(manifest))
    assert done.code == ExitCode.USAGE, done.errors
    assert words in " ".join(done.errors.split())

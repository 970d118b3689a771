"""Globus from outside: the login command, what the doctor says, and what a Prefect server gets to see."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.sites import Site, load_site
from flows.checkup import check_site
from flows.finding import Finding
from tests.services.camnet_cli import camnet
from tests.services.globus_route import client_login, globus_route, login_file
from tests.services.globus_service import GlobusService, HttpFault, globus_service
from tests.services.prefect_server import asked

MOVE = """
import sys
from pathlib import Path
from prefect import flow
from transfer.model import Batch, TransferOptions
from transfer.task import move_batch

@flow(name="globus")
def globus(batch: Batch, ledger: Path):
    return [outcome.state for outcome in move_batch(
        batch, protocol="globus", options=TransferOptions(attempts=1), ledger_path=ledger)]

print(globus(Batch.model_validate_json(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2])))
"""
CLIENT = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[GlobusService]:
    with globus_service() as service:
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        yield service


def write_site(folder: Path, collection: str, *, more: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "far.toml").write_text(
        f'name = "far"\nroot = "/far/camnet"\n[globus]\ncollection = "{collection}"\n'
        f'credentials = "globus.json"\nroot = "/data"\nonly = true\n{more}'
    )
    return folder


def test_a_person_logs_in(tmp_path: Path, service: GlobusService) -> None:
    service.auth.native_clients.add(CLIENT)
    collection = service.add_collection(tmp_path, mapped=True)
    (tmp_path / "data").mkdir()
    sites = write_site(tmp_path / "sites", collection)
    file = sites / "globus.json"
    command = [str(Path(sys.executable).with_name("camnet")), "globus", "login", str(file)]
    with subprocess.Popen(
        [*command, "--client-id", CLIENT, "--sites", str(sites)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stdin is not None
        told: list[str] = []
        while not told or not told[-1].startswith("http"):
            told.append(process.stderr.readline())
            assert told[-1], told
        with urllib.request.urlopen(told[-1].strip()) as answer:  # noqa: S310  # http, to our own service
            code = json.load(answer)["code"]
        process.stdin.write(f"{code}\n")
        process.stdin.close()
        rest = process.stderr.read()
        assert process.stdout is not None
        assert process.stdout.read().strip() == ""
        assert process.wait(30) == 0, rest
    assert "its owner alone can read it" in rest
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [word for word in service.auth.secrets if word in rest] == []
    found = {finding.what: finding for finding in check_site(load_site(sites / "far.toml", workspace=tmp_path))}
    assert found["far Globus collection"].good, found


def test_the_login_of_a_client_is_not_overwritten(tmp_path: Path, service: GlobusService) -> None:
    service.auth.native_clients.add(CLIENT)
    sites = write_site(tmp_path / "sites", service.add_collection(tmp_path))
    file = login_file(sites, {"kind": "client", "client_id": "a", "client_secret": "b"})
    before = file.read_bytes()
    done = camnet("globus", "login", file, "--client-id", CLIENT, "--sites", sites)
    assert (done.code, done.error["cause"]) == (2, "holds the login of a client")
    assert file.read_bytes() == before


@pytest.mark.parametrize("trouble", ["none", "a missing consent"])
def test_a_prefect_server_sees_the_transfer_and_no_secret(
    tmp_path: Path, service: GlobusService, prefect_url: str, trouble: str
) -> None:
    route = globus_route(tmp_path / "sites", service, "globus only")
    if trouble != "none":
        service.mapped.update(service.collections)
    route.put({"a.bin": b"abc"})
    (tmp_path / "batch.json").write_text(route.batch("a.bin").model_dump_json())
    server = {"PREFECT_API_URL": prefect_url}
    done = subprocess.run(
        [sys.executable, "-c", MOVE, tmp_path / "batch.json", route.ledger.path],
        capture_output=True,
        text=True,
        env={**os.environ, **server, "PREFECT_LOGGING_LEVEL": "DEBUG"},
        timeout=120,
        check=False,
    )
    assert ("['done']" in done.stdout) == (trouble == "none"), done.stderr
    assert ("asks for a consent" in done.stderr) == (trouble != "none")
    (run,) = asked(
        server, "flow_runs", {"limit": 1, "sort": "START_TIME_DESC", "flows": {"name": {"any_": ["globus"]}}}
    )
    of_run = {"flow_run_id": {"any_": [run["id"]]}}
    logs = asked(server, "logs", {"logs": of_run})
    tasks = asked(server, "task_runs", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    told = [json.dumps(one) for one in [run, *logs, *tasks, *asked(server, "artifacts", {"artifacts": of_run})]]
    assert str(route.source.globus and route.source.globus.credentials) in told[0]
    assert len(tasks) == 1
    assert logs
    assert [
        word for word in service.auth.secrets if any(word in one for one in [*told, done.stdout, done.stderr])
    ] == []


def looked_at(site: Site) -> dict[str, Finding]:
    return {finding.what: finding for finding in check_site(site)}


def test_the_doctor_looks_at_login_and_collection(tmp_path: Path, service: GlobusService) -> None:
    (tmp_path / "data").mkdir()
    sites = write_site(tmp_path / "sites", service.add_collection(tmp_path), more='kind = "guest"\n')
    credentials = client_login(service, sites)
    site = load_site(sites / "far.toml", workspace=tmp_path)
    found = looked_at(site)
    assert {finding.good for finding in found.values()} == {True}
    assert set(found) == {"far Globus login", "far Globus collection"}  # its root is no folder of this machine
    assert "/data can be listed" in found["far Globus collection"].found

    (tmp_path / "data").rmdir()
    assert "not found" in looked_at(site)["far Globus collection"].found
    service.faults = [HttpFault("/v0.10/endpoint/", (503, "ServiceUnavailable"), times=1)]
    assert "cannot do it for now" in looked_at(site)["far Globus collection"].found
    service.collections.clear()
    assert "there is no such collection" in looked_at(site)["far Globus collection"].found
    service.auth.revoke_logins()
    assert "refuses the login" in looked_at(site)["far Globus collection"].found
    credentials.chmod(0o644)
    found = looked_at(site)
    assert set(found) == {"far Globus login"}
    assert not found["far Globus login"].good
    assert f"chmod 600 {credentials}" in found["far Globus login"].found
    credentials.unlink()
    assert "cannot be read" in looked_at(site)["far Globus login"].found

from __future__ import annotations

import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deployments.endpoints import SshEndpoint
from deployments.loopback_sshd import LoopbackSshd, loopback_sshd
from deployments.sites import DaskCluster, Site
from deployments.slurm_jobs import SlurmJobs
from flows.checkup import check_machine, check_site
from flows.finding import Finding
from tests.services.small_disk import needs_root, small_disk


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with loopback_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


def account(server: LoopbackSshd, **changes: object) -> SshEndpoint:
    facts = {name: getattr(server, name) for name in ("host", "port", "user", "key", "known_hosts")}
    return SshEndpoint.model_validate(facts | changes)


def looked_at(ssh: SshEndpoint, tmp_path: Path) -> dict[str, Finding]:
    findings = check_site(Site(name="far", root=tmp_path, ssh=ssh))
    return {finding.what: finding for finding in findings}


@contextmanager
def server_that_says(greeting: bytes) -> Iterator[int]:
    class Greeter(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(greeting)

    with socketserver.TCPServer(("127.0.0.1", 0), Greeter) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
def test_the_machine_is_looked_at_package_by_package() -> None:
    findings = {finding.what: finding for finding in check_machine()}
    assert findings["Python"].good
    for name in ("camnet", "prefect", "paramiko", "h5py"):
        assert re.match(r"\d+\.\d+", findings[name].found), name
    assert findings["horovod"].good, findings["horovod"].found
    assert "Gloo" in findings["horovod"].found


def test_a_site_here_shows_its_space_also_before_its_root_is_made(tmp_path: Path) -> None:
    root = tmp_path / "not" / "made" / "yet"
    (finding,) = check_site(Site(name="here", root=root))
    assert finding.what == "here root"
    assert re.fullmatch(rf"{re.escape(str(root))}: \d+ GB free", finding.found)
    assert not root.exists()


@needs_root
def test_a_site_without_room_is_not_good(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as folder:
        (finding,) = check_site(Site(name="here", root=folder / "root"))
    assert not finding.good
    assert "0 GB free" in finding.found


def test_a_site_over_ssh_is_good_when_key_host_key_and_server_are(sshd: LoopbackSshd, tmp_path: Path) -> None:
    found = looked_at(account(sshd), tmp_path)
    assert set(found) == {"far SSH key", "far host key", "far SSH"}
    assert all(finding.good for finding in found.values()), found
    assert "SSH-2.0-OpenSSH" in found["far SSH"].found


def test_a_key_that_others_can_read_or_that_is_missing_is_not_good(sshd: LoopbackSshd, tmp_path: Path) -> None:
    open_key = tmp_path / "key"
    open_key.write_bytes(sshd.key.read_bytes())
    open_key.chmod(0o640)
    finding = looked_at(account(sshd, key=open_key), tmp_path)["far SSH key"]
    assert not finding.good
    assert finding.found == f"{open_key} can be read by others: chmod 600"
    open_key.chmod(0o600)
    assert looked_at(account(sshd, key=open_key), tmp_path)["far SSH key"].good
    finding = looked_at(account(sshd, key=tmp_path / "none"), tmp_path)["far SSH key"]
    assert not finding.good
    assert finding.found == f"{tmp_path / 'none'} is not there"


def test_a_host_that_is_not_known_is_not_good(sshd: LoopbackSshd, tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text("")
    for known_hosts in (tmp_path / "known_hosts", tmp_path / "none"):
        finding = looked_at(account(sshd, known_hosts=known_hosts), tmp_path)["far host key"]
        assert not finding.good
        assert finding.found == f"[127.0.0.1]:{sshd.port} is not in {known_hosts}"


@pytest.mark.parametrize(
    ("greeting", "good"), [(b"SSH-2.0-x\r\n", True), (b"HTTP/1.1 400 Bad\r\n", False), (b"", False)]
)
def test_only_an_ssh_server_is_a_good_answer(sshd: LoopbackSshd, tmp_path: Path, greeting: bytes, good: bool) -> None:
    with server_that_says(greeting) as port:
        assert looked_at(account(sshd, port=port), tmp_path)["far SSH"].good is good


def test_a_port_where_nobody_listens_is_not_good(sshd: LoopbackSshd, tmp_path: Path) -> None:
    with server_that_says(b"") as port:
        pass
    finding = looked_at(account(sshd, port=port), tmp_path)["far SSH"]
    assert not finding.good
    assert f"127.0.0.1:{port} does not answer" in finding.found


@pytest.mark.parametrize("there", [True, False])
def test_a_slurm_site_needs_sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    if there:
        (tmp_path / "sbatch").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    jobs = SlurmJobs(walltime="1:00:00", memory_mib=2000)
    site = Site(name="here", root=tmp_path, dask=DaskCluster(cluster="slurm", slurm=jobs))
    findings = {finding.what: finding for finding in check_site(site)}
    assert findings["here Slurm"].good is there
    assert "sbatch" in findings["here Slurm"].found

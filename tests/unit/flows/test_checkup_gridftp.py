from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from deployments.endpoints import GridftpEndpoint
from deployments.loopback_sshd import loopback_sshd
from deployments.sites import Site
from flows.checkup import check_site
from tests.services.gridftp import ftp_server


def looked_at(folder: Path, **facts: object) -> dict[str, tuple[bool, str]]:
    site = Site(name="far", root=folder, gridftp=GridftpEndpoint.model_validate(facts))
    return {finding.what: (finding.good, finding.found) for finding in check_site(site)}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder where the tool looks for one."""
    home = tmp_path / "home"
    (home / ".globus").mkdir(parents=True)
    entry = pwd.getpwuid(os.getuid())
    monkeypatch.setattr(pwd, "getpwuid", lambda user: pwd.struct_passwd((*entry[:5], str(home), entry[6])))
    return home


def test_a_server_that_answers_is_good(tmp_path: Path) -> None:
    with ftp_server(tmp_path / "server") as server:
        found = looked_at(tmp_path, url=server.url, encrypted=False)
    assert found["far GridFTP client"][0]
    assert found["far GridFTP"][0]
    assert not looked_at(tmp_path, url=server.url)["far GridFTP"][0]


def test_an_own_script_that_takes_no_settings_is_told(tmp_path: Path, home: Path) -> None:
    with loopback_sshd(tmp_path / "sshd") as sshd:
        url = f"sshftp://127.0.0.1:{sshd.port}"
        found = looked_at(tmp_path, url=url)
        assert found["far GridFTP"][0]
        assert found["far GridFTP over SSH"] == (True, "/usr/share/globus/gridftp-ssh")
        own = home / ".globus" / "gridftp-ssh"
        own.write_text("#!/bin/sh\nexec ssh -p $3 $2 sshftp\n")
        good, words = looked_at(tmp_path, url=url)["far GridFTP over SSH"]
        assert not good
        assert "hides" in words
        own.write_text('#!/bin/sh\nexec ssh -v -p "$3" "$2" $GLOBUS_REMOTE_SSHFTP\n')
        assert looked_at(tmp_path, url=url)["far GridFTP over SSH"] == (True, f"{own} is used")


def test_a_proxy_that_others_can_read_is_told(tmp_path: Path) -> None:
    proxy = tmp_path / "proxy"
    url = "gsiftp://127.0.0.1:1"
    assert "is not there" in looked_at(tmp_path, url=url, proxy=proxy)["far proxy certificate"][1]
    proxy.touch(mode=0o644)
    assert looked_at(tmp_path, url=url, proxy=proxy)["far proxy certificate"] == (
        False,
        f"{proxy} can be read by others",
    )
    proxy.chmod(0o600)
    assert looked_at(tmp_path, url=url, proxy=proxy)["far proxy certificate"] == (True, str(proxy))

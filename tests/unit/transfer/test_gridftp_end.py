from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deployments.loopback_sshd import loopback_sshd
from tasks.errors import InputError, PermanentFault, RetryableFault
from tests.services.sshd_route import QUICK, account_of, route_of
from transfer.gridftp_end import GridftpEnd
from transfer.gridftp_fault import gridftp_fault
from transfer.model import Endpoint, SshAccount
from transfer.servers import GridftpServer

ACCOUNT = SshAccount(host="login", user="me", key=Path("/key"), known_hosts=Path("/known"))


def end_at(url: str, **facts: object) -> GridftpEnd:
    server = GridftpServer.model_validate({"url": url, "encrypted": not url.startswith("ftp:"), **facts})
    return GridftpEnd(Endpoint(site="far", root="/data", ssh=ACCOUNT, gridftp=server), "camnet-source")


@pytest.mark.parametrize(
    ("url", "path", "full"),
    [
        ("sshftp://node", "a b.h5", "sshftp://camnet-source:22/data/a%20b.h5"),
        ("sshftp://node:2222", "x/%41#?", "sshftp://camnet-source:2222/data/x/%2541%23%3F"),
        ("gsiftp://node", "切", "gsiftp://node:2811/data/%E5%88%87"),
        ("ftp://[::1]:5000", "-a", "ftp://[::1]:5000/data/-a"),
    ],
)
def test_urls_name_every_path(url: str, path: str, full: str) -> None:
    assert end_at(url).url(path) == full


def test_the_server_may_see_another_root_and_host() -> None:
    end = end_at("sshftp://node:2222", root="/gridftp/")
    assert end.url("a") == "sshftp://camnet-source:2222/gridftp/a"
    assert end.account == ACCOUNT.model_copy(update={"host": "node", "port": 2222})


def test_clear_control_connections_cannot_name_all_files() -> None:
    assert end_at("sshftp://node").can_name("plain (1) ~.h5")
    for path in ("æ", "new\nline", "carriage\rDELE x", "\x01"):
        assert not end_at("sshftp://node").can_name(path)
        assert not end_at("ftp://node").can_name(path)
    assert end_at("gsiftp://node").can_name("æ")
    assert not end_at("gsiftp://node").can_name("new\nline")


def test_a_program_with_signs_of_the_shell_is_no_program() -> None:
    with pytest.raises(ValueError, match="pattern"):
        GridftpServer(url="sshftp://node", server="sshftp; reboot")


def test_what_starts_the_server_takes_what_the_account_has_set_up(tmp_path: Path) -> None:
    own = tmp_path / ".globus" / "sshftp"
    own.parent.mkdir()
    own.write_text('#!/bin/sh\necho "mine, authorities in $X509_CERT_DIR"\n')
    own.chmod(0o755)
    command = end_at("sshftp://node").start_command
    started = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env={"HOME": str(tmp_path), "X509_CERT_DIR": "/x"}, capture_output=True
    )
    assert started.stdout == b"mine, authorities in /x\n"


def test_without_anything_set_up_the_server_itself_is_started(tmp_path: Path) -> None:
    with loopback_sshd(tmp_path / "sshd") as sshd:
        account = account_of(sshd)
        server = GridftpServer(url=f"sshftp://{account.host}:{account.port}")
        route = route_of(tmp_path / "sites", "gridftp push", account, servers={"push": server})
        route.put({"a.bin": b"a"})
        batch = route.batch("a.bin")
        if sshd.user == "root":
            with pytest.raises(InputError, match="the server refuses the login"):  # it wants to be told to serve root
                route.move(batch, QUICK)
        else:
            assert route.move(batch, QUICK)[0].state == "done"


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("500-globus_xio: A system call failed: No space left on device", PermanentFault, "free some space"),
        ("500-open error: Permission denied", PermanentFault, "give the account write permission"),
        ("500-Disk quota exceeded", PermanentFault, "ask for more quota"),
        ("500-File too large", PermanentFault, "ulimit -f"),
        ("500 There is no globus-gridftp-server here.", InputError, "install globus-gridftp-server"),
        ("error: SSH client script not installed", InputError, "gridftp-ssh"),
        ("globus_xio: An end of file occurred", RetryableFault, "run the same command again"),
        ("", RetryableFault, "run the same command again"),
    ],
)
def test_what_the_tool_says_gets_a_remedy(said: str, kind: type[Exception], words: str) -> None:
    fault = gridftp_fault(1, said, "", [end_at("gsiftp://node")])
    assert isinstance(fault, kind)
    assert words in str(fault.remedy)
    assert "gsiftp://node:2811" in str(fault)

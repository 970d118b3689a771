from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from deployments.loopback_sshd import loopback_sshd
from tasks.errors import InputError


def test_the_server_is_there_in_the_block_and_gone_after_it(tmp_path: Path) -> None:
    with loopback_sshd(tmp_path / "with space %h") as server:
        with socket.create_connection((server.host, server.port), timeout=5) as connection:
            assert connection.recv(8).startswith(b"SSH-2.0")
        assert server.known_hosts.read_text().startswith(f"[127.0.0.1]:{server.port} ssh-ed25519 ")
        assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(server.key.stat().st_mode) == 0o600
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.host, server.port), timeout=5)
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


HOLDER = """
import sys, time
from pathlib import Path
from deployments.loopback_sshd import loopback_sshd

with loopback_sshd(Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
    time.sleep(600)
"""


def test_the_server_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        server = psutil.Process(int(holder.stdout.readline()))
        assert server.is_running()
        holder.kill()
    server.wait(timeout=30)
    assert not server.is_running()


def test_a_setting_that_sshd_does_not_know_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="NoSuchSetting"), loopback_sshd(tmp_path, settings=["NoSuchSetting yes"]):
        pass


def test_a_missing_server_is_the_users_to_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("deployments.loopback_sshd._SBIN", str(tmp_path))
    with pytest.raises(InputError, match="sshd is not installed") as error, loopback_sshd(tmp_path / "x"):
        pass
    assert "openssh-server" in str(error.value.remedy)

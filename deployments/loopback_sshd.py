"""A private SSH server on this machine: a second site for demonstrations and tests."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deployments.process_group import start_group, stop_group
from tasks.errors import InputError, RetryableFault

_SBIN = "/usr/sbin:/sbin:/usr/local/sbin:/opt/homebrew/sbin"
_SFTP_FOLDERS = "/usr/lib/openssh:/usr/libexec/openssh:/usr/lib/ssh:/usr/libexec:/usr/lib/misc:/opt/homebrew/libexec"
_REMEDY = "install the OpenSSH server (package openssh-server)"
_START_S = 15.0
_TRIES = 5


@dataclass(frozen=True)
class LoopbackSshd:
    """How the server is reached.

    Attributes
    ----------
    key
        Private key that the account accepts.
    known_hosts
        File with the host key of the server.
    folder
        Where all its files lie, the log (``sshd.log``) among them.
    pid
        Process of the listening server.
    """

    host: str
    port: int
    user: str
    key: Path
    known_hosts: Path
    folder: Path
    pid: int


@contextmanager
def loopback_sshd(folder: Path, *, settings: Sequence[str] = ()) -> Iterator[LoopbackSshd]:
    """Run an SSH server on 127.0.0.1 at a free port, as the current user, for as long as the block lasts.

    Nothing of the machine's own SSH set-up is used or changed: host key, client key, authorized_keys,
    known_hosts, configuration and log all lie in `folder`.

    Parameters
    ----------
    settings
        Further lines of sshd_config.

    Raises
    ------
    InputError
        The OpenSSH server is not installed, or refuses its configuration.
    RetryableFault
        It does not answer.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    sshd, sftp_server = _binary("sshd", _SBIN), _binary("sftp-server", _SFTP_FOLDERS)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # privilege separation wants it, and containers lack it
    for name in ("host_key", "client_key"):
        _make_key(folder / name)
    (folder / "authorized_keys").write_text((folder / "client_key.pub").read_text())
    process, port = _started(sshd, sftp_server, folder, settings)
    try:
        host_key = " ".join((folder / "host_key.pub").read_text().split()[:2])
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
        yield LoopbackSshd(
            host="127.0.0.1",
            port=port,
            user=getpass.getuser(),
            key=folder / "client_key",
            known_hosts=folder / "known_hosts",
            folder=folder,
            pid=process.pid,
        )
    finally:
        stop_group(process)


def _started(sshd: str, sftp_server: str, folder: Path, settings: Sequence[str]) -> tuple[subprocess.Popen[bytes], int]:
    for _ in range(_TRIES):
        port = _free_port()
        config = folder / "sshd_config"
        config.write_text("\n".join([*_settings(folder, port, sftp_server), *settings, ""]))
        log = folder / "sshd.log"
        process = start_group([sshd, "-D", "-f", str(config), "-E", str(log)], subprocess.DEVNULL)
        try:
            if _answers(process, port):
                return process, port
        except BaseException:  # Ctrl-C too: no server may stay behind
            stop_group(process)
            raise
        stop_group(process)
        said = log.read_text(errors="replace") if log.exists() else ""
        if "Address already in use" not in said:
            break
    raise InputError(f"ended at once and said: {said.strip()[-500:] or 'nothing'}", subject=sshd, remedy=_REMEDY)


def _settings(folder: Path, port: int, sftp_server: str) -> list[str]:
    quoted = str(folder).replace("%", "%%")
    return [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f'HostKey "{folder}/host_key"',
        f'AuthorizedKeysFile "{quoted}/authorized_keys"',
        "PidFile none",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin prohibit-password",
        "UseDNS no",
        "MaxStartups 200",
        "MaxSessions 200",
        f"Subsystem sftp {sftp_server}",
    ]


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait for the server's greeting; False when the process ended instead."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                if connection.recv(4) == b"SSH-":
                    return True
        except OSError:
            time.sleep(0.02)  # not listening yet
    raise RetryableFault(f"does not answer on port {port} within {_START_S:g} s", subject="sshd")


def _make_key(path: Path) -> None:
    if path.exists():
        return
    command = [_binary("ssh-keygen", ""), "-q", "-t", "ed25519", "-N", "", "-C", "camnet", "-f", str(path)]
    made = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if made.returncode:
        raise InputError(f"no key could be made: {made.stderr.decode(errors='replace').strip()}", subject=path)


def _binary(name: str, folders: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=folders)
    if not found:
        raise InputError(f"the program {name} is not installed", remedy=_REMEDY)
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

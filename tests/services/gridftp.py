"""GridFTP servers on this machine."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from transfer.model import SshAccount
from transfer.servers import GridftpServer

PROGRAM = "/usr/sbin/globus-gridftp-server"
_ANONYMOUS_ROOT = ("-aa", "-anonymous-user", "root", "-auth-level", "0")
_AS_ROOT = ("-allow-root", "-allow-disabled-login")
_START_S = 15.0


@contextmanager
def gridftp_servers(folder: Path, account: SshAccount) -> Iterator[dict[str, GridftpServer]]:
    """One server of each kind, by the way that is to be tested over it."""
    with ftp_server(folder / "ftp") as ftp, gsiftp_server(folder / "gsiftp", make_grid(folder / "grid")) as gsiftp:
        yield {"push": sshftp_server(account), "pull": gsiftp, "third-party": ftp}


def sshftp_server(account: SshAccount, *, encrypted: bool = True) -> GridftpServer:
    """A server that the account starts; everything of it lies beside the account's key."""
    program = account.key.parent / "sshftp"
    if not program.exists():
        as_root = (*_AS_ROOT, *_ANONYMOUS_ROOT) if os.geteuid() == 0 else ()
        command = " ".join(["exec", PROGRAM, "-ssh", *as_root])
        program.write_text(f"#!/bin/sh\nexport X509_CERT_DIR=/\n{command}\n")
        program.chmod(0o755)
    return GridftpServer(url=f"sshftp://{account.host}:{account.port}", server=str(program), encrypted=encrypted)


@contextmanager
def ftp_server(folder: Path) -> Iterator[GridftpServer]:
    """A server that asks nobody who he is."""
    options = (*_AS_ROOT, *_ANONYMOUS_ROOT) if os.geteuid() == 0 else ("-aa",)
    with _listening(folder, options, {}) as port:
        yield GridftpServer(url=f"ftp://127.0.0.1:{port}", encrypted=False)


@contextmanager
def gsiftp_server(folder: Path, grid: Grid, *, encrypted: bool = True) -> Iterator[GridftpServer]:
    """A server with a certificate of `grid`, that knows its user."""
    gridmap = grid.folder / "gridmap"
    gridmap.write_text(f'"/O=CamNet tests/CN=somebody" {getpass.getuser()}\n')
    environment = {
        "X509_CERT_DIR": str(grid.authorities),
        "X509_USER_CERT": str(grid.folder / "host.pem"),
        "X509_USER_KEY": str(grid.folder / "host.key"),
        "GRIDMAP": str(gridmap),
    }
    with _listening(folder, _AS_ROOT if os.geteuid() == 0 else (), environment) as port:
        yield GridftpServer(
            url=f"gsiftp://localhost:{port}", encrypted=encrypted, proxy=grid.proxy, certificates=grid.authorities
        )


@dataclass(frozen=True)
class Grid:
    """A certificate authority of our own, with a host and a user.

    Attributes
    ----------
    authorities
        Folder that holds the authority as the tools want it.
    proxy
        Certificate and key of the user.
    expired
        The same, no longer valid.
    """

    folder: Path
    authorities: Path
    proxy: Path
    expired: Path


def make_grid(folder: Path) -> Grid:
    """Make authority, host and user with openssl."""
    folder.mkdir(parents=True)
    grid = Grid(folder, folder / "authorities", folder / "proxy", folder / "expired")
    grid.authorities.mkdir()
    _openssl(folder, "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.pem", "/O=CamNet tests/CN=CA")
    (folder / "host.ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    (folder / "user.ext").write_text("keyUsage=digitalSignature,keyEncipherment\n")
    for name, subject in (("host", "localhost"), ("user", "somebody")):
        request = f"req -new -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr"
        _openssl(folder, request, f"/O=CamNet tests/CN={subject}")
        for days, out in ((2, name), (-1, f"{name}-expired")):
            _openssl(
                folder,
                f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {days} -extfile {name}.ext "
                f"-out {out}.pem",
            )
    digest = _openssl(folder, "x509 -in ca.pem -noout -subject_hash").strip()
    (grid.authorities / f"{digest}.0").write_text((folder / "ca.pem").read_text())
    (grid.authorities / f"{digest}.signing_policy").write_text(
        "access_id_CA X509 '/O=CamNet tests/CN=CA'\npos_rights globus CA:sign\ncond_subjects globus '\"*\"'\n"
    )
    for proxy, certificate in ((grid.proxy, "user.pem"), (grid.expired, "user-expired.pem")):
        proxy.touch(mode=0o600)
        proxy.write_text((folder / certificate).read_text() + (folder / "user.key").read_text())
    (folder / "host.key").chmod(0o600)
    return grid


def _openssl(folder: Path, command: str, subject: str | None = None) -> str:
    arguments = ["openssl", *command.split(), *(["-subj", subject] if subject else [])]
    return subprocess.run(arguments, cwd=folder, check=True, capture_output=True, text=True).stdout


@contextmanager
def _listening(folder: Path, options: Sequence[str], environment: Mapping[str, str]) -> Iterator[int]:
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with (folder / "gridftp.log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM, "-p", str(port), "-control-interface", "127.0.0.1", "-data-interface", "127.0.0.1", *options],
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _await(process, port, folder / "gridftp.log")
        yield port
    finally:
        process.terminate()
        process.wait(timeout=10)


def _await(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline_s = time.monotonic() + _START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                if connection.recv(3) == b"220":
                    return
        except OSError:
            time.sleep(0.05)  # not listening yet
    raise AssertionError(f"{PROGRAM} does not answer: {log.read_text()}")

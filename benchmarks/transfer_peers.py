"""What `benchmarks/transfer.py` measures: CamNet's movers, and the tools that people use, each on the same files."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import paramiko

from tests.services.gridftp import PROGRAM as GRIDFTP_SERVER
from tests.services.gridftp import sshftp_server
from transfer.gridftp_end import GridftpEnd
from transfer.ledger import Ledger
from transfer.manifest import Entry, manifest_of
from transfer.model import Batch, Endpoint, SshAccount, TransferOptions
from transfer.mover import open_mover
from transfer.openssh import ssh_arguments, write_ssh_config
from transfer.servers import FdtTool, GridftpServer

_TIMEOUT_S = 30.0
_FDT_JAR = os.environ.get("CAMNET_FDT_JAR")
DATA_PORTS = (20000, 29999)
_BESIDE_SSH = ("CamNet streams, TLS", "CamNet gridftp", "CamNet fdt", "GridFTP", "FDT")
_ASYNCSSH = """
import asyncio, asyncssh, sys
host, port, user, key, known_hosts, source, target = sys.argv[1:]
async def put():
    async with asyncssh.connect(host, int(port), username=user, client_keys=[key], known_hosts=known_hosts,
                                encryption_algs=["aes128-gcm@openssh.com"]) as connection:
        async with connection.start_sftp_client() as sftp:
            await sftp.put(source + "/files", target, recurse=True)
asyncio.run(put())
"""


@dataclass(frozen=True)
class Place:
    """Where the files are (``here/files``) and where they go (``there/files``), and how.

    Attributes
    ----------
    entries
        Of the manifest, which is there before the clock starts: the stage that writes files makes it.
    here_address
        That of this end, which GridFTP tells the other one.
    ftp
        An anonymous GridFTP server at the other side, where one runs.
    """

    here: Path
    there: Path
    account: SshAccount
    state: Path
    streams: int
    entries: tuple[Entry, ...]
    here_address: str = "127.0.0.1"
    ftp: GridftpServer | None = None

    @property
    def target(self) -> str:
        """User and host, as programs take them."""
        return f"{self.account.user}@{self.account.host}"


Method = Callable[[Place], None]


def methods(protocols: Sequence[str], *, anonymous: bool, relayed: bool) -> tuple[dict[str, Method], dict[str, str]]:
    """Give what is measured, by name, and what is not, with the reason.

    Parameters
    ----------
    relayed
        Only the account's SSH port is far away, so that methods with data ports of their own are left out.
    """
    found: dict[str, Method] = {}
    for protocol in protocols:
        found[f"CamNet {protocol}"] = partial(_mover, protocol)
        if protocol == "streams":
            found["CamNet streams, TLS"] = _streams_over_tls
    missing: dict[str, str] = {}
    peers: dict[str, tuple[Method, str | None]] = {
        "scp": (_scp, _program("scp")),
        "scp, its own ciphers": (partial(_scp, ours=False), _program("scp")),
        "scp, sha256sum": (partial(_verified, _scp), _program("scp")),
        "tar, sha256sum": (partial(_verified, _tar), _program("tar")),
        "rsync -W": (_rsync, _program("rsync")),
        "tar | ssh tar": (_tar, _program("tar")),
        "rclone": (_rclone, _program("rclone")),
        "paramiko put": (_paramiko, None),
        "asyncssh put": (_asyncssh, None if importlib.util.find_spec("asyncssh") else "is not installed (PyPI)"),
        "GridFTP, SSH, clear": (partial(_gridftp_over_ssh, encrypted=False), _gridftp_tools()),
        "GridFTP, SSH": (partial(_gridftp_over_ssh, encrypted=True), _gridftp_tools()),
        "GridFTP, anonymous": (_gridftp_anonymous, _gridftp_tools() if anonymous else "runs on loopback only"),
        "FDT": (_fdt, None if _FDT_JAR else "CAMNET_FDT_JAR names no jar"),
    }
    for name, (method, reason) in peers.items():
        if reason is None:
            found[name] = method
        else:
            missing[name] = reason
    for name in [name for name in found if relayed and name.startswith(_BESIDE_SSH)]:
        missing[name] = "its data would not go through the relay"
        del found[name]
    return found, missing


def entries_of(folder: Path) -> tuple[Entry, ...]:
    """Make the entries of a manifest of what lies in ``folder/files``."""
    paths = sorted(path.relative_to(folder).as_posix() for path in (folder / "files").iterdir())
    return manifest_of(folder, [(path, "log", None, None) for path in paths], run="b", site="here").entries


def versions() -> str:
    """Versions of CamNet and of the peers that are here."""
    told = [f"{name} {importlib.metadata.version(name)}" for name in ("camnet", "paramiko", "cryptography")]
    if importlib.util.find_spec("asyncssh"):
        told.append(f"asyncssh {importlib.metadata.version('asyncssh')}")
    for command in (["ssh", "-V"], ["rsync", "--version"], ["rclone", "version"], ["globus-url-copy", "-version"]):
        if shutil.which(command[0]):
            said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True)
            told.append(" ".join(said.stdout.split("\n", 1)[0].split()[:4]).strip(","))
    return ", ".join(told)


def _program(name: str) -> str | None:
    return None if shutil.which(name) else "is not installed"


def _gridftp_tools() -> str | None:
    here = shutil.which("globus-url-copy") and Path(GRIDFTP_SERVER).exists()
    return None if here else "globus-url-copy or globus-gridftp-server is not installed"


def _mover(protocol: str, place: Place, *, jar: Path | None = None) -> None:
    fdt = FdtTool(jar=jar) if jar else None
    source = Endpoint(site="here", root=str(place.here), fdt=fdt)
    destination = Endpoint(site="there", root=str(place.there), ssh=place.account, fdt=fdt)
    ledger, options = Ledger(place.state / "ledger.jsonl"), TransferOptions(streams=place.streams)
    batch = Batch(run="b", source=source, destination=destination, entries=place.entries)
    outcomes = open_mover(protocol, source, destination, options, ledger).move(batch)
    bad = [outcome for outcome in outcomes if outcome.state != "done"]
    if bad:
        raise RuntimeError(f"{protocol}: {bad[0].error}")


def _streams_over_tls(place: Place) -> None:
    open_ports = place.account.model_copy(update={"data_ports": DATA_PORTS})
    _mover("streams", replace(place, account=open_ports))


def _fdt(place: Place) -> None:
    _mover("fdt", place, jar=Path(_FDT_JAR or ""))


def _scp(place: Place, *, ours: bool = True) -> None:
    options = ssh_arguments(place.account, timeout_s=_TIMEOUT_S)
    if not ours:  # OpenSSH would take ChaCha20; we name AES-GCM first
        ciphers = next(i for i, option in enumerate(options) if option.startswith("Ciphers="))
        del options[ciphers - 1 : ciphers + 1]
    subprocess.run(["scp", "-q", "-r", *options, place.here / "files", f"{place.target}:{place.there}/"], check=True)


def _rsync(place: Place) -> None:
    shell = " ".join(["ssh", *ssh_arguments(place.account, timeout_s=_TIMEOUT_S)])
    command = ["rsync", "-a", "-W", "-e", shell, place.here / "files", f"{place.target}:{place.there}/"]
    subprocess.run(command, check=True)


def _tar(place: Place) -> None:
    options = ssh_arguments(place.account, timeout_s=_TIMEOUT_S)
    pack = subprocess.Popen(["tar", "-C", place.here, "-cf", "-", "files"], stdout=subprocess.PIPE)
    command = ["ssh", *options, place.target, f"tar -C {place.there} -xf -"]
    subprocess.run(command, stdin=pack.stdout, check=True)
    pack.wait()


def _verified(method: Method, place: Place) -> None:
    """Move, and then do by hand what CamNet's movers do on the way: compare the digests at the destination."""
    method(place)
    lines = "".join(f"{entry.digest.removeprefix('sha256:')}  {entry.path}\n" for entry in place.entries)
    options = ssh_arguments(place.account, timeout_s=_TIMEOUT_S)
    command = ["ssh", *options, place.target, f"cd {place.there} && sha256sum --quiet --check -"]
    subprocess.run(command, input=lines, text=True, check=True)


def _rclone(place: Place) -> None:
    account = place.account
    remote = f":sftp,host={account.host},port={account.port},user={account.user},key_file={account.key},"
    remote += f"known_hosts_file={account.known_hosts},disable_hashcheck:{place.there}/files"
    command = ["rclone", "copy", "--transfers", "8", "--config", os.devnull, place.here / "files", remote]
    subprocess.run(command, check=True)


def _paramiko(place: Place) -> None:
    client = paramiko.SSHClient()
    client.load_host_keys(str(place.account.known_hosts))
    client.connect(place.account.host, place.account.port, place.account.user, key_filename=str(place.account.key))
    with client, client.open_sftp() as session:
        session.mkdir(f"{place.there}/files")
        for path in sorted((place.here / "files").iterdir()):
            session.put(str(path), f"{place.there}/files/{path.name}")


def _asyncssh(place: Place) -> None:
    account = place.account
    facts = [account.host, account.port, account.user, account.key, account.known_hosts, place.here, place.there]
    subprocess.run([sys.executable, "-c", _ASYNCSSH, *map(str, facts)], check=True)


def _gridftp_over_ssh(place: Place, *, encrypted: bool) -> None:
    server = sshftp_server(place.account, encrypted=encrypted)
    far = GridftpEnd(Endpoint(site="there", root=str(place.there), ssh=place.account, gridftp=server), "there")
    config, authorities = place.state / "ssh_config", place.state / "no-authorities"
    authorities.mkdir(parents=True, exist_ok=True)
    write_ssh_config(config, {"there": place.account}, timeout_s=_TIMEOUT_S, commands={"there": far.start_command})
    security = ["-data-cred", "auto", "-dcpriv"] if encrypted else ["-nodcau"]
    environment = {"X509_CERT_DIR": str(authorities), "GLOBUS_REMOTE_SSHFTP": f"-F {config}"}
    _globus_url_copy(place, security, far.url("files/"), environment)


def _gridftp_anonymous(place: Place) -> None:
    far = GridftpEnd(Endpoint(site="there", root=str(place.there), ssh=place.account, gridftp=place.ftp), "there")
    _globus_url_copy(place, [], far.url("files/"), {})


def _globus_url_copy(place: Place, security: list[str], target: str, environment: dict[str, str]) -> None:
    many = len(list((place.here / "files").iterdir())) > 1
    how = ["-fast", "-cc", "4"] if many else ["-p", str(place.streams)]
    command = ["globus-url-copy", "-cd", "-r", *how, *security, f"file://{place.here}/files/", target]
    address = {"GLOBUS_HOSTNAME": place.here_address}
    subprocess.run(command, check=True, env={**os.environ, **address, **environment}, stdout=subprocess.DEVNULL)

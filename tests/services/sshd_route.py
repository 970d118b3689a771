"""Two folders and the ways between them, for tests of movers."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deployments.loopback_sshd import LoopbackSshd
from tests.services.fdt_tool import stand_in
from transfer.ledger import Ledger
from transfer.manifest import Entry, Kind, manifest_of
from transfer.model import Batch, Endpoint, Features, Outcome, Policy, Progress, SshAccount, TransferOptions
from transfer.mover import open_mover
from transfer.servers import FdtTool, GridftpServer

FDT_JAR = os.environ.get("CAMNET_FDT_JAR")
STREAMS_WAYS = ("streams push", "streams pull", "streams relay", "tls push", "tls pull")
WAYS = (
    *("local", *STREAMS_WAYS, "sftp push", "sftp pull", "sftp relay"),
    *("scp push", "scp pull", "scp relay", "rsync push", "rsync pull", "fdt push", "fdt pull"),
    *("gridftp push", "gridftp pull", "gridftp third-party"),
    *(("fdt-jar push", "fdt-jar pull") if FDT_JAR else ()),
)
"""Protocol (``auto`` where none is named) and which of the two ends is reached over SSH.

``tls`` is the protocol streams where the account's host has ports open for data; ``fdt`` is a stand-in for the jar,
``fdt-jar`` the real one; for ``gridftp`` see `tests.services.gridftp.gridftp_servers`.
"""
CHUNK_BYTES = 64 << 10
QUICK = TransferOptions(streams=2, chunk_bytes=CHUNK_BYTES, attempts=3, stall_s=5.0, backoff_s=0.01)


def account_of(sshd: LoopbackSshd, *, port: int | None = None) -> SshAccount:
    """The server's account, through another port (of a proxy) when one is given."""
    known_hosts = sshd.known_hosts
    if port is not None:
        known_hosts = sshd.folder / f"known_hosts-{port}"
        known_hosts.write_text(sshd.known_hosts.read_text().replace(f"]:{sshd.port} ", f"]:{port} "))
    return SshAccount(host=sshd.host, port=port or sshd.port, user=sshd.user, key=sshd.key, known_hosts=known_hosts)


def random_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


@dataclass(frozen=True)
class Route:
    """A source folder, a destination folder and the endpoints that lead to them."""

    here: Path
    there: Path
    source: Endpoint
    destination: Endpoint
    ledger: Ledger
    protocol: str = "auto"

    def put(self, files: dict[str, bytes]) -> None:
        for path, content in files.items():
            (self.here / path).parent.mkdir(parents=True, exist_ok=True)
            (self.here / path).write_bytes(content)

    def batch(self, *paths: str, kind: Kind = "scores") -> Batch:
        manifest = manifest_of(self.here, [(path, kind, None, None) for path in paths], run="run-1", site="site-a")
        return self.batch_of(manifest.entries)

    def batch_of(self, entries: Iterable[Entry]) -> Batch:
        return Batch(run="run-1", source=self.source, destination=self.destination, entries=tuple(entries))

    def move(
        self, batch: Batch, options: TransferOptions = QUICK, progress: Progress = lambda path, arrived: None
    ) -> list[Outcome]:
        return open_mover(self.protocol, batch.source, batch.destination, options, self.ledger).move(batch, progress)

    @property
    def features(self) -> Features:
        return open_mover(self.protocol, self.source, self.destination, QUICK, self.ledger).features

    def digest_there(self, path: str) -> str:
        return "sha256:" + hashlib.sha256((self.there / path).read_bytes()).hexdigest()

    def litter(self) -> list[Path]:
        """Everything at the destination or in the journals that is no final file."""
        journals = self.ledger.path.parent / "journals"
        notes = [path for ending in ("*.journal", "*.globus-task") for path in journals.rglob(ending)]
        return [*self.there.rglob(".*.camnet-part"), *notes]


def route_of(
    folder: Path,
    way: str,
    account: SshAccount | None,
    *,
    policy: Policy = "open",
    servers: Mapping[str, GridftpServer] | None = None,
) -> Route:
    """Make two folders and the endpoints for one of `WAYS`; `servers` are the GridFTP servers by way."""
    here, there = folder / "here", folder / "there"
    here.mkdir(parents=True)
    there.mkdir()
    tool, _, way = way.rpartition(" ")
    fdt = FdtTool(jar=Path(FDT_JAR)) if FDT_JAR and tool == "fdt-jar" else stand_in(folder / "fdt tool")
    if tool == "tls" and account:
        account = account.model_copy(update={"data_ports": (20000, 29999)})
    source_ssh = account if way in ("pull", "relay", "third-party") else None
    destination_ssh = account if way in ("push", "relay", "third-party") else None
    gridftp = servers[way] if servers and tool == "gridftp" else None
    return Route(
        here,
        there,
        Endpoint(site="site-a", root=str(here), policy=policy, ssh=source_ssh, fdt=fdt, gridftp=gridftp),
        Endpoint(site="site-b", root=str(there), ssh=destination_ssh, fdt=fdt, gridftp=gridftp),
        Ledger(folder / "state" / "ledger.jsonl"),
        {"": "auto", "tls": "streams"}.get(tool, tool.partition("-")[0]),
    )

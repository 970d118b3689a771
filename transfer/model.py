"""What is moved, from where to where, and what came of it: frozen records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import Field

from tasks.artifacts import HostName, OneLine, Record, RelativePath, UserName
from tasks.errors import CamNetError, IntegrityError, PolicyRefusal, RetryableFault
from transfer.manifest import Entry
from transfer.servers import FdtTool, GlobusCollection, GridftpServer

Policy = Literal["open", "resident"]
FaultKind = Literal["retryable", "permanent", "integrity", "policy"]

Progress = Callable[[str, int], None]
"""Called with an entry's path and how many of its bytes are at the destination, by one thread at a time."""


class SshAccount(Record):
    """An SSH account that is reached with a key, at a host whose key is known.

    Attributes
    ----------
    data_ports
        First and last port that its host can be reached at beside SSH, for data; None: no other port.
    """

    host: HostName
    port: int = Field(22, ge=1, le=65535)
    user: UserName
    key: Path
    known_hosts: Path
    data_ports: tuple[int, int] | None = None


class Endpoint(Record):
    """One end of a transfer.

    Attributes
    ----------
    site
        Name of the site.
    root
        The site's root folder as the protocol sees it: a local path, or a path of the SSH account.
    policy
        ``resident``: what holds pixels may not leave the site; ``open``: everything may.
    ssh
        How the site is reached; None when its root is a folder of this machine, or it has a collection `only`.
    gridftp, globus, fdt
        What else it offers.
    """

    site: str
    root: OneLine
    policy: Policy = "open"
    ssh: SshAccount | None = None
    gridftp: GridftpServer | None = None
    globus: GlobusCollection | None = None
    fdt: FdtTool | None = None


class Batch(Record):
    """Files of one run that travel together.

    Attributes
    ----------
    source_folder, destination_folder
        Relative to the roots of the two ends, and what the entries' paths are relative to; None: the root itself.
    """

    run: str
    source: Endpoint
    destination: Endpoint
    entries: tuple[Entry, ...]
    source_folder: RelativePath | None = None
    destination_folder: RelativePath | None = None

    def source_path(self, entry: Entry) -> str:
        """Path of the entry below the source's root."""
        return _below(self.source_folder, entry.path)

    def destination_path(self, entry: Entry) -> str:
        """Path of the entry below the destination's root."""
        return _below(self.destination_folder, entry.path)


class Outcome(Record):
    """What came of one entry.

    ``done`` and ``already`` promise the same: the file lies under its final name with the manifest's size
    and digest, checked at the destination. After ``failed``, what was under the final name is untouched.
    """

    path: str
    state: Literal["done", "already", "failed"]
    kind: FaultKind | None = None
    error: str | None = None
    remedy: str | None = None


class Features(Record):
    """What a mover can do."""

    protocol: str
    parallel: bool = Field(description="one file can travel over several connections at once")
    resumes: bool = Field(description="goes on inside a file after the process died")
    encrypted: bool = Field(description="nobody on the way can read the bytes")
    reads_destination: bool = Field(True, description="finds out the digest of a file that it has not put there itself")


class TransferOptions(Record):
    """How a batch is moved."""

    streams: int = Field(4, ge=1, le=32, description="most parallel connections")
    chunk_bytes: int = Field(8 << 20, ge=1 << 10, le=1 << 30, description="what is acknowledged, and resumed, at once")
    attempts: int = Field(4, ge=1, le=100, description="tries a file while the fault is retryable")
    stall_s: float = Field(60.0, gt=0, description="no progress for this long breaks the connection")
    backoff_s: float = Field(1.0, ge=0, description="first pause between attempts; doubles each time")
    limit_mb_per_s: float | None = Field(None, gt=0, description="most 10^6 bytes a second over all streams")


def failed_outcome(path: str, fault: CamNetError) -> Outcome:
    """Describe an entry that could not be moved because of `fault`."""
    return Outcome(path=path, state="failed", kind=_kind(fault), error=str(fault), remedy=fault.remedy)


def _kind(fault: CamNetError) -> FaultKind:
    if isinstance(fault, RetryableFault):
        return "retryable"
    if isinstance(fault, IntegrityError):
        return "integrity"
    return "policy" if isinstance(fault, PolicyRefusal) else "permanent"


def _below(folder: str | None, path: str) -> str:
    return f"{folder}/{path}" if folder else path

"""How a site is reached by each protocol: tables of a site file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, field_validator

from tasks.artifacts import HostName, OneLine, Record, UserName

Port = Annotated[int, Field(ge=1, le=65535)]


class SshEndpoint(Record):
    """An SSH account at the site, reached with a key and a known host key."""

    host: HostName
    port: int = Field(22, ge=1, le=65535)
    user: UserName
    key: Path
    known_hosts: Path
    root: OneLine | None = Field(None, description="the site's root as this account sees it; default: the root itself")
    data_ports: tuple[Port, Port] | None = Field(
        None, description="first and last port that is open for data beside SSH, for the protocol streams"
    )

    @field_validator("data_ports")
    @classmethod
    def _is_a_range(cls, ports: tuple[int, int] | None) -> tuple[int, int] | None:
        if ports and ports[0] > ports[1]:
            raise ValueError("has its first port above the last")
        return ports


class GridftpEndpoint(Record):
    """A GridFTP server at the site."""

    url: str = Field(
        pattern=r"^(sshftp|gsiftp|ftp)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_][A-Za-z0-9_.-]*)(:[0-9]{1,5})?$",
        description="sshftp://HOST:22 (started over SSH), gsiftp://HOST:2811 (certificates) or ftp://HOST:2811 (none)",
    )
    root: OneLine | None = Field(None, description="the site's root as the server sees it; default: the root itself")
    server: str | None = Field(
        None, pattern=r"^[\w./~+-]+$", description="sshftp: program at the site that is started over SSH"
    )
    encrypted: bool = Field(True, description="whether the data connections are encrypted")
    proxy: Path | None = Field(None, description="gsiftp: the user's proxy certificate")
    certificates: Path | None = Field(None, description="gsiftp: folder of the trusted certificate authorities")


class GlobusEndpoint(Record):
    """A Globus collection of the site."""

    collection: UUID = Field(description="id of the collection")
    root: OneLine = Field("/", description="the site's root as a path of the collection")
    credentials: Path = Field(description="token or client file; only its owner may read it (mode 600)")
    kind: Literal["mapped", "guest"] = Field(
        "mapped", description="mapped collections ask for a consent of their own (data_access)"
    )
    only: bool = Field(False, description="no SSH account leads there, and the root is no folder of this machine")
    deadline_h: float = Field(72.0, gt=0, description="hours after which the service gives up a task to this site")


class FdtEndpoint(Record):
    """The Fast Data Transfer tool at the site."""

    jar: Path = Field(description="path of the jar at the site")
    java: OneLine = "java"
    port: int = Field(54321, ge=1024, le=65000, description="first port that its servers may listen at")
    ports: int = Field(20, ge=2, le=500, description="how many ports from there on; each transfer takes two")

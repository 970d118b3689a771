"""How a site is reached by each protocol: tables of a site file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from uuid import UUID

from pydantic import Field

from tasks.artifacts import Record


class SshEndpoint(Record):
    """An SSH account at the site, reached with a key and a known host key."""

    host: str
    port: int = Field(22, ge=1, le=65535)
    user: str
    key: Path
    known_hosts: Path
    root: str | None = Field(None, description="the site's root as this account sees it; default: the root itself")


class GridftpEndpoint(Record):
    """A GridFTP server at the site."""

    url: str = Field(
        pattern=r"^(sshftp|gsiftp|ftp)://[^/\s@]+$",
        description="sshftp://HOST:22 (started over SSH), gsiftp://HOST:2811 (certificates) or ftp://HOST:2811 (none)",
    )
    root: str | None = Field(None, description="the site's root as the server sees it; default: the root itself")
    server: str | None = Field(
        None, pattern=r"^[\w./~+-]+$", description="sshftp: program at the site that is started over SSH"
    )
    encrypted: bool = Field(True, description="whether the data connections are encrypted")
    proxy: Path | None = Field(None, description="gsiftp: the user's proxy certificate")
    certificates: Path | None = Field(None, description="gsiftp: folder of the trusted certificate authorities")


class GlobusEndpoint(Record):
    """A Globus collection of the site."""

    collection: UUID = Field(description="id of the collection")
    root: str = Field("/", description="the site's root as a path of the collection")
    credentials: Path = Field(description="token or client file; only its owner may read it (mode 600)")
    kind: Literal["mapped", "guest"] = "mapped"


class FdtEndpoint(Record):
    """The Fast Data Transfer tool at the site."""

    jar: Path = Field(description="path of the jar at the site")
    java: str = "java"
    port: int = Field(54321, ge=1024, le=65000, description="first port that its servers may listen at")
    ports: int = Field(20, ge=2, le=500, description="how many ports from there on; each transfer takes two")

"""What a site offers beside an SSH account: the records that a site file's tables become."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from uuid import UUID

from pydantic import Field

from tasks.artifacts import OneLine, Record


class GridftpServer(Record):
    """A GridFTP server.

    Attributes
    ----------
    url
        Scheme, host and port: ``sshftp://host:22`` (started over SSH), ``gsiftp://host:2811`` (certificates),
        ``ftp://host:2811`` (anonymous, inside a trusted network).
    root
        The site's root folder as the server sees it; None: as the endpoint says.
    server
        For ``sshftp``: program at the site that is started over SSH, where the site has neither set up
        ``sshftp`` nor ``globus-gridftp-server`` on its path.
    encrypted
        Whether the data connections are encrypted.
    proxy, certificates
        For ``gsiftp``: the user's proxy certificate, and the folder of trusted certificate authorities.
    """

    url: str = Field(pattern=r"^(sshftp|gsiftp|ftp)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_][A-Za-z0-9_.-]*)(:[0-9]{1,5})?$")
    root: OneLine | None = None
    server: str | None = Field(None, pattern=r"^[\w./~+-]+$")
    encrypted: bool = True
    proxy: Path | None = None
    certificates: Path | None = None


class GlobusCollection(Record):
    """A Globus collection.

    Attributes
    ----------
    collection
        Its id.
    root
        The site's root folder as a path of the collection.
    credentials
        Token or client file, readable by its owner alone.
    kind
        ``mapped`` collections ask for a consent of their own (data_access); guest collections do not.
    only
        The site is reached through its collection alone: it has no SSH account, and its root is no folder of
        this machine.
    deadline_h
        Hours after which the service gives up a task to this collection.
    """

    collection: UUID
    root: OneLine = "/"
    credentials: Path
    kind: Literal["mapped", "guest"] = "mapped"
    only: bool = False
    deadline_h: float = Field(72.0, gt=0)

    def full_path(self, path: str) -> str:
        """Give a path below the site's root as one of the collection."""
        return f"{self.root.rstrip('/')}/{path}"


class FdtTool(Record):
    """The Fast Data Transfer tool at a site.

    Attributes
    ----------
    jar
        At the site.
    port, ports
        First port, and how many from there on, that its servers may listen at; each takes two.
    """

    jar: Path
    java: OneLine = "java"
    port: int = Field(54321, ge=1024, le=65000)
    ports: int = Field(20, ge=2, le=500)

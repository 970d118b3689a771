"""One end of a GridFTP transfer, as ``globus-url-copy`` names it."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote, urlsplit

from tasks.errors import InputError
from transfer.model import Endpoint
from transfer.servers import GridftpServer

_PRINTABLE = range(32, 127)
_NOT_ASCII = range(128, 256)
_PORTS = {"sshftp": 22, "gsiftp": 2811, "ftp": 2811}
_START = (
    # DCSC wants a folder of authorities to be there, although it looks for none in it.
    'test -n "$X509_CERT_DIR" || test -d "$HOME/.globus/certificates" || test -d /etc/grid-security/certificates'
    " || export X509_CERT_DIR=/;"
    " for program in .globus/sshftp /etc/grid-security/sshftp; do test -x $program && exec $program; done;"
    " PATH=$PATH:/usr/sbin:/usr/local/sbin;"
    " command -v globus-gridftp-server >/dev/null && exec globus-gridftp-server -ssh;"
    ' printf "500 There is no globus-gridftp-server here.\\r\\n"'
)


class GridftpEnd:
    """A GridFTP server, or a folder of this machine.

    Parameters
    ----------
    name
        Under which the SSH configuration knows the account.

    Raises
    ------
    InputError
        The server cannot be used with what the site file says about it.
    """

    def __init__(self, end: Endpoint, name: str) -> None:
        self._site = end.site
        self.name = name
        self.server = _server(end)
        root = end.root if self.server is None else self.server.root or end.root
        self._root = str(Path(root).absolute()) if self.server is None else root
        if not self._root.startswith("/"):
            raise InputError(
                f"the root {self._root!r} is not absolute", subject=self._site, remedy="set root in its table [gridftp]"
            )
        url = urlsplit(self.server.url) if self.server else None
        self.scheme = url.scheme if url else "file"
        self.host = (url.hostname or "") if url else ""
        self.port = (url.port or _PORTS[self.scheme]) if url else 0
        account = end.ssh if self.scheme == "sshftp" else None
        self.account = account.model_copy(update={"host": self.host, "port": self.port}) if account else None

    @property
    def start_command(self) -> str:
        """What the account's shell runs to start the server."""
        program = self.server.server if self.server else None
        return f"exec {program}" if program else f"exec /bin/sh -c '{_START}'"

    def can_name(self, path: str) -> bool:
        """Whether the server reads the path as it is: over a clear control connection it drops what is not ASCII."""
        full = os.fsencode(f"{self._root}/{path}")
        wrapped = self.scheme == "gsiftp"
        return self.server is None or all(byte in _PRINTABLE or (wrapped and byte in _NOT_ASCII) for byte in full)

    def url(self, path: str) -> str:
        """URL of a path below the root; all but the plainest characters are escaped."""
        full = quote(os.fsencode(f"{self._root.rstrip('/')}/{path}"), safe="/")
        if self.server is None:
            return f"file://{full}"
        host = self.name if self.account else f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{full}"


def _server(end: Endpoint) -> GridftpServer | None:
    """Give the server that the end is reached by; a folder of this machine needs none."""
    return end.gridftp if end.ssh else None

"""GridFTP servers on this machine."""

from __future__ import annotations

import os

from transfer.model import SshAccount
from transfer.servers import GridftpServer

_AS_ROOT = "-allow-root -aa -anonymous-user root -auth-level 0"


def sshftp_server(account: SshAccount, *, encrypted: bool = True) -> GridftpServer:
    """A server that the account starts; everything of it lies beside the account's key."""
    program = account.key.parent / "sshftp"
    if not program.exists():
        as_root = _AS_ROOT if os.geteuid() == 0 else ""
        lines = ["#!/bin/sh", "export X509_CERT_DIR=/", f"exec /usr/sbin/globus-gridftp-server -ssh {as_root}", ""]
        program.write_text("\n".join(lines))
        program.chmod(0o755)
    return GridftpServer(url=f"sshftp://{account.host}:{account.port}", server=str(program), encrypted=encrypted)

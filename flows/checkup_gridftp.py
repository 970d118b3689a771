"""What ``camnet doctor`` looks at where a site has a GridFTP server."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import stat
from pathlib import Path
from urllib.parse import urlsplit

from deployments.endpoints import GridftpEndpoint
from flows.finding import Finding

_SCRIPT = Path("/usr/share/globus/gridftp-ssh")
_PORTS = {"sshftp": 22, "gsiftp": 2811, "ftp": 2811}


def check_gridftp(site: str, server: GridftpEndpoint) -> list[Finding]:
    """Look at the client programs, the proxy certificate and the server's port."""
    program = shutil.which("globus-url-copy")
    findings = [
        Finding(
            what=f"{site} GridFTP client",
            found=program or "globus-url-copy is not on this machine (package globus-gass-copy-progs)",
            good=program is not None,
        )
    ]
    if server.url.startswith("sshftp:"):
        findings.append(_script(site))
    if server.url.startswith("gsiftp:") and server.proxy:
        findings.append(_proxy(site, server.proxy))
    return [*findings, _answers(site, server.url)]


def _script(site: str) -> Finding:
    """Look which script starts ssh: one in the user's home goes before that of the package."""
    own = Path(pwd.getpwuid(os.getuid()).pw_dir) / ".globus" / "gridftp-ssh"
    what = f"{site} GridFTP over SSH"
    if own.exists():
        passes = "GLOBUS_REMOTE_SSHFTP" in own.read_text(errors="replace")
        found = f"{own} is used" if passes else f"{own} hides {_SCRIPT} and takes no $GLOBUS_REMOTE_SSHFTP: rename it"
        return Finding(what=what, found=found, good=passes)
    there = _SCRIPT.exists()
    return Finding(what=what, found=str(_SCRIPT) if there else f"{_SCRIPT} is not there", good=there)


def _proxy(site: str, proxy: Path) -> Finding:
    what = f"{site} proxy certificate"
    if not proxy.is_file():
        return Finding(what=what, found=f"{proxy} is not there (grid-proxy-init)", good=False)
    private = not proxy.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    return Finding(what=what, found=str(proxy) if private else f"{proxy} can be read by others", good=private)


def _answers(site: str, url: str) -> Finding:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    greeting = "SSH-" if parts.scheme == "sshftp" else "220"
    try:
        with socket.create_connection((host, port), timeout=5) as connection:
            said = connection.recv(80).decode(errors="replace").strip()
    except OSError as error:
        return Finding(what=f"{site} GridFTP", found=f"{host}:{port} does not answer ({error})", good=False)
    return Finding(what=f"{site} GridFTP", found=f"{host}:{port} answers {said!r}", good=said.startswith(greeting))

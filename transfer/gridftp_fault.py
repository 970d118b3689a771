"""What ``globus-url-copy`` and the ``ssh`` below it say when they fail, in our words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tasks.errors import CamNetError, InputError
from transfer.gridftp_end import GridftpEnd
from transfer.program import program_fault

_NEW_PROXY = "make a new proxy certificate (grid-proxy-init), and run the same command again"
_PASSING = r"end.of.file|connection (reset|refused|closed|timed out)|closed before connection|broken pipe"
_USERS = (
    (r"permission denied \(", "an account refuses the key", "name the right key in [ssh] of the site file"),
    (
        r"host key verification failed|no .* host key is known|remote host identification has changed",
        "the host key is not the known one",
        "compare it with what the site publishes; known_hosts must name the host and port of the GridFTP URL",
    ),
    (r"could not resolve hostname", "no such host is known", "check url in [gridftp] of the site file"),
    (
        r"there is no globus-gridftp-server here|not configured for sshftp",
        "the account has no GridFTP server to start",
        "install globus-gridftp-server there, or name it: server in [gridftp] of the site file",
    ),
    (
        r"ssh client script not installed",
        "globus-url-copy has no script to start ssh with",
        "install libglobus-ftp-client2 (the script is /usr/share/globus/gridftp-ssh)",
    ),
    (r"expired \d+ minutes ago|(certificate|credential)( has)? expired", "a certificate has expired", _NEW_PROXY),
    (
        r"untrusted|unknown ca|local trusted ca certificate|verify failed|trusted ca certificates directory",
        "a certificate is not of a trusted authority",
        "set certificates in [gridftp] to the folder with the site's authorities",
    ),
    (
        r"authorization denied|expected target subject",
        "the server shows another host's certificate",
        "write the host in url of [gridftp] as its certificate names it",
    ),
    (r"could(n't| not) (find|open|read) .*(proxy|credential)|no proxy", "there is no proxy certificate", _NEW_PROXY),
    (r"\b530\b", "the server refuses the login", "check that the server knows you (its gridmap or its account)"),
)


def gridftp_fault(status: int, said: str, ssh_said: str, ends: Sequence[GridftpEnd]) -> CamNetError:
    """Describe why ``globus-url-copy`` ended with `status`.

    Parameters
    ----------
    said
        Its standard error.
    ssh_said
        Log of the ``ssh`` that it started.
    """
    lines = [re.sub(r"^\d{3}[- ](\d{3}[- ])?", "", line).strip() for line in f"{ssh_said}\n{said}".splitlines()]
    words = "; ".join(line for line in lines if line and line != "End.")
    subject = " and ".join(f"{end.scheme}://{end.host}:{end.port}" for end in ends if end.server)
    for pattern, cause, remedy in _USERS:
        if re.search(pattern, f"{ssh_said}\n{said}", re.IGNORECASE):
            return InputError(f"{cause} ({words[-400:]})", subject=subject, remedy=remedy)
    passes = bool(re.search(_PASSING, words, re.IGNORECASE))
    return program_fault("globus-url-copy", status, words, subject=subject, passes=passes)

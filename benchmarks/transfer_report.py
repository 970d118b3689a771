#!/usr/bin/env python
"""``camnet benchmark transfer`` between a folder and accounts of a private SSH server of this machine.

    python benchmarks/transfer_report.py --folder FOLDER -- --protocols streams,scp --sizes 1MB,100MB --repeats 3

What follows ``--`` are options of that command. site-a is a folder; site-b and, with ``--accounts 2``, site-c are
reached over SSH (and GridFTP where it is installed). The server is started for it and stopped at the end. Client and
server share the processors of this machine and no network is between them: the report shows what programs cost, not
what links do. With real sites the command itself is all that is needed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from deployments.loopback_sshd import LoopbackSshd, loopback_sshd


def main() -> int:
    """Start the server, write the site files, run the command, give its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, choices=(1, 2), default=1, help="sites that are reached over SSH")
    parser.add_argument("--folder", type=Path, required=True, help="for sites, ledger and report")
    parser.add_argument("options", nargs="*", help="of camnet benchmark transfer")
    given = parser.parse_args()
    folder: Path = given.folder.resolve()
    names = ("site-a", "site-b", "site-c")[: given.accounts + 1]
    command = [str(Path(sys.executable).with_name("camnet")), "benchmark", "transfer", "--sites", ",".join(names)]
    command += ["--sites-folder", str(folder / "sites"), "--workspace", str(folder), "--output", str(folder / "report")]
    with loopback_sshd(folder / "sshd") as sshd:
        write_sites(folder, names, sshd)
        return subprocess.run([*command, *given.options], check=False).returncode


def write_sites(folder: Path, names: tuple[str, ...], sshd: LoopbackSshd) -> None:
    """Write a site file each: the first is a folder, the others are accounts of the server."""
    from tests.services.gridftp import PROGRAM, sshftp_server
    from tests.services.sshd_route import account_of

    (folder / "sites").mkdir(exist_ok=True)
    for name in names:
        root = folder / "roots" / name
        root.mkdir(parents=True, exist_ok=True)
        text = f'name = "{name}"\nroot = "{root}"\n'
        if name != names[0]:
            text += f'[ssh]\nhost = "{sshd.host}"\nport = {sshd.port}\nuser = "{sshd.user}"\n'
            text += f'key = "{sshd.key}"\nknown_hosts = "{sshd.known_hosts}"\n'
            if Path(PROGRAM).exists():
                server = sshftp_server(account_of(sshd))
                text += f'[gridftp]\nurl = "{server.url}"\nserver = "{server.server}"\n'
        (folder / "sites" / f"{name}.toml").write_text(text)


if __name__ == "__main__":
    sys.exit(main())

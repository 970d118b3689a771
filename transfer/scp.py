"""The ``scp`` of OpenSSH as a carrier: the paper's baseline (section 5), one connection, one file after the other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tasks.errors import InputError
from transfer.brake import Brake
from transfer.carrier import Load, Watch
from transfer.model import Endpoint, Features, TransferOptions
from transfer.openssh import ssh_fault, write_ssh_config
from transfer.program import run_program
from transfer.staging import lay_out, staging_folder

_GLOB = re.compile(r"([\\*?\[\]{}])")
_ESCAPED = r"\\\1"
_KBIT_IN_MB = 8000
_UNKNOWN_OPTION = re.compile(r"(unknown|illegal|invalid) option", re.IGNORECASE)


class ScpCarrier:
    """Carries files with ``scp``, from or to an SSH account, or between two of them through this machine.

    A file that broke off is carried again from its start.
    """

    features = Features(protocol="scp", parallel=False, resumes=False, encrypted=True)
    segment_bytes = None
    continues_partial = False

    def __init__(self, source: Endpoint, destination: Endpoint, options: TransferOptions) -> None:
        self._source = source
        self._destination = destination
        self._options = options
        # Only from this machine can files of many folders go under other names in one call.
        self.most_files = 200 if source.ssh is None else 1

    def carry(self, loads: Sequence[Load], watch: Watch, brake: Brake) -> float:
        """See `Carrier.carry`."""
        with staging_folder() as scratch:
            if len(loads) == 1:
                names = [_place(self._source, loads[0].source_path, "source")]
                names.append(_place(self._destination, loads[0].partial_path, "destination"))
            else:
                links = lay_out(loads, Path(self._source.root), scratch / "links")
                names = [*map(str, sorted(links.iterdir())), _place(self._destination, "", "destination")]
            self._run(names, scratch / "ssh_config", watch, brake)
        return 0.0

    def close(self) -> None:
        """See `Carrier.close`; nothing is held."""

    def _run(self, names: Sequence[str], config: Path, watch: Watch, brake: Brake) -> None:
        ends = {"source": self._source.ssh, "destination": self._destination.ssh}
        accounts = {name: account for name, account in ends.items() if account}
        write_ssh_config(config, accounts, timeout_s=self._options.stall_s)
        # -s: never the old protocol, in which a shell at the far side reads the names.
        arguments = ["scp", "-r", "-s", "-F", str(config)]
        if self._options.limit_mb_per_s:
            arguments += ["-l", str(max(1, round(self._options.limit_mb_per_s * _KBIT_IN_MB)))]
        result = run_program(
            [*arguments, "--", *names], brake=brake, stall_s=self._options.stall_s, arrived_bytes=watch.look
        )
        if _UNKNOWN_OPTION.search(result.errors):
            raise InputError(
                "is too old to carry files over SFTP, and without that a shell would read the file names",
                subject="scp",
                remedy="install OpenSSH 8.7 or newer, or use sftp or rsync",
            )
        if result.status:
            raise ssh_fault("scp", result.status, result.errors, self._destination.ssh or self._source.ssh)


def _place(end: Endpoint, path: str, name: str) -> str:
    full = f"{end.root.rstrip('/')}/{path}"
    if end.ssh is None:
        return str(Path(full).absolute())
    # A relative root is relative to the account's home; the dot keeps a name like "a:b" from being a host.
    full = full if full.startswith("/") else f"./{full}"
    return f"{name}:{_GLOB.sub(_ESCAPED, full) if name == 'source' else full}"

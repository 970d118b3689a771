"""The ``scp`` of OpenSSH as a carrier: the paper's baseline (section 5), one connection, one file after the other."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from transfer.brake import Brake
from transfer.carrier import Load, Watch
from transfer.model import Endpoint, Features, TransferOptions
from transfer.openssh import ssh_arguments, ssh_fault
from transfer.program import run_program

_GLOB = re.compile(r"([\\*?\[\]{}])")
_ESCAPED = r"\\\1"
_KBIT_IN_MB = 8000


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
        with tempfile.TemporaryDirectory(prefix="camnet-scp-") as scratch:
            if len(loads) == 1:
                names = [self._place(self._source, loads[0].source_path, is_source=True)]
                names.append(self._place(self._destination, loads[0].partial_path, is_source=False))
            else:
                self._lay_out(loads, Path(scratch))
                names = [
                    *map(str, sorted(Path(scratch).iterdir())),
                    self._place(self._destination, "", is_source=False),
                ]
            self._run(names, watch, brake)
        return 0.0

    def close(self) -> None:
        """See `Carrier.close`; nothing is held."""

    def _lay_out(self, loads: Sequence[Load], scratch: Path) -> None:
        """Give the files the names that they will have there: scp follows the links."""
        for load in loads:
            link = scratch / load.partial_path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(Path(self._source.root).absolute() / load.source_path)

    def _run(self, names: Sequence[str], watch: Watch, brake: Brake) -> None:
        account = self._destination.ssh or self._source.ssh
        arguments = ["scp", "-q", "-r"]
        if account:
            arguments += ssh_arguments(account, timeout_s=self._options.stall_s)
        if self._options.limit_mb_per_s:
            arguments += ["-l", str(max(1, round(self._options.limit_mb_per_s * _KBIT_IN_MB)))]
        result = run_program(
            [*arguments, "--", *names], brake=brake, stall_s=self._options.stall_s, arrived_bytes=watch.look
        )
        if result.status:
            raise ssh_fault("scp", result.status, result.errors, account)

    def _place(self, end: Endpoint, path: str, *, is_source: bool) -> str:
        full = f"{end.root.rstrip('/')}/{path}"
        if end.ssh is None:
            return str(Path(full).absolute())
        # A relative root is relative to the account's home; the dot keeps a name like "a:b" from being a host.
        full = full if full.startswith("/") else f"./{full}"
        host = f"[{end.ssh.host}]" if ":" in end.ssh.host else end.ssh.host
        return f"{end.ssh.user}@{host}:{_GLOB.sub(_ESCAPED, full) if is_source else full}"

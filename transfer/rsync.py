"""``rsync`` over OpenSSH as a carrier: many small files in one call, and large ones that go on where they broke off."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from tasks.errors import CamNetError, InputError
from transfer.brake import Brake
from transfer.carrier import Load, Watch
from transfer.model import Endpoint, Features, SshAccount, TransferOptions
from transfer.openssh import ssh_arguments, ssh_fault
from transfer.program import run_program
from transfer.scratch import scratch_errors
from transfer.staging import lay_out, staging_folder, sweep_staging

_KIB_IN_MB = 1e6 / 1024
_PROTOCOL, _NOT_FOUND = 2, 127
_NO_RSYNC = re.compile(r"rsync: (command )?not found|command not found: rsync")


class RsyncCarrier:
    """Carries files with ``rsync`` from this machine to an SSH account, or from one to this machine.

    Partial files are written in place and only appended to: what is there is not read again, because the
    whole file is verified afterwards. Links are followed nowhere but from our own folder of links.

    Raises
    ------
    InputError
        Both ends are SSH accounts: rsync has no way between two of them.
    """

    features = Features(protocol="rsync", parallel=False, resumes=True, encrypted=True)
    most_files = 200
    segment_bytes = None
    continues_partial = True

    def __init__(self, source: Endpoint, destination: Endpoint, options: TransferOptions) -> None:
        account = destination.ssh or source.ssh
        if account is None or (source.ssh and destination.ssh):
            raise InputError(
                f"rsync moves between this machine and one SSH account, not from {source.site} to {destination.site}",
                remedy="use sftp or scp, or run the transfer at one of the two sites",
            )
        self._source = source
        self._destination = destination
        self._account = account
        self._options = options

    def carry(self, loads: Sequence[Load], watch: Watch, brake: Brake) -> float:
        """See `Carrier.carry`."""
        with staging_folder() as scratch:
            if self._source.ssh is None:
                links = lay_out(loads, Path(self._source.root), scratch / "links")
                self._run(["-r", "-L"], [f"{links}/", self._far(self._destination, "")], watch.look, brake)
                return 0.0
            here = Path(self._destination.root).absolute()
            sweep_staging(here)
            if len(loads) == 1:
                names = [self._far(self._source, loads[0].source_path), str(here / loads[0].partial_path)]
                self._run([], names, watch.look, brake)
            else:
                self._pull_group(loads, here, scratch / "names", watch, brake)
        return 0.0

    def close(self) -> None:
        """See `Carrier.close`; nothing is held."""

    def _pull_group(self, loads: Sequence[Load], here: Path, names: Path, watch: Watch, brake: Brake) -> None:
        """Pull into a folder beside the partial files, because rsync gives files no other names."""
        # The dot keeps a name that begins with # or ; from being a comment.
        with scratch_errors():
            names.write_bytes(b"".join(f"./{load.source_path}\0".encode() for load in loads))
        with staging_folder(here) as staging:

            def look() -> int:
                for load in loads:
                    watch.report(load.partial_path, _size_bytes(staging / load.source_path) - load.offset_bytes)
                return sum(watch.arrived_bytes(load.partial_path) for load in loads)

            for load in loads:
                if load.offset_bytes:
                    (staging / load.source_path).parent.mkdir(parents=True, exist_ok=True)
                    _put(here / load.partial_path, staging / load.source_path)

            try:
                self._run(
                    ["--from0", f"--files-from={names}"], [self._far(self._source, ""), f"{staging}/"], look, brake
                )
            finally:
                for load in loads:
                    _put(staging / load.source_path, here / load.partial_path)

    def _run(self, how: Sequence[str], names: Sequence[str], look: Callable[[], int], brake: Brake) -> None:
        shell = ["ssh", *ssh_arguments(self._account, timeout_s=self._options.stall_s)]
        # -s: no shell at the far side reads the names.
        arguments = ["rsync", "-s", "--append", f"--timeout={math.ceil(self._options.stall_s)}"]
        arguments += ["-e", " ".join(map(_quoted, shell)), *how]
        if self._options.limit_mb_per_s:
            arguments.append(f"--bwlimit={max(1, round(self._options.limit_mb_per_s * _KIB_IN_MB))}")
        result = run_program([*arguments, "--", *names], brake=brake, stall_s=self._options.stall_s, arrived_bytes=look)
        if result.status:
            raise self._fault(result.status, result.errors)

    def _far(self, end: Endpoint, path: str) -> str:
        full = f"{end.root.rstrip('/')}/{path}"
        full = full if full.startswith("/") else f"./{full}"
        host = f"[{self._account.host}]" if ":" in self._account.host else self._account.host
        return f"{self._account.user}@{host}:{full}"

    def _fault(self, status: int, said: str) -> CamNetError:
        if status == _NOT_FOUND or _NO_RSYNC.search(said):
            return InputError(
                "the account has no program rsync",
                subject=_name(self._account),
                remedy="have rsync installed there, or use sftp or scp",
            )
        if status == _PROTOCOL:
            return InputError(
                f"the two rsync do not understand each other: {' '.join(said.split())[-300:]}",
                subject=_name(self._account),
                remedy="let the account's shell print nothing when it starts, and use versions of rsync from 3.0 on",
            )
        return ssh_fault("rsync", status, said, self._account)


def _name(account: SshAccount) -> str:
    return f"{account.user}@{account.host}:{account.port}"


def _quoted(argument: str) -> str:
    """Quote an argument of the remote shell as rsync splits it: no escapes, a doubled quote is one."""
    return "'" + argument.replace("'", "''") + "'"


def _size_bytes(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0  # not begun yet


def _put(old: Path, new: Path) -> None:
    """Give a file another name, also on another file system (below a root others may be mounted)."""
    if old.is_file() and not old.is_symlink():
        try:
            old.rename(new)
        except OSError:
            shutil.copyfile(old, new, follow_symlinks=False)

"""FDT, the Fast Data Transfer tool, as a carrier: the paper's tool for large files (section 4.2, Figure 8)."""

from __future__ import annotations

import logging
import os
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from tasks.errors import CamNetError, InputError, PermanentFault
from transfer.brake import Brake
from transfer.carrier import Load, Watch
from transfer.fdt_server import FdtServer, fdt_server
from transfer.model import Endpoint, Features, TransferOptions
from transfer.program import program_fault, run_program
from transfer.scratch import scratch_errors
from transfer.servers import FdtTool
from transfer.staging import staging_folder

_log = logging.getLogger(__name__)
_QUIET_S = 15.0
"""FDT looks once a second whether it may go on, and rests for five at its end."""
_RENAMES = re.compile(r"\s+/\s+")
_TELLING = re.compile(r"exception|error|cannot|unable|not allowed|no space|denied", re.IGNORECASE)


class FdtCarrier:
    """Carries files with FDT from this machine to an SSH account, or from one to this machine.

    The server is started at the account for each job, and ended with it; the client runs here. Data goes
    over ports of its own, in plain text.

    Raises
    ------
    InputError
        Both ends are SSH accounts, or one of them has no FDT.
    """

    features = Features(protocol="fdt", parallel=True, resumes=False, encrypted=False)
    most_files = 200
    segment_bytes = None
    continues_partial = False

    def __init__(self, source: Endpoint, destination: Endpoint, options: TransferOptions) -> None:
        far, here = (destination, source) if destination.ssh else (source, destination)
        if far.ssh is None or here.ssh is not None:
            raise InputError(
                f"fdt moves between this machine and one SSH account, not from {source.site} to {destination.site}",
                remedy="use sftp, or run the transfer at one of the two sites",
            )
        self._account = far.ssh
        self._far_tool, self._tool = _tool(far), _tool(here)
        self._pulls = far is source
        self._source = source
        self._destination = destination
        self._options = options
        self._has_warned = False

    def carry(self, loads: Sequence[Load], watch: Watch, brake: Brake) -> float:
        """See `Carrier.carry`: all but the time in which bytes were seen to arrive counts as start-up."""
        self._warn()
        by_folder = defaultdict(list)
        for load in loads:
            by_folder[os.path.dirname(load.partial_path)].append(load)  # noqa: PTH120 - of either end, not a file here
        started_s, wire_s = time.monotonic(), 0.0
        for folder, group in by_folder.items():
            watch.begin()
            self._run_job(folder, group, watch, brake)
            wire_s += watch.wire_seconds
        return time.monotonic() - started_s - wire_s

    def close(self) -> None:
        """See `Carrier.close`; nothing is held."""

    def _warn(self) -> None:
        if not self._has_warned:
            ends = self._source.site, self._destination.site
            _log.warning("%s → %s: fdt neither encrypts nor authenticates; use it inside a trusted network only", *ends)
        self._has_warned = True

    def _run_job(self, folder: str, loads: Sequence[Load], watch: Watch, brake: Brake) -> None:
        with (
            staging_folder() as scratch,
            fdt_server(self._account, self._far_tool, brake, timeout_s=self._options.stall_s) as server,
        ):
            names = scratch / "names"
            with scratch_errors():
                names.write_text("".join(f"{line}\n" for line in self._lines(loads, scratch)), encoding="utf-8")

            def look() -> int:
                server.listen()
                return watch.look()

            result = run_program(
                self._arguments(server.port, folder, names),
                brake=brake,
                stall_s=self._options.stall_s + _QUIET_S,
                arrived_bytes=look,
                environment={"LC_ALL": "C.UTF-8"},
            )
            look()
            if result.status:
                raise self._fault(result.status, result.output + result.errors, server)

    def _arguments(self, port: int, folder: str, names: Path) -> list[str]:
        arguments = [self._tool.java, "-jar", str(self._tool.jar), "-noupdates", "-nolock", "-notmp"]
        arguments += ["-c", self._account.host, "-p", str(port), "-P", str(self._options.streams)]
        if self._options.limit_mb_per_s:
            arguments += ["-limit", str(round(self._options.limit_mb_per_s * 1e6))]
        if self._pulls:
            arguments.append("-pull")
        return [*arguments, "-d", _placed(self._destination, folder), "-fl", str(names)]

    def _lines(self, loads: Sequence[Load], scratch: Path) -> list[str]:
        """One line a file for FDT: where it is, and, behind a slash between blanks, its name over there."""
        if not self._pulls:
            links = [(scratch / load.partial_path.rpartition("/")[2], load.source_path) for load in loads]
            for link, source_path in links:
                link.symlink_to(Path(self._source.root).absolute() / source_path)
            return [str(link) for link, _ in links]
        lines = []
        for load in loads:
            path = _placed(self._source, load.source_path)
            if _RENAMES.search(path):
                raise PermanentFault(
                    "has blanks around a slash in its path, which FDT takes for two names",
                    subject=f"{self._source.site}:{load.source_path}",
                    remedy="rename the folder, or use sftp",
                )
            lines.append(f"{path} / {load.partial_path.rpartition('/')[2]}")
        return lines

    def _fault(self, status: int, said: str, server: FdtServer) -> CamNetError:
        where = f"{self._account.host}:{server.port}"
        if "jarfile" in said:
            return InputError(
                "is no jar that Java can read", subject=self._tool.jar, remedy="name it in [fdt] of the site file"
            )
        if "is not allowed to transfer" in server.said:
            return InputError(
                "the FDT server sees another address of this machine than the SSH server does, and refuses it",
                subject=where,
                remedy="reach both over the same network and IPv4, or use sftp",
            )
        lines = [line for line in f"{server.said}\n{said}".splitlines() if _TELLING.search(line)]
        return program_fault("fdt", status, "\n".join(lines[-3:]), subject=where)


def _tool(end: Endpoint) -> FdtTool:
    if end.fdt is None:
        raise InputError(
            f"{end.site} has no FDT, which both ends need", remedy="add [fdt] with the path of the jar to its site file"
        )
    return end.fdt


def _placed(end: Endpoint, path: str) -> str:
    full = f"{end.root.rstrip('/')}/{path}".rstrip("/") or "/"
    if end.ssh is None:
        return str(Path(full).absolute())
    # A relative root is relative to the account's home, where the server runs.
    return full if full.startswith("/") else f"./{full}"

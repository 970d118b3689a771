"""GridFTP by ``globus-url-copy``: parallel streams, also between two servers that neither is this machine."""

from __future__ import annotations

import logging
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from tasks.errors import InputError
from transfer.brake import Brake
from transfer.carrier import Load, Watch
from transfer.faults import fault_of
from transfer.gridftp_end import GridftpEnd
from transfer.gridftp_fault import gridftp_fault
from transfer.lane import Lane
from transfer.model import Endpoint, Features, TransferOptions
from transfer.open_store import open_store
from transfer.openssh import write_ssh_config
from transfer.program import run_program
from transfer.scratch import scratch_errors

_log = logging.getLogger(__name__)
_CHUNKS_IN_SEGMENT = 64
_MOST_FILES = 200
_MOST_SESSIONS = 4
_LONGEST_URL = 500  # the tool reads each URL of a list into 512 bytes, without looking
_PLAIN_PATH = re.compile(r"[\w./+-]+")
_TOLD = re.compile(rb"(\d+) bytes +([\d.]+) MB/sec avg")
_MIB = 1 << 20


class GridftpCarrier:
    """Carries files between two GridFTP servers, or between one and a folder of this machine.

    Large files go in segments of 64 chunks, each over all streams; a file that broke off goes on with the
    segment that it broke off in. Small files go in groups, several at once.

    Raises
    ------
    InputError
        Neither end has a server, or something is asked for that the tool cannot do.
    """

    continues_partial = False
    most_files = _MOST_FILES

    def __init__(self, source: Endpoint, destination: Endpoint, options: TransferOptions) -> None:
        self._endpoints = source, destination
        self._options = options
        self._source = GridftpEnd(source, "camnet-source")
        self._destination = GridftpEnd(destination, "camnet-destination")
        self._ends = self._source, self._destination
        if not any(end.server for end in self._ends):
            raise InputError(
                f"neither {source.site} nor {destination.site} has a GridFTP server that is reached from here",
                remedy="add [gridftp] and [ssh] to the site file of one of them, or use another protocol",
            )
        if options.limit_mb_per_s:
            raise InputError(
                "gridftp cannot be held to a rate", remedy="take limit_mb_per_s away, or use sftp or streams"
            )
        servers = [end.server for end in self._ends if end.server and end.scheme == "gsiftp"]
        self._proxy = _agreed("proxy", (server.proxy for server in servers))
        self._authorities = _agreed("certificates", (server.certificates for server in servers))
        encrypted = any(end.server.encrypted for end in self._ends if end.server)
        if encrypted and any(end.scheme == "ftp" for end in self._ends):
            # Asked to, the tool would not do it, and not say so.
            raise InputError(
                "an ftp:// server cannot encrypt",
                subject=f"{source.site} → {destination.site}",
                remedy="use sshftp or gsiftp, or inside a trusted network set encrypted = false in [gridftp] of both",
            )
        self.features = Features(protocol="gridftp", parallel=True, resumes=True, encrypted=encrypted)
        self.segment_bytes = _CHUNKS_IN_SEGMENT * options.chunk_bytes

    def carry(self, loads: Sequence[Load], watch: Watch, brake: Brake) -> float:
        """See `Carrier.carry`."""
        full = [load for load in loads if load.size_bytes]
        named = [load for load in full if self._can_name(load)]
        listed = [load for load in named if max(map(len, self._urls(load))) <= _LONGEST_URL]
        groups = [listed] if listed else []
        groups += [[load] for load in named if load not in listed]
        startup_s = sum(self._run(group, watch, brake) for group in groups)
        for load in full:
            if load not in named:
                self._carry_unnamed(load, watch, brake)
        return startup_s

    def close(self) -> None:
        """See `Carrier.close`; nothing is held."""

    def _can_name(self, load: Load) -> bool:
        return self._source.can_name(load.source_path) and self._destination.can_name(load.partial_path)

    def _urls(self, load: Load) -> tuple[str, str]:
        return self._source.url(load.source_path), self._destination.url(load.partial_path)

    def _run(self, loads: Sequence[Load], watch: Watch, brake: Brake) -> float:
        """Run the tool; give the seconds that it did not carry, as far as it tells."""
        with _scratch_folder() as scratch:
            output = scratch / "output"
            arguments = ["globus-url-copy", "-vb", *self._security()]
            arguments += self._one(loads[0]) if len(loads) == 1 else self._many(loads, scratch / "list")

            def arrived_bytes() -> int:
                told_bytes = _told(output)[0] if len(loads) == 1 else 0
                if told_bytes:
                    watch.report(loads[0].partial_path, min(told_bytes, loads[0].size_bytes))
                return watch.look() + told_bytes

            started_s = time.monotonic()
            result = run_program(
                arguments,
                brake=brake,
                stall_s=self._options.stall_s,
                arrived_bytes=arrived_bytes,
                environment=self._environment(scratch),
                output_path=output,
            )
            if result.status:
                ssh_log = scratch / "ssh.log"
                ssh_said = ssh_log.read_text(errors="replace") if ssh_log.exists() else ""
                raise gridftp_fault(result.status, result.errors, ssh_said, self._ends)
            wire_s = _told(output)[1] if len(loads) == 1 else 0.0
            return max(0.0, time.monotonic() - started_s - wire_s) if wire_s else 0.0

    def _one(self, load: Load) -> list[str]:
        part = []
        if load.size_bytes < load.file_bytes:
            part = ["-off", str(load.offset_bytes), "-len", str(load.size_bytes)]
        return ["-p", str(self._options.streams), *part, *self._urls(load)]

    def _many(self, loads: Sequence[Load], file: Path) -> list[str]:
        with scratch_errors():
            file.write_text("".join(f"{' '.join(self._urls(load))} {_part(load)}\n" for load in loads), "ascii")
        # Pipelined commands are for third-party transfers; elsewhere the tool crashes on some errors with them.
        pipelined = ["-pp"] if all(end.server for end in self._ends) else []
        sessions = min(_MOST_SESSIONS, self._options.streams)
        return ["-fast", *pipelined, "-cc", str(sessions), "-f", str(file)]

    def _security(self) -> list[str]:
        arguments = ["-dcpriv"] if self.features.encrypted else []
        if any(end.scheme == "sshftp" for end in self._ends):
            # Accounts have no certificates: the tool makes one for the data connections and tells it over SSH.
            arguments += ["-data-cred", "auto"] if self.features.encrypted else ["-nodcau"]
        return arguments

    def _environment(self, scratch: Path) -> dict[str, str]:
        environment = {"GLOBUS_HOSTNAME": os.environ.get("GLOBUS_HOSTNAME") or self._address()}
        accounts = {name: end.account for name, end in self._named_ends() if end.account}
        if accounts:
            config = scratch / "ssh_config"
            commands = {name: end.start_command for name, end in self._named_ends() if end.account}
            write_ssh_config(config, accounts, timeout_s=self._options.stall_s, commands=commands)
            # The tool's script runs `ssh -p PORT HOST $GLOBUS_REMOTE_SSHFTP`, and ssh takes options there too.
            environment["GLOBUS_REMOTE_SSHFTP"] = f"-F {config} -E {scratch / 'ssh.log'}"
        return environment | self._certificates(scratch)

    def _certificates(self, scratch: Path) -> dict[str, str]:
        """Where the tool finds the user's proxy and the authorities; without it, where it looks by itself."""
        authorities = self._authorities
        if not any(end.scheme == "gsiftp" for end in self._ends):
            # Nobody's certificate is looked at, but the tool wants a folder to be there.
            authorities = scratch / "authorities"
            with scratch_errors():
                authorities.mkdir()
        found = {"X509_USER_PROXY": self._proxy, "X509_CERT_DIR": authorities}
        return {name: str(path) for name, path in found.items() if path}

    def _named_ends(self) -> Iterator[tuple[str, GridftpEnd]]:
        return ((end.name, end) for end in self._ends)

    def _address(self) -> str:
        """Address of this machine towards the servers, which it names to them for their connections to it."""
        far = next(end for end in self._ends if end.server)
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(far.host, far.port, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(address)  # nothing is sent
                return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()

    def _carry_unnamed(self, load: Load, watch: Watch, brake: Brake) -> None:
        """Carry a file through this machine whose name the server would misread."""
        _log.warning("%s goes over SSH: its name has characters that GridFTP servers drop", load.source_path)

        def counted(blocks: Iterator[bytes]) -> Iterator[bytes]:
            arrived_bytes = 0
            for block in blocks:
                brake.pass_on(len(block))
                yield block
                arrived_bytes += len(block)
                watch.report(load.partial_path, arrived_bytes)

        source, destination = self._endpoints
        try:
            with closing(
                Lane(lambda: open_store(source, self._options), lambda: open_store(destination, self._options))
            ) as lane:
                blocks = lane.source.read(load.source_path, load.offset_bytes, load.size_bytes)
                with closing(blocks):
                    lane.destination.write(load.partial_path, load.offset_bytes, counted(blocks))
        except Exception as problem:
            fault = fault_of(problem, subject=load.source_path)
            if fault is None:
                raise
            raise fault from problem


def _agreed(key: str, files: Iterable[Path | None]) -> Path | None:
    """Give the one file that the ends name; the tool takes no second one."""
    named = {file for file in files if file}
    if len(named) > 1:
        raise InputError(
            f"the two sites name different {key}: {', '.join(map(str, sorted(named)))}",
            remedy=f"name the same {key} in both tables [gridftp] (one folder can hold all authorities)",
        )
    return named.pop() if named else None


def _part(load: Load) -> str:
    return f"{load.offset_bytes},{load.size_bytes}" if load.size_bytes < load.file_bytes else ""


def _told(output: Path) -> tuple[int, float]:
    """Give the bytes and the seconds that the tool told last."""
    with output.open("rb") as file:
        file.seek(max(0, output.stat().st_size - 1024))
        found = _TOLD.findall(file.read())
    if not found:
        return 0, 0.0
    bytes_, mib_per_s = int(found[-1][0]), float(found[-1][1])
    return bytes_, bytes_ / _MIB / mib_per_s if mib_per_s else 0.0


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    """Make a folder whose path a shell does not take apart."""
    with ExitStack() as stack:
        with scratch_errors():
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="camnet-gridftp-"))
        if not _PLAIN_PATH.fullmatch(folder):
            raise InputError("has spaces or signs", subject=folder, remedy="set TMPDIR to a folder with a plain name")
        yield Path(folder)

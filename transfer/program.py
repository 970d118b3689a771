"""A program that carries files, run as a child: argument lists only, watched, and never left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from tasks.artifacts import Record
from tasks.errors import CamNetError, InputError, PermanentFault, RetryableFault
from transfer.brake import Brake
from transfer.scratch import scratch_errors

_LOOK_S = 0.2
_END_S = 5.0
_TAIL_BYTES = 16 << 10
_LEAST_BYTES = 1 << 10
"""What has to arrive for a connection not to stand still: a link of a byte a second does."""
_LASTING = {
    "no space left": "free some space there, then run the same command again; finished files are kept",
    "quota exceeded": "ask for more quota or remove files there, then run the same command again",
    "permission denied": "give the account write permission to that folder (read permission at the source)",
    "read-only file system": "mount that file system writable, or name another folder in the site file",
    "no such file": "make the manifest again, then transfer again",
    "file too large": "raise the account's limit of file sizes (ulimit -f), or use another file system there",
}


class UnclearFault(RetryableFault):
    """A program failed and did not say why: it may pass, or it may be a full disk."""


class ProgramResult(Record):
    """How a program ended: its exit status and the last 16 KiB of what it said, as text."""

    status: int
    output: str
    errors: str


def run_program(
    arguments: Sequence[str],
    *,
    brake: Brake,
    stall_s: float,
    arrived_bytes: Callable[[], int],
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    output_path: Path | None = None,
) -> ProgramResult:
    """Run a program to its end.

    Parameters
    ----------
    arguments
        Program and arguments; no shell sees them.
    brake
        Ends the program when it is stopped.
    stall_s
        The program is ended when `arrived_bytes` has not grown by 1 KiB for so long.
    arrived_bytes
        Says how much has arrived by now; asked five times a second at most.
    environment
        Added to that of this process.
    output_path
        New file for what it writes on standard output, for `arrived_bytes` to read.

    Raises
    ------
    InputError
        There is no such program.
    RetryableFault
        Nothing moved for `stall_s`.
    Cancelled
        The brake was stopped.
    """
    if not shutil.which(arguments[0]):
        raise InputError(
            "there is no such program on this machine", subject=arguments[0], remedy="install it, or use auto"
        )
    with ExitStack() as stack:
        with scratch_errors():
            output, errors = (stack.enter_context(_scratch_file(path)) for path in (output_path, None))
        child = subprocess.Popen(
            [*_dying_with_us(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env={**os.environ, "LC_ALL": "C", **(environment or {})},
            cwd=folder,
            start_new_session=True,
        )
        try:
            status = _watched(child, brake, stall_s, arrived_bytes, arguments[0])
        finally:
            _end(child)
        return ProgramResult(status=status, output=_tail(output.fileno()), errors=_tail(errors.fileno()))


def program_fault(program: str, status: int, said: str, *, subject: object = None, passes: bool = False) -> CamNetError:
    """Put what a program said when it failed into our words.

    Parameters
    ----------
    said
        Its complaints; the last three lines are quoted.
    passes
        Whatever it said, another attempt may succeed.
    """
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    words = " ".join(lines[-3:])[-500:] or "it said nothing"
    for cause, remedy in _LASTING.items():
        if cause in said.lower() and not passes:
            return PermanentFault(f"{program} failed: {words}", subject=subject, remedy=remedy)
    kind = RetryableFault if passes else UnclearFault
    return kind(
        f"{program} ended with {status}: {words}",
        subject=subject,
        remedy="nothing is lost: run the same command again and it goes on where it stopped",
    )


def _dying_with_us() -> list[str]:
    """Have the child killed when we are: it must not write on while the next transfer of the same file begins."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


def _scratch_file(path: Path | None = None) -> IO[bytes]:
    return path.open("x+b") if path else tempfile.TemporaryFile()


def _watched(
    child: subprocess.Popen[bytes], brake: Brake, stall_s: float, arrived_bytes: Callable[[], int], name: str
) -> int:
    most_bytes, moved_at_s, next_look_s = -_LEAST_BYTES, time.monotonic(), 0.01
    while True:
        try:
            return child.wait(timeout=next_look_s)
        except subprocess.TimeoutExpired:
            next_look_s = min(_LOOK_S, 2 * next_look_s)
        brake.wait(0)
        arrived = arrived_bytes()
        if arrived >= most_bytes + _LEAST_BYTES:
            most_bytes, moved_at_s = arrived, time.monotonic()
        elif time.monotonic() - moved_at_s > stall_s:
            raise RetryableFault(f"nothing moved for {stall_s:g} s", subject=name, remedy="look at the link")


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the program and all that it has started."""
    for step in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, step)
        except ProcessLookupError:
            break
        try:
            child.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            continue
    child.wait()


def _tail(descriptor: int) -> str:
    size_bytes = os.fstat(descriptor).st_size
    return os.pread(descriptor, _TAIL_BYTES, max(0, size_bytes - _TAIL_BYTES)).decode(errors="replace")

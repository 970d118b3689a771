"""A connection to the far side that is written and read without waiting longer than a stall may take."""

from __future__ import annotations

import io
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from tasks.errors import InputError
from transfer.brake import Brake
from transfer.model import SshAccount
from transfer.openssh import connection_fault, ssh_arguments
from transfer.scratch import scratch_errors
from transfer.streams.far_line import Line, widen
from transfer.streams.far_side import GREETING
from transfer.streams.script import COMMAND, SCRIPT

_BUFFER_BYTES = 1 << 16
_CHATTER_BYTES = 1 << 16  # what the account's shell may say before the script does
_LOGIN_S = 15.0  # a login may take longer than a wire is silent; ConnectTimeout is for what comes before
_LOOK_S = 0.2
_MOMENT_S = 0.001  # in which ssh does not empty a wide pipe; it takes small portions, and each would wake us
_END_S = 5.0
_TAIL_BYTES = 16 << 10


class NoFarSideError(InputError):
    """The account does not run what a session needs; others may do with less."""


@dataclass(frozen=True)
class FarProgram:
    """What runs at the far side.

    Attributes
    ----------
    command
        Constant line for the account's shell.
    script
        What the command reads from its standard input before all else.
    greeting
        What it says when it is there.
    needs
        What an account lacks that does not run it.
    """

    command: str
    script: bytes
    greeting: bytes
    needs: str


PYTHON = FarProgram(COMMAND, SCRIPT, GREETING, "python3")


class Channel(Protocol):
    """A way to a session at the far side."""

    @property
    def line(self) -> Line:
        """Frames over it."""

    def close(self) -> None:
        """End it; the session at the other side ends with it."""


class Waiting:
    """Waits until a descriptor is ready, for one stall at most, and no longer than the transfer goes on."""

    def __init__(self, stall_s: float, brake: Brake) -> None:
        self.stall_s = stall_s
        self._brake = brake

    def until(self, descriptor: int, event: int, since_s: float | None = None) -> None:
        """Return when `event` is there.

        Parameters
        ----------
        since_s
            Monotonic time from which on the stall counts; None: now. Events that bring nothing do not begin it anew.

        Raises
        ------
        TimeoutError
            Nothing moved for too long.
        Cancelled
            The transfer was stopped.
        """
        poll, began_s = select.poll(), time.monotonic() if since_s is None else since_s
        poll.register(descriptor, event)
        while True:
            is_there = bool(poll.poll(1000 * min(_LOOK_S, self.stall_s)))
            if time.monotonic() - began_s > self.stall_s and not (is_there and since_s is None):
                raise TimeoutError(f"no progress for {self.stall_s:g} s")
            if is_there:
                return
            self._brake.wait(0)


class _Source(io.RawIOBase):
    """What arrives on a non-blocking descriptor."""

    def __init__(self, receive: Callable[[memoryview], int]) -> None:
        self._receive = receive

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed has no name for its buffers here
        return self._receive(memoryview(buffer))


def buffered(receive: Callable[[memoryview], int]) -> io.BufferedReader:
    """Give a source for `Line` around a function that fills a part of a buffer."""
    return io.BufferedReader(_Source(receive), _BUFFER_BYTES)


class SshChannel:
    """A session over one OpenSSH process.

    It is started at once, and what is written goes on its way while it still connects; only the first
    answer waits for it.
    """

    def __init__(self, account: SshAccount, *, stall_s: float, brake: Brake, program: FarProgram = PYTHON) -> None:
        self._account = account
        self._program = program
        self._stall_s = stall_s
        self._waiting = Waiting(max(stall_s, _LOGIN_S), brake)
        with scratch_errors():
            self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the channel
        self._greeted = False
        self._process = _started(["ssh", *_arguments(account, stall_s), program.command], self._said.fileno())
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101, PT018 - both are pipes
        self._input, self._output = self._process.stdin.fileno(), self._process.stdout.fileno()
        for descriptor in (self._input, self._output):
            os.set_blocking(descriptor, False)
        self._moment_s = _MOMENT_S if widen(self._input) else 0.0
        self.line = Line(buffered(self._receive), self._push, self._push_file, patient=widen(self._output))
        try:
            self.line.write(memoryview(program.script))
        except BaseException:  # an interruption too must not leave it open
            self.close()
            raise

    def close(self) -> None:
        """End the process, and with it the session."""
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what it still held is not wanted any more
                    pipe.close()
        for step in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, step)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_END_S)
                break
        self._said.close()

    def _push(self, view: memoryview) -> int:
        return self._pushed(lambda: os.write(self._input, view))

    def _push_file(self, descriptor: int, offset_bytes: int, size_bytes: int) -> int:
        return self._pushed(lambda: os.sendfile(self._input, descriptor, offset_bytes, size_bytes))

    def _pushed(self, push: Callable[[], int]) -> int:
        while True:
            try:
                return push()
            except BlockingIOError:
                time.sleep(self._moment_s)
                self._waiting.until(self._input, select.POLLOUT)
            except BrokenPipeError as error:
                raise self._ended() from error

    def _receive(self, view: memoryview) -> int:
        if not self._greeted:
            self._greet()
        return self._received(view)

    def _received(self, view: memoryview) -> int:
        while True:
            try:
                count = os.readv(self._output, [view])
            except BlockingIOError:
                self._waiting.until(self._output, select.POLLIN)
                continue
            if not count:
                raise self._ended()
            return count

    def _greet(self) -> None:
        """Skip what the account's shell says, up to our greeting."""
        heard, one = bytearray(b"\n"), memoryview(bytearray(1))
        while not heard.endswith(self._program.greeting):
            self._received(one)
            heard += one
            if len(heard) > _CHATTER_BYTES:
                raise NoFarSideError("the account's shell talks and talks", subject=_name(self._account))
        self._greeted = True
        self._waiting.stall_s = self._stall_s

    def _ended(self) -> Exception:
        """Say why the process ended by itself."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_END_S)
        size_bytes = os.fstat(self._said.fileno()).st_size
        said = os.pread(self._said.fileno(), _TAIL_BYTES, max(0, size_bytes - _TAIL_BYTES)).decode(errors="replace")
        status = self._process.returncode
        if not self._greeted and status not in (None, 255) and status >= 0:
            words = " ".join(said.split())[-200:] or f"exit status {status}"
            return NoFarSideError(f"the account runs no {self._program.needs} ({words})", subject=_name(self._account))
        return connection_fault(said, self._account)


def _arguments(account: SshAccount, stall_s: float) -> list[str]:
    own = ["-T", "-a", "-x", "-o", "ClearAllForwardings=yes", "-l", account.user]
    return [*ssh_arguments(account, timeout_s=stall_s), *own, "--", account.host]


def _started(arguments: Sequence[str], said: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            bufsize=0,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise InputError(
            "there is no such program on this machine", subject="ssh", remedy="install the OpenSSH client"
        ) from error


def _name(account: SshAccount) -> str:
    return f"{account.user}@{account.host}:{account.port}"

"""Digests computed where the files lie: by a small script of ours, or by the account's own sha256sum."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import paramiko

from transfer import far_digest
from transfer.stall import StallWatch

_SCRIPT = Path(far_digest.__file__).read_bytes()
_PYTHON = (
    f"python3 -I -S -c 'import sys; exec(compile(sys.stdin.buffer.read({len(_SCRIPT)}), "
    '"camnet", "exec"), {"__name__": "__main__"})\''
)
"""A constant of one line, which every shell takes: the script comes over standard input, and so do file names."""
_SHA256SUM = "xargs -0 -n 1 sha256sum -z --"
"""A constant too. Both run as long as the connection: starting the account's shell often takes longer than a digest."""
_NOTHING = hashlib.sha256(b"").hexdigest().encode()
_HEX = re.compile(rb"[0-9a-f]{0,64}")
_ANSWER = re.compile(rb"([0-9a-f]{64}) (\d{1,19})\n|! (\d{1,5})\n")


class RemoteDigests:
    """Asks the far side for digests, over one channel of a connection.

    Parameters
    ----------
    ping
        Asks something else of the far side, and raises when the connection does not live; a large file
        may keep the far side silent for longer than `stall_s`.
    """

    def __init__(
        self, transport: paramiko.Transport, watch: StallWatch, *, stall_s: float, ping: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._watch = watch
        self._stall_s = stall_s
        self._ping = ping
        self._channel: paramiko.Channel | None = None
        self._program: str | None = None
        self._is_started = False
        self._told = b""

    @property
    def program(self) -> str | None:
        """What computes the digests: ``python3``, ``sha256sum``, or None where the account runs neither."""
        if not self._is_started:
            self._is_started = True
            self._start()
        return self._program

    def digest(self, name: bytes) -> str | None:
        """Return ``sha256:<hex>`` of a file, or None where the far side cannot tell."""
        match self.program:
            case "python3":
                answer = self.finished(name)
                return answer[0] if answer else None
            case "sha256sum":
                found = self._summed(name, silence_is_refusal=False)
                return f"sha256:{found.decode()}" if found else None
        return None

    def advance(self, name: bytes, upto_bytes: int) -> None:
        """Have the script go on with a file's digest up to that byte; 0 begins it. Nothing is waited for."""
        self._ask(b"%d %d\n%s" % (upto_bytes, len(name), name))

    def finished(self, name: bytes) -> tuple[str, int] | None:
        """Have the script finish a file's digest; return it with the file's size."""
        self.ask_finished([name])
        return self.next_finished()

    def ask_finished(self, names: Iterable[bytes]) -> None:
        """Have the script digest files one after the other; nothing is waited for."""
        self._ask(b"".join(b"-1 %d\n%s" % (len(name), name) for name in names))

    def next_finished(self) -> tuple[str, int] | None:
        """Wait for the digest of the first file that was asked for and not told yet; return it with the file's size."""
        found = self._next_answer()
        return (f"sha256:{found[1].decode()}", int(found[2])) if found and found[1] else None

    def forget(self, name: bytes) -> None:
        """Have the script close a file that it has begun; where the connection broke it ends by itself."""
        try:
            self.advance(name, -2)
            self._next_answer()
        except (OSError, EOFError, paramiko.SSHException):
            self._end()

    def _ask(self, requests: bytes) -> None:
        if self._program == "python3" and self._channel is not None:
            try:
                self._channel.sendall(requests)
            except OSError:
                self._end()

    def _next_answer(self) -> re.Match[bytes] | None:
        while self._program == "python3" and self._channel is not None:
            line, newline, rest = self._told.partition(b"\n")
            if newline:
                self._told = rest
                if found := _ANSWER.fullmatch(line + newline):
                    return found
            if newline or len(line) > 128:
                self._end()
                break
            data = self._received(self._channel, silence_is_refusal=False)
            self._told += data
            if not data:
                self._end()
        return None

    def _start(self) -> None:
        if self._run(_PYTHON):
            greeting = self._greeting()
            if greeting == far_digest.GREETING:
                self._program = "python3"
                return
            self._end()
        if self._run(_SHA256SUM):
            if self._summed(b"/dev/null", silence_is_refusal=True) == _NOTHING:
                self._program = "sha256sum"
                return
            self._end()

    def _run(self, command: str) -> bool:
        try:
            with self._watch.waiting():
                self._channel = self._transport.open_session(timeout=self._stall_s)
                self._channel.settimeout(self._stall_s)
                self._channel.set_combine_stderr(True)
                self._channel.exec_command(command)
        except paramiko.SSHException:
            self._ping()  # a refused command leaves the connection alive; a broken one shows here
            self._end()
            return False
        return True

    def _greeting(self) -> bytes:
        greeting = b""
        try:
            if self._channel is not None:
                self._channel.sendall(_SCRIPT)
                while len(greeting) < len(far_digest.GREETING) and far_digest.GREETING.startswith(greeting):
                    data = self._received(self._channel, silence_is_refusal=True)
                    if not data:
                        break
                    greeting += data
        except OSError:
            self._ping()
        return greeting

    def _summed(self, name: bytes, *, silence_is_refusal: bool) -> bytes | None:
        """Ask sha256sum; anything but its own answer ends it."""
        if self._channel is None:
            return None
        tail = b"  " + name + b"\0"
        output = b""
        try:
            self._channel.sendall(name + b"\0")
            while len(output) < 64 + len(tail):
                data = self._received(self._channel, silence_is_refusal=silence_is_refusal)
                output += data
                if not data or not _HEX.fullmatch(output[:64]) or not tail.startswith(output[64:]):
                    self._end()
                    return None
        except OSError:
            self._ping()
            self._end()
            return None
        return output[:64]

    def _received(self, channel: paramiko.Channel, *, silence_is_refusal: bool) -> bytes:
        while True:
            try:
                return bytes(channel.recv(1 << 16))
            except TimeoutError:
                if silence_is_refusal:
                    return b""
                self._ping()

    def _end(self) -> None:
        if self._channel is not None:
            self._channel.close()
        self._channel = self._program = None

"""Digests computed where the files lie, by the account's own sha256sum."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

import paramiko

from transfer.stall import StallWatch

_COMMAND = "xargs -0 -n 1 sha256sum -z --"
"""A constant: file names go to its standard input, never into a command line that a shell reads. It runs as
long as the connection, because starting the account's shell often takes longer than the digest."""
_NOTHING = hashlib.sha256(b"").hexdigest().encode()
_HEX = re.compile(rb"[0-9a-f]{0,64}")


class RemoteDigests:
    """Asks the far side for digests, over one channel of a connection.

    Parameters
    ----------
    ping
        Asks something else of the far side, and raises when the connection does not live; a large file
        may keep sha256sum silent for longer than `stall_s`.
    """

    def __init__(
        self, transport: paramiko.Transport, watch: StallWatch, *, stall_s: float, ping: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._watch = watch
        self._stall_s = stall_s
        self._ping = ping
        self._channel: paramiko.Channel | None = None
        self._refused = False

    def digest(self, name: bytes) -> str | None:
        """Return ``sha256:<hex>`` of a file, or None when the account runs no commands or has no such program."""
        if self._channel is None and not self._refused:
            self._start()
        answer = self._ask(name, silence_is_refusal=False)
        return f"sha256:{answer.decode()}" if answer else None

    def _start(self) -> None:
        try:
            with self._watch.waiting():
                self._channel = self._transport.open_session(timeout=self._stall_s)
                self._channel.settimeout(self._stall_s)
                self._channel.set_combine_stderr(True)
                self._channel.exec_command(_COMMAND)
        except paramiko.SSHException:
            self._ping()  # a refused command leaves the connection alive; a broken one shows here
            self._refuse()
        if self._ask(b"/dev/null", silence_is_refusal=True) != _NOTHING:
            self._refuse()

    def _ask(self, name: bytes, *, silence_is_refusal: bool) -> bytes | None:
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
                    self._refuse()
                    return None
        except OSError:
            self._ping()
            self._refuse()
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

    def _refuse(self) -> None:
        if self._channel is not None:
            self._channel.close()
        self._channel, self._refused = None, True

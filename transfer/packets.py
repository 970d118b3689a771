"""SSH packets in bursts: many of one channel encrypted one after the other, and handed to the kernel at once.

paramiko sends every packet by itself, through a message object and half a dozen copies. What is done here instead is
the framing of AES-GCM (RFC 5647) and the use of a channel's window (RFC 4254); keys, their renewal and the decryption
stay paramiko's.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from dataclasses import dataclass
from typing import Any

import paramiko
from paramiko.packet import NeedRekeyException, Packetizer

BURST_BYTES = 1 << 18
_READ_BYTES = 1 << 17
_CHANNEL_DATA = 94
_BLOCK_BYTES, _LEAST_PADDING = 16, 4


@dataclass(frozen=True)
class Burst:
    """Data for one channel of the other side; each piece becomes a packet."""

    channel: int
    pieces: tuple[memoryview, ...]

    def payloads(self) -> list[bytes]:
        """Give what the packets hold."""
        return [
            b"".join((struct.pack(">BII", _CHANNEL_DATA, self.channel, len(piece)), piece)) for piece in self.pieces
        ]


class BurstPacketizer(Packetizer):
    """paramiko's packets, with bursts besides.

    From the first key of AES-GCM on everything is encrypted here, because its counter has to be in one place. With
    another cipher everything goes paramiko's way.
    """

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self._connection = connection
        self._input, self._is_read_ahead = bytearray(), False
        self._sending = threading.RLock()
        self._cipher: Any = None
        self._nonce, self._counter = b"", 0
        self._bytes_of_key = self._packets_of_key = 0

    def set_outbound_cipher(self, block_engine: Any, *arguments: Any, aead: bool = False, **options: Any) -> None:  # noqa: ANN401 - handed on to paramiko
        """Take new keys; see paramiko."""
        with self._sending:
            if self._cipher is not None and not aead:
                raise paramiko.SSHException("the server gave up AES-GCM when the keys were renewed")
            super().set_outbound_cipher(block_engine, *arguments, aead=aead, **options)  # type: ignore[misc]  # mypy fears a sixth argument among them
            if aead:
                self._cipher, start = block_engine, options["iv_out"]
                self._nonce, self._counter = start[:4], int.from_bytes(start[4:], "big")
                self._bytes_of_key = self._packets_of_key = 0

    def set_inbound_cipher(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - handed on to paramiko
        """Take new keys; see paramiko."""
        super().set_inbound_cipher(*arguments, **options)
        self._is_read_ahead = True

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """Wait for so many bytes; see paramiko, which asks the kernel twice for each packet."""
        if not self._is_read_ahead:  # what came together with the server's first line is kept elsewhere
            return super().read_all(n, check_rekey)
        while len(self._input) < n:
            try:
                data = self._connection.recv(_READ_BYTES)
            except TimeoutError:
                if self.closed:
                    raise EOFError from None
                if check_rekey and not self._input and self.need_rekey():
                    raise NeedRekeyException from None
                self._check_keepalive()  # type: ignore[attr-defined]  # the stubs leave it out
                continue
            except OSError:
                if self.closed:
                    raise EOFError from None
                raise
            if not data:
                raise EOFError
            self._input += data
        taken = bytes(self._input[:n])
        del self._input[:n]
        return taken

    def send_message(self, data: paramiko.Message | Burst) -> None:
        """Send a message, or a burst."""
        payloads = data.payloads() if isinstance(data, Burst) else [data.asbytes()]
        with self._sending:
            if self._cipher is None:
                for payload in payloads:
                    super().send_message(paramiko.Message(payload))
                return
            sealed = b"".join([part for payload in payloads for part in self._sealed(payload)])
            self.write_all(sealed)
            self._bytes_of_key += len(sealed)
            self._packets_of_key += len(payloads)
            is_used_up = self._bytes_of_key >= self.REKEY_BYTES or self._packets_of_key >= self.REKEY_PACKETS
            if is_used_up and not self.need_rekey():
                self._trigger_rekey()  # type: ignore[attr-defined]  # the stubs leave it out

    def _sealed(self, payload: bytes) -> tuple[bytes, bytes]:
        """Encrypt one packet; its length stays readable, and is authenticated."""
        padding = _BLOCK_BYTES - (len(payload) + 1) % _BLOCK_BYTES
        if padding < _LEAST_PADDING:
            padding += _BLOCK_BYTES
        length = struct.pack(">I", 1 + len(payload) + padding)
        plain = b"".join((bytes((padding,)), payload, os.urandom(padding)))
        nonce = self._nonce + self._counter.to_bytes(8, "big")
        self._counter = (self._counter + 1) % (1 << 64)
        return length, self._cipher.encrypt(nonce, plain, length)


class BurstChannel:
    """What a session needs of a channel, over a transport with a `BurstPacketizer`; sends in bursts."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def invoke_subsystem(self, name: str) -> None:
        """See `paramiko.Channel.invoke_subsystem`."""
        self._channel.invoke_subsystem(name)

    def recv(self, most_bytes: int) -> bytes:
        """See `paramiko.Channel.recv`."""
        return bytes(self._channel.recv(most_bytes))

    def sendall(self, data: bytes) -> None:
        """See `paramiko.Channel.sendall`."""
        left = memoryview(data)
        while left:
            sizes = self._granted(len(left))
            pieces = []
            for size in sizes:
                pieces.append(left[:size])
                left = left[size:]
            transport: Any = self._channel.transport
            transport._send_user_message(Burst(self._channel.remote_chanid, tuple(pieces)))

    def _granted(self, wanted_bytes: int) -> list[int]:
        """Wait for the other side's window; give the sizes of packets that it lets through now."""
        channel: Any = self._channel
        sizes: list[int] = []
        wanted_bytes = min(wanted_bytes, BURST_BYTES)
        with channel.lock:
            while wanted_bytes and (not sizes or channel.out_window_size):
                size = 0 if channel.closed else channel._wait_for_send_window(wanted_bytes)
                if size == 0:
                    raise OSError("Socket is closed")
                sizes.append(size)
                wanted_bytes -= size
        return sizes

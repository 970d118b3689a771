"""A TCP proxy that breaks things at an exact byte."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal


@dataclass
class ChaosProxy:
    """One listening port in front of another; counts over all connections together.

    Attributes
    ----------
    fault
        What happens once, when byte `at_byte` from client to server (or back) is reached: ``drop`` closes
        the connections, ``flip`` inverts one bit, ``stall`` forwards nothing more on that connection, ``trickle``
        goes on with it at one byte a second.
    """

    target_port: int
    fault: Literal["none", "drop", "flip", "stall", "trickle"] = "none"
    at_byte: int = 0
    direction: Literal["up", "down"] = "up"
    port: int = 0
    connections: int = 0
    fired: int = 0
    passed_bytes: dict[str, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    _mutex: threading.Lock = field(default_factory=threading.Lock)
    _open: list[socket.socket] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def arm(
        self, fault: Literal["drop", "flip", "stall", "trickle"], *, after_bytes: int, direction: Literal["up", "down"]
    ) -> None:
        """Let the fault happen once, `after_bytes` from now on."""
        with self._mutex:
            self.fault, self.direction = fault, direction
            self.at_byte = self.passed_bytes[direction] + after_bytes

    def accept(self, listener: socket.socket) -> None:
        while not self._ended.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target_port))
            except OSError:  # nobody listens there any more: the client finds out too
                client.close()
                continue
            with self._mutex:
                self.connections += 1
                self._open += [client, server]
            for ends, direction in (((client, server), "up"), ((server, client), "down")):
                self.start(self._pump, *ends, direction)

    def start(self, work: object, *arguments: object) -> None:
        assert callable(work)
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        self._ended.set()
        with self._mutex:
            sockets = list(self._open)
        for one in sockets:
            _shut(one)
        for thread in self._threads:
            thread.join(timeout=5)
        for one in sockets:
            one.close()

    def _pump(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                passed = self._judge(bytearray(data), direction)
                sink.sendall(passed)
                if len(passed) < len(data):
                    if self.fault_is("stall"):
                        self._ended.wait()
                    if self.fault_is("trickle"):
                        self._trickle(data[len(passed) :], sink)
                    break
        _shut(source)
        _shut(sink)

    def _trickle(self, data: bytes, sink: socket.socket) -> None:
        for byte in data:
            if self._ended.wait(1.0):
                return
            sink.sendall(bytes([byte]))

    def fault_is(self, fault: str) -> bool:
        return self.fault == fault

    def _judge(self, data: bytearray, direction: str) -> bytearray:
        """What of `data` may pass."""
        with self._mutex:
            start = self.passed_bytes[direction]
            position = self.at_byte - start
            hit = self.fault != "none" and not self.fired and direction == self.direction and position < len(data)
            if hit:
                self.fired += 1
                if self.fault == "flip":
                    data[max(0, position)] ^= 0x10
                else:
                    data = data[: max(0, position)]
            self.passed_bytes[direction] += len(data)
            return data


@contextmanager
def chaos_proxy(target_port: int) -> Iterator[ChaosProxy]:
    """Run a proxy in front of a port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = ChaosProxy(target_port, port=int(listener.getsockname()[1]))
        proxy.start(proxy.accept, listener)
        try:
            yield proxy
        finally:
            _shut(listener)
            proxy.close()


def _shut(one: socket.socket) -> None:
    with suppress(OSError):  # it may be closed by the other side
        one.shutdown(socket.SHUT_RDWR)

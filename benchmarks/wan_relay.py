"""A wide-area link without root: a TCP port of this machine behind a set round trip and rate.

    python benchmarks/wan_relay.py --target-port 22 --round-trip-ms 50 --rate-mbit-per-s 1000

prints the port at which the target is reached from afar, until its standard input ends. Where there is root and
``/dev/net/tun``, `benchmarks/wan.py` makes a real link; this is for where there is not, and it is less:

- It holds back bytes, not packets. No loss, no congestion control: TCP ends on this machine, at both sides of it.
- Each direction has a delay of half the round trip and one rate for all connections together; in front of it wait what
  travels in a round trip, 256 KiB at least. A sender that finds this full waits; no link outside is so kind.
- One connection has at most `window_bytes` on its way, of which it gets the room back a round trip after sending.
  Windows of the programs above, SSH's of 2 MB, see the distance as they would outside. The kernel's buffers in front
  of it hold up to 256 KiB more.
- A connection costs its round trips (the target sees it after one and a half), but ``connect`` returns at once.
- Only what goes through the given port is far away. Data connections of GridFTP, FDT and TLS go past it.
- It is one Python thread in a process of its own; from about 2 Gb/s on that is the limit, and it takes processor time.
- Times are kept to about a millisecond.
"""

from __future__ import annotations

import argparse
import select
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_BLOCK_BYTES = 1 << 16
_SOCKET_BYTES = 1 << 17  # the kernel takes twice as much
_LEAST_QUEUE_BYTES = 256 << 10
_HANDSHAKE_ROUND_TRIPS = 1.5
_LONGEST_S = 1.0
WINDOW_BYTES = 16 << 20
LIMITS = (
    "a relay in user space: bytes are delayed and paced, no packets, no loss, no congestion control; "
    f"at most {WINDOW_BYTES >> 20} MiB of one connection on their way; only one port is far away"
)


@dataclass
class _Direction:
    """One direction of the link, for all connections."""

    bytes_per_s: float
    delay_s: float
    queue_bytes: float
    free_at_s: float = 0.0

    def full_for_s(self, now_s: float) -> float:
        """Seconds until there is room in front of it; not positive where there is."""
        return self.free_at_s - now_s - self.queue_bytes / self.bytes_per_s

    def sent(self, size_bytes: int, now_s: float) -> float:
        """Send so many bytes; give the time at which the last of them arrives."""
        self.free_at_s = max(now_s, self.free_at_s) + size_bytes / self.bytes_per_s
        return self.free_at_s + self.delay_s


@dataclass(eq=False)
class _Flow:
    """One direction of one connection."""

    source: socket.socket
    sink: socket.socket
    direction: _Direction
    window_bytes: int
    on_the_way: deque[tuple[float, bytes]] = field(default_factory=deque)
    unseen: deque[tuple[float, int]] = field(default_factory=deque)
    in_flight_bytes: int = 0
    has_ended: bool = False
    is_blocked: bool = False
    is_over: bool = False

    def wants_more(self, now_s: float) -> bool:
        """Whether the source may be read."""
        while self.unseen and self.unseen[0][0] <= now_s:
            self.in_flight_bytes -= self.unseen.popleft()[1]
        return not self.has_ended and self.in_flight_bytes < self.window_bytes and self.direction.full_for_s(now_s) <= 0

    def take(self, now_s: float) -> None:
        """Read from the source, and send it off."""
        data = self.source.recv(_BLOCK_BYTES)
        self.has_ended = not data
        self.in_flight_bytes += len(data)
        self.on_the_way.append((self.direction.sent(len(data), now_s), data))

    def give(self, now_s: float) -> None:
        """Write what has arrived."""
        self.is_blocked = False
        while self.on_the_way and self.on_the_way[0][0] <= now_s:
            at_s, data = self.on_the_way.popleft()
            if not data:
                self.is_over = True
                self.sink.shutdown(socket.SHUT_WR)
                return
            try:
                written = self.sink.send(data)
            except BlockingIOError:
                written = 0
            self.unseen.append((now_s + self.direction.delay_s, written))
            if written < len(data):
                self.on_the_way.appendleft((at_s, data[written:]))
                self.is_blocked = True
                return

    def next_s(self, now_s: float) -> float:
        """Time at which there is something to do without the sockets."""
        times = [self.unseen[0][0]] if self.unseen else []
        if self.on_the_way and not self.is_blocked:
            times.append(self.on_the_way[0][0])
        if not self.has_ended and (full_for_s := self.direction.full_for_s(now_s)) > 0:
            times.append(now_s + full_for_s)
        return min(times, default=now_s + _LONGEST_S)


class _Relay:
    """Carries connections from a listener to a port of this machine."""

    def __init__(
        self,
        listener: socket.socket,
        target_port: int,
        *,
        round_trip_ms: float,
        rate_mbit_per_s: float,
        window_bytes: int,
    ) -> None:
        self._listener = listener
        self._target_port = target_port
        self._round_trip_s = round_trip_ms / 1e3
        self._window_bytes = window_bytes
        bytes_per_s = rate_mbit_per_s * 1e6 / 8
        queue_bytes = max(_LEAST_QUEUE_BYTES, bytes_per_s * self._round_trip_s)
        self._there, self._back = (_Direction(bytes_per_s, self._round_trip_s / 2, queue_bytes) for _ in range(2))
        self._arriving: deque[tuple[float, socket.socket]] = deque()
        self._connections: list[tuple[_Flow, _Flow]] = []

    def serve(self, end: int) -> None:
        """Carry connections until something comes, or ends, at the descriptor `end`."""
        while True:
            now_s = time.monotonic()
            poll, next_s = select.poll(), now_s + _LONGEST_S
            poll.register(end, select.POLLIN)
            poll.register(self._listener, select.POLLIN)
            if self._arriving:
                next_s = min(next_s, self._arriving[0][0])
            for flow in (flow for flows in self._connections for flow in flows if not flow.is_over):
                next_s = min(next_s, flow.next_s(now_s))
            for descriptor, events in self._events(now_s).items():
                poll.register(descriptor, events)
            ready = dict(poll.poll(max(0.0, 1e3 * (next_s - now_s))))
            if end in ready:
                return
            if self._listener.fileno() in ready:
                self._accept()
            self._connect(time.monotonic())
            carried = [flows for flows in self._connections if self._carried(flows, ready)]
            self._connections = carried[1:] + carried[:1]  # none is always the first where room gets free

    def _events(self, now_s: float) -> dict[int, int]:
        events: dict[int, int] = {}
        for flow in (flow for flows in self._connections for flow in flows):
            if flow.wants_more(now_s):
                events[flow.source.fileno()] = events.get(flow.source.fileno(), 0) | select.POLLIN
            if flow.is_blocked:
                events[flow.sink.fileno()] = events.get(flow.sink.fileno(), 0) | select.POLLOUT
        return events

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        self._arriving.append((time.monotonic() + _HANDSHAKE_ROUND_TRIPS * self._round_trip_s, client))

    def _connect(self, now_s: float) -> None:
        while self._arriving and self._arriving[0][0] <= now_s:
            _, client = self._arriving.popleft()
            server = socket.socket()
            _limit_buffers(server)
            try:
                server.connect(("127.0.0.1", self._target_port))
            except OSError:  # nobody listens there: the client finds out too
                client.close()
                server.close()
                continue
            for one in (client, server):
                one.setblocking(False)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            there = _Flow(client, server, self._there, self._window_bytes)
            self._connections.append((there, _Flow(server, client, self._back, self._window_bytes)))

    def _carried(self, flows: tuple[_Flow, _Flow], ready: dict[int, int]) -> bool:
        """Go on with a connection; False once it is over."""
        try:
            for flow in flows:
                now_s = time.monotonic()
                if ready.get(flow.source.fileno(), 0) & ~select.POLLOUT and flow.wants_more(now_s):
                    flow.take(now_s)
                flow.give(now_s)
        except OSError:  # one side has broken it off, and so does the other
            pass
        else:
            if not all(flow.is_over for flow in flows):
                return True
        for flow in flows:
            flow.source.close()
        return False


def _limit_buffers(one: socket.socket) -> None:
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        one.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BYTES)


@contextmanager
def wide_area_relay(
    target_port: int,
    *,
    round_trip_ms: float,
    rate_mbit_per_s: float,
    loss: float = 0.0,
    window_bytes: int = WINDOW_BYTES,
) -> Iterator[int]:
    """Give a port of 127.0.0.1 that leads to `target_port` of this machine, from afar, as long as the block lasts.

    Parameters
    ----------
    loss
        Only 0: a relay of bytes cannot lose packets.
    window_bytes
        Most bytes of one connection that are on their way in one direction.

    Raises
    ------
    ValueError
        Loss was asked for, or a figure is not positive.
    OSError
        The relay did not start.
    """
    if loss:
        raise ValueError(
            "a relay in user space cannot lose packets; take the link of benchmarks/wan.py (root), or no loss"
        )
    if min(round_trip_ms, rate_mbit_per_s, window_bytes) <= 0:
        raise ValueError("round trip, rate and window have to be positive")
    # A process of its own, so that movers in Python do not wait for it, nor it for them.
    figures = ("--round-trip-ms", str(round_trip_ms), "--rate-mbit-per-s", str(rate_mbit_per_s))
    where = ("--target-port", str(target_port), "--window-bytes", str(window_bytes))
    command = [sys.executable, "-I", str(Path(__file__).resolve()), *where, *figures]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        said = process.stdout.readline() if process.stdout else ""
        if not said.startswith("port "):
            raise OSError("the relay did not start; see its message above")
        yield int(said.split()[1])
    finally:
        process.kill()
        process.communicate()


def measured_through_relay(
    *, round_trip_ms: float, rate_mbit_per_s: float, size_bytes: int, window_bytes: int = WINDOW_BYTES
) -> tuple[float, float]:
    """Measure such a relay with one connection: the least round trip (ms) of some bytes, and MB/s of `size_bytes`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_echo_then_count, args=(server,))
        thread.start()
        port = int(server.getsockname()[1])
        figures = {"round_trip_ms": round_trip_ms, "rate_mbit_per_s": rate_mbit_per_s}
        with (
            wide_area_relay(port, **figures, window_bytes=window_bytes) as far_port,
            socket.create_connection(("127.0.0.1", far_port)) as connection,
        ):
            times_ms = []
            for _ in range(5):
                began_s = time.monotonic()
                connection.sendall(b"x")
                connection.recv(1)
                times_ms.append(1e3 * (time.monotonic() - began_s))
            began_s, block = time.monotonic(), bytes(1 << 16)
            for _ in range(size_bytes >> 16):
                connection.sendall(block)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)  # its end comes after the last byte, and half a round trip
            took_s = time.monotonic() - began_s - round_trip_ms / 2e3
        thread.join()
    return min(times_ms), (size_bytes >> 16 << 16) / 1e6 / took_s


def _echo_then_count(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        for _ in range(5):
            connection.sendall(connection.recv(1))
        while connection.recv(1 << 20):
            pass


def main() -> None:
    """Relay until standard input ends."""
    parser = argparse.ArgumentParser(description="a TCP port of this machine, from afar; no root")
    parser.add_argument("--target-port", type=int, required=True)
    parser.add_argument("--round-trip-ms", type=float, default=50.0)
    parser.add_argument("--rate-mbit-per-s", type=float, default=1000.0)
    parser.add_argument("--window-bytes", type=int, default=WINDOW_BYTES)
    given = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listener, suppress(KeyboardInterrupt):
        _limit_buffers(listener)  # its connections get the same
        print(f"port {listener.getsockname()[1]} ({LIMITS})", flush=True)
        _Relay(
            listener,
            given.target_port,
            round_trip_ms=given.round_trip_ms,
            rate_mbit_per_s=given.rate_mbit_per_s,
            window_bytes=given.window_bytes,
        ).serve(sys.stdin.fileno())


if __name__ == "__main__":
    main()

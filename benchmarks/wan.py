"""A wide-area link on one machine: two network namespaces with a set round trip, rate and loss between them.

The kernels of such machines often have no netem, so a small program (`wan_link.c`) carries real IP packets between
two TUN devices: TCP sees distance, queue and loss as it would outside. It needs root, ``ip``, ``gcc`` and
``/dev/net/tun``; `benchmarks/wan_relay.py` does with less, and is less. Python may run a block inside one of the
namespaces (`inside`), children inherit it:

    with wide_area_link(round_trip_ms=50, rate_mbit_per_s=1000) as link:
        with inside(link.there), loopback_sshd(folder, settings=[f"ListenAddress {link.there_address}"]) as sshd: ...
        subprocess.run(link.here_command(["scp", ...]))

As a program it shows what TCP makes of a link: ``python benchmarks/wan.py --round-trip-ms 50 --rate-mbit-per-s 1000``.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_numbers = itertools.count()  # of the links of this process, which may be several at once
_PREFIX = "camnet-wan-"
_ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
_SETTINGS = {
    "net.ipv4.tcp_rmem": "4096 131072 67108864",
    "net.ipv4.tcp_wmem": "4096 65536 67108864",
    "net.ipv4.tcp_congestion_control": "cubic",
    "net.ipv4.tcp_no_metrics_save": "1",
}


@dataclass(frozen=True)
class Link:
    """Two namespaces and the addresses at which each end is reached from the other."""

    here: str
    there: str
    here_address: str = "10.199.0.1"
    there_address: str = "10.199.0.2"

    def here_command(self, arguments: Sequence[str]) -> list[str]:
        """Give a command line that runs at this end."""
        return ["ip", "netns", "exec", self.here, *arguments]


@contextmanager
def wide_area_link(
    *, round_trip_ms: float, rate_mbit_per_s: float, loss: float = 0.0, queue_bytes: int | None = None
) -> Iterator[Link]:
    """Make a link for as long as the block lasts; what a killed process left is removed first.

    Parameters
    ----------
    loss
        Share of the packets of each direction that are lost, at random.
    queue_bytes
        In front of each direction; default: what travels in one round trip, 256 KiB at least.

    Raises
    ------
    OSError, subprocess.CalledProcessError
        There is no root, no ``/dev/net/tun``, no ``gcc`` or no ``ip``.
    """
    _remove_stale()
    number = next(_numbers)
    link = Link(f"{_PREFIX}{os.getpid()}-{number}a", f"{_PREFIX}{os.getpid()}-{number}b")
    devices = (f"cwa{os.getpid() % 10**6}-{number}", f"cwb{os.getpid() % 10**6}-{number}")
    queue_bytes = queue_bytes or max(256 << 10, int(rate_mbit_per_s * 1e6 / 8 * round_trip_ms / 1e3))
    figures = [rate_mbit_per_s * 1e6, round_trip_ms * 1e3 / 2, queue_bytes, round(loss * 1e6)]
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder, _cubic_allowed():
        program = Path(folder) / "wan_link"
        source = Path(__file__).with_name("wan_link.c")
        subprocess.run(["gcc", "-O2", "-pthread", "-o", program, source], check=True)
        arguments = [str(program), *devices, *(str(int(figure)) for figure in figures)]
        relay = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            if relay.stdout is None or relay.stdout.readline() != b"ready\n":
                raise OSError("the link did not start; see its message above")
            _wire(link, devices)
            yield link
        finally:
            relay.kill()
            relay.communicate()
            for name in (link.here, link.there):
                subprocess.run(["ip", "netns", "delete", name], check=False, stderr=subprocess.DEVNULL)


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Be in a namespace with this thread, and with what it starts."""
    with Path("/proc/thread-self/ns/net").open() as before, (Path("/run/netns") / namespace).open() as within:
        _enter(within.fileno())
        try:
            yield
        finally:
            _enter(before.fileno())


def _enter(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _wire(link: Link, devices: Sequence[str]) -> None:
    ends = ((link.here, devices[0], link.here_address), (link.there, devices[1], link.there_address))
    for namespace, device, address in ends:
        _ip("netns", "add", namespace)
        _ip("link", "set", device, "netns", namespace)
        _ip("-n", namespace, "address", "add", f"{address}/24", "dev", device)
        _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", namespace, "link", "set", device, "up")
        for name, value in _SETTINGS.items():
            # Some of these are not there, or not to be changed, in some kernels; the figures tell what came of it.
            command = ["ip", "netns", "exec", namespace, "sysctl", "-qw", f"{name}={value}"]
            subprocess.run(command, check=False, stderr=subprocess.DEVNULL)


@contextmanager
def _cubic_allowed() -> Iterator[None]:
    """Let namespaces take TCP's usual congestion control, which some machines keep to themselves; then forbid it again.

    The list is the machine's, not the namespace's. Connections that are open keep what they have.
    """
    before = _ALLOWED.read_text().split()
    if "cubic" in before:
        yield
        return
    try:
        _ALLOWED.write_text(" ".join([*before, "cubic"]))
    except OSError:
        yield  # `congestion_control` tells what the link has instead
        return
    try:
        yield
    finally:
        _ALLOWED.write_text(" ".join(before))


def congestion_control(link: Link) -> str:
    """Give the TCP congestion control that this end uses; kernels may allow fewer than we ask for."""
    command = link.here_command(["sysctl", "-n", "net.ipv4.tcp_congestion_control"])
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _remove_stale() -> None:
    """Remove the namespaces of processes that are no more."""
    for path in Path("/run/netns").glob(f"{_PREFIX}*"):
        process = path.name.removeprefix(_PREFIX).split("-")[0]
        if not Path(f"/proc/{process}").exists():
            subprocess.run(["ip", "netns", "delete", path.name], check=False)


def measured_round_trip_ms(link: Link, connections: int = 5) -> float:
    """Time of TCP connections over the link, the least of some."""
    with inside(link.there):
        server = socket.create_server((link.there_address, 0))
    times = []
    with server, inside(link.here):
        for _ in range(connections):
            started_s = time.monotonic()
            socket.create_connection(server.getsockname()).close()
            times.append(1000 * (time.monotonic() - started_s))
    return min(times)


def measured_rate_mb_per_s(link: Link, size_bytes: int) -> float:
    """Rate of one plain TCP connection over the link, from its first byte to the receiver's last."""
    with inside(link.there):
        server = socket.create_server((link.there_address, 0))
    received: list[float] = []

    def receive() -> None:
        connection, _ = server.accept()
        with connection:
            while connection.recv(1 << 20):
                pass
        received.append(time.monotonic())

    receiver = threading.Thread(target=receive)
    receiver.start()
    block = bytes(1 << 20)
    with server, inside(link.here):
        with socket.create_connection(server.getsockname()) as connection:
            started_s = time.monotonic()
            for _ in range(size_bytes >> 20):
                connection.sendall(block)
        receiver.join()
    return (size_bytes >> 20 << 20) / 1e6 / (received[0] - started_s)


def main() -> None:
    """Print round trip and rate of a link."""
    parser = argparse.ArgumentParser(description="a wide-area link on one machine")
    parser.add_argument("--round-trip-ms", type=float, default=50.0)
    parser.add_argument("--rate-mbit-per-s", type=float, default=1000.0)
    parser.add_argument("--loss", type=float, default=0.0, help="share of packets that are lost")
    parser.add_argument("--megabytes", type=int, default=1000)
    given = parser.parse_args()
    with wide_area_link(
        round_trip_ms=given.round_trip_ms, rate_mbit_per_s=given.rate_mbit_per_s, loss=given.loss
    ) as link:
        print(f"set: {given.round_trip_ms} ms, {given.rate_mbit_per_s} Mb/s, loss {given.loss}")
        print(f"TCP: {congestion_control(link)}")
        print(f"measured: {measured_round_trip_ms(link):.1f} ms", end=", ", flush=True)
        print(f"{measured_rate_mb_per_s(link, given.megabytes * 1_000_000):.1f} MB/s by one TCP connection")
        if shutil.which("iperf3"):
            with inside(link.there):
                server = subprocess.Popen(["iperf3", "-s", "-1"], stdout=subprocess.DEVNULL)
            time.sleep(1)
            subprocess.run(link.here_command(["iperf3", "-c", link.there_address, "-t", "8"]), check=True)
            server.wait()


if __name__ == "__main__":
    main()

"""The far side of an FDT transfer: a server that is started over SSH for one job, and never left behind."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import paramiko

from tasks.errors import CamNetError, InputError, RetryableFault
from transfer.brake import Brake
from transfer.model import SshAccount
from transfer.servers import FdtTool
from transfer.ssh import SshConnection

_COMMAND = (
    "sh -c '"
    "IFS= read -r java && IFS= read -r jar && read -r control && read -r data || exit 2; exec 3<&0; "
    'LC_ALL=C.UTF-8 "$java" -jar "$jar" -noupdates -p "$control" -tp "$data" -S -nolock -notmp -f "" '
    "</dev/null 3<&- 2>&1 & server=$!; "
    "(read -r end <&3; kill -9 $server) & guard=$!; exec 3<&-; "
    "wait $server; status=$?; kill $guard; exit $status'"
)
"""A constant: what belongs to a site goes to its standard input. The server lives as long as that is open, also
when we are killed or the connection breaks. ``-f ""`` lets in only the address that the SSH connection comes from."""
_READY = b"READY"
_TAIL_BYTES = 16 << 10
_START_S = 60.0
_END_S = 10.0
_TRIES = 5
_POLL_S = 0.1


class FdtServer:
    """A running server.

    Attributes
    ----------
    port
        That clients connect to.
    """

    def __init__(self, channel: paramiko.Channel, port: int) -> None:
        self._channel = channel
        self._said = b""
        self.port = port

    @property
    def said(self) -> str:
        """The last 16 KiB that it said."""
        return self._said.decode(errors="replace")

    def listen(self) -> None:
        """Take in what it has said since; it would stand still when nobody did."""
        while self._channel.recv_ready():
            self._said = (self._said + self._channel.recv(1 << 16))[-_TAIL_BYTES:]

    def is_ready(self, brake: Brake) -> bool:
        """Wait until it listens; False when it ended instead."""
        late_at_s = time.monotonic() + _START_S
        while time.monotonic() < late_at_s:
            ended = self._channel.exit_status_ready()
            self.listen()
            if _READY in self._said.splitlines():
                return True
            if ended:
                return False
            brake.wait(_POLL_S)
        raise RetryableFault(f"does not listen after {_START_S:g} s", subject="the FDT server")

    def status(self) -> int:
        """Exit status of a server that has ended."""
        return self._channel.recv_exit_status()

    def end(self) -> None:
        """End it, and see that it is gone."""
        with suppress(OSError, EOFError, paramiko.SSHException):  # with the connection the server has ended too
            self._channel.shutdown_write()
            gone_at_s = time.monotonic() + _END_S
            while not self._channel.exit_status_ready() and time.monotonic() < gone_at_s:
                self.listen()
                time.sleep(_POLL_S / 10)
            self._channel.close()


@contextmanager
def fdt_server(account: SshAccount, tool: FdtTool, brake: Brake, *, timeout_s: float) -> Iterator[FdtServer]:
    """Run a server at an account as long as the block lasts, at two free ports of its range.

    It takes one job only: FDT fails when the next client comes while it still closes the session of the first.

    Raises
    ------
    InputError
        The account refuses us, or has no Java or jar.
    RetryableFault
        All ports of its range are taken, or it does not start.
    """
    connection = SshConnection(account, timeout_s=timeout_s)
    try:
        server = _started(connection.transport, account, tool, brake, timeout_s)
        try:
            yield server
        finally:
            server.end()
    finally:
        connection.close()


def _started(
    transport: paramiko.Transport, account: SshAccount, tool: FdtTool, brake: Brake, timeout_s: float
) -> FdtServer:
    pairs = list(range(tool.port, tool.port + tool.ports - 1, 2))
    for control in random.sample(pairs, min(_TRIES, len(pairs))):
        channel = transport.open_session(timeout=timeout_s)
        channel.settimeout(timeout_s)
        channel.set_combine_stderr(True)
        channel.exec_command(_COMMAND)
        channel.sendall(f"{tool.java}\n{tool.jar}\n{control}\n{control + 1}\n".encode())
        server = FdtServer(channel, control)
        try:
            if server.is_ready(brake):
                return server
        except BaseException:  # Ctrl-C too: no server may stay behind at the other site
            server.end()
            raise
        if "Address already in use" not in server.said:
            break
    raise _not_started(server, account, tool)


def _not_started(server: FdtServer, account: SshAccount, tool: FdtTool) -> CamNetError:
    where = f"{account.user}@{account.host}:{account.port}"
    if server.status() == 127:
        return InputError(
            f"the account has no program {tool.java}", subject=where, remedy="name its Java in [fdt] of the site file"
        )
    if "jarfile" in server.said:
        return InputError(
            f"the account has no {tool.jar}", subject=where, remedy="name the jar in [fdt] of the site file"
        )
    if "Address already in use" in server.said:
        return RetryableFault(
            f"the ports {tool.port} to {tool.port + tool.ports - 1} are taken",
            subject=where,
            remedy="wait for the transfers that use them, or give [fdt] of the site file more ports",
        )
    said = server.said.strip()[-300:] or "it said nothing"
    return RetryableFault(f"the FDT server did not start: {said}", subject=where)

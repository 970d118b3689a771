"""Which wire a connection takes: TLS where the site has ports open for it, SSH otherwise."""

from __future__ import annotations

import logging
import threading

from transfer.brake import Brake
from transfer.model import SshAccount
from transfer.streams.channel import Channel, SshChannel
from transfer.streams.data_port import DataPort, NoDataPortError

_log = logging.getLogger(__name__)


class Wires:
    """Opens channels to accounts for the time of one transfer, and says once which way they go and why."""

    def __init__(self, stall_s: float, brake: Brake) -> None:
        self._stall_s = stall_s
        self._brake = brake
        self._ports: dict[SshAccount, DataPort] = {}
        self._over_ssh: set[SshAccount] = set()
        self._mutex = threading.Lock()

    def open(self, account: SshAccount) -> Channel:
        """Open a channel, over TLS where that works.

        Raises
        ------
        InputError, RetryableFault
            SSH itself does not work.
        """
        if account.data_ports is None:
            self._tell(account, "its site file names no data_ports")
        elif account not in self._over_ssh:
            with self._mutex:
                channel = self._over_tls(account, account.data_ports)
            if channel:
                return channel
        return SshChannel(account, stall_s=self._stall_s, brake=self._brake)

    def close(self) -> None:
        """End all listeners."""
        for port in self._ports.values():
            port.close()
        self._ports.clear()
        self._over_ssh.clear()

    def _over_tls(self, account: SshAccount, ports: tuple[int, int]) -> Channel | None:
        known = self._ports.get(account)
        try:
            if known:
                return known.open()
        except NoDataPortError:  # its control connection may have broken: once more, with a new one
            self._ports.pop(account).close()
        try:
            port = DataPort(account, ports, stall_s=self._stall_s, brake=self._brake)
            self._ports[account] = port
            channel = port.open()
        except NoDataPortError as reason:
            if account in self._ports:
                self._ports.pop(account).close()
            self._tell(account, str(reason))
            return None
        if not known:
            _log.info("%s: data over TLS 1.3 at port %d", account.host, port.port)
        return channel

    def _tell(self, account: SshAccount, why: str) -> None:
        if account not in self._over_ssh:
            self._over_ssh.add(account)
            _log.info("%s: data over SSH, because %s", account.host, why)

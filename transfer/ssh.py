"""SSH connections: a key on our side, a known host key on the other, nothing else."""

from __future__ import annotations

import socket
from typing import Any, Never

import paramiko
from paramiko.pkey import UnknownKeyType

from tasks.errors import InputError
from transfer.known_hosts import load_known_hosts, place_of_host, place_of_revocation
from transfer.model import SshAccount
from transfer.packets import BurstPacketizer

_CIPHERS = (
    # AES-GCM first: in Python it moves half as much again as CTR with a separate MAC.
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)
_PACKET_BYTES = 1 << 17  # what the server may send at once; each packet costs the same time here
_MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")


class SshConnection:
    """One authenticated connection.

    Parameters
    ----------
    timeout_s
        For each step of connecting.

    Raises
    ------
    InputError
        The host key is unknown, changed or revoked, the account refuses our key, or one of the files is wrong.
    OSError, EOFError, paramiko.SSHException
        The host does not answer, or the connection broke.
    """

    def __init__(self, account: SshAccount, *, timeout_s: float) -> None:
        key = private_key(account)
        self._client = paramiko.SSHClient()
        self._client.set_missing_host_key_policy(_RefuseUnknown(account))
        load_known_hosts(self._client.get_host_keys(), account)
        self.socket = _connect(account, timeout_s)
        try:
            self._authenticate(account, key, timeout_s)
        except BaseException:  # an interruption too must not leave it open
            self.close()
            raise

    def _authenticate(self, account: SshAccount, key: paramiko.PKey, timeout_s: float) -> None:
        try:
            self._client.connect(
                account.host,
                account.port,
                account.user,
                pkey=key,
                sock=self.socket,
                timeout=timeout_s,
                banner_timeout=timeout_s,
                auth_timeout=timeout_s,
                channel_timeout=timeout_s,
                allow_agent=False,
                look_for_keys=False,
                transport_factory=_transport,
            )
        except paramiko.BadHostKeyException as error:
            raise _changed_key(account, error) from error
        except paramiko.AuthenticationException as error:
            raise InputError(
                f"the account refuses the key {account.key} ({error})",
                subject=_name(account),
                remedy="add its public half to the authorized_keys of the account, or name the right key",
            ) from error
        self.transport.set_keepalive(max(1, min(30, int(timeout_s / 2))))

    @property
    def transport(self) -> paramiko.Transport:
        """The live transport."""
        transport = self._client.get_transport()
        if transport is None:
            raise ConnectionResetError("the connection is closed")
        return transport

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
        self.socket.close()


class _RefuseUnknown(paramiko.RejectPolicy):
    """Refuses a host whose key we do not have, and says what to do about it."""

    def __init__(self, account: SshAccount) -> None:
        self._account = account

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> Never:
        raise _refused_host(self._account, key) or InputError(
            f"the host key of {hostname} ({key.get_name()} {key.fingerprint}) is not in {self._account.known_hosts}",
            subject=_name(self._account),
            remedy=f"compare it with the key that the site publishes, then add its line to {self._account.known_hosts}",
        )


def _transport(*arguments: Any, **options: Any) -> paramiko.Transport:  # noqa: ANN401 - handed on to paramiko
    options |= {"packetizer_class": BurstPacketizer, "default_max_packet_size": _PACKET_BYTES}
    transport = paramiko.Transport(*arguments, **options)
    security = transport.get_security_options()
    security.ciphers = _CIPHERS
    security.digests = _MACS
    return transport


def _connect(account: SshAccount, timeout_s: float) -> socket.socket:
    try:
        connection = socket.create_connection((account.host, account.port), timeout=timeout_s)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise
        raise InputError(
            f"no such host is known ({error.strerror})", subject=_name(account), remedy="check the site file"
        ) from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def private_key(account: SshAccount) -> paramiko.PKey:
    """Read the account's key; raise an `InputError` that says why it is of no use."""
    remedy = "name a private key file without a passphrase in the site file"
    try:
        return paramiko.PKey.from_path(account.key)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", subject=account.key, remedy=remedy) from error
    except (paramiko.SSHException, UnknownKeyType, ValueError, TypeError) as error:
        # cryptography raises the last two: TypeError where a passphrase is needed, ValueError for no key at all
        raise InputError(f"is no usable private key ({error})", subject=account.key, remedy=remedy) from error


def _refused_host(account: SshAccount, key: paramiko.PKey) -> InputError | None:
    """Describe a host that shows a key which known_hosts calls revoked; None where it does not."""
    place = place_of_revocation(account, key.get_base64())
    if place is None:
        return None
    return InputError(
        f"shows a host key that {place} calls revoked",
        subject=_name(account),
        remedy=f"ask the site for its new key, and write that into {account.known_hosts}; do not take the line out",
    )


def _changed_key(account: SshAccount, error: paramiko.BadHostKeyException) -> InputError:
    return _refused_host(account, error.key) or InputError(
        f"shows the host key {error.key.get_name()} {error.key.fingerprint}, but {place_of_host(account)} has another "
        "one; somebody may be in between",
        subject=_name(account),
        remedy=f"ask the site whether its key was changed; only then replace the line in {account.known_hosts}",
    )


def _name(account: SshAccount) -> str:
    return f"{account.user}@{account.host}:{account.port}"

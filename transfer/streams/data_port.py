"""Data connections beside SSH, where a site has a range of ports open: TLS 1.3 with a certificate of one transfer."""

from __future__ import annotations

import datetime
import secrets
import select
import socket
import ssl
import time
from contextlib import suppress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from transfer.brake import Brake
from transfer.model import SshAccount
from transfer.streams.channel import SshChannel, Waiting, buffered
from transfer.streams.far_line import Line
from transfer.streams.far_listener import TOKEN_BYTES

_CONNECT_S = 5.0
_NAME = "camnet-streams"


class NoDataPortError(Exception):
    """The far side cannot listen, or cannot be reached where it does; SSH still can."""


class DataPort:
    """A far side that listens; it ends with this object, or when the SSH connection to it breaks.

    Key, certificate and token are made here, for this one object, and go to the far side over SSH's standard
    input. The far side proves itself with that very certificate, we prove ourselves with the token.

    Raises
    ------
    NoDataPortError
        No port of the range is free there, or its Python has no TLS 1.3.
    """

    def __init__(self, account: SshAccount, ports: tuple[int, int], *, stall_s: float, brake: Brake) -> None:
        self._host = account.host
        self._stall_s = stall_s
        self._brake = brake
        self._token = secrets.token_bytes(TOKEN_BYTES)
        self._certificate, key = _self_signed()
        self._control = SshChannel(account, stall_s=stall_s, brake=brake)
        try:
            request = {"op": "listen", "ports": list(ports), "token": self._token.hex()}
            self._control.line.send({**request, "certificate": self._certificate, "key": key})
            answer = self._control.line.receive()
        except ValueError as error:
            self.close()
            raise NoDataPortError("the far side answers nonsense") from error
        except BaseException:  # an interruption too must not leave it open
            self.close()
            raise
        if not isinstance(answer.get("port"), int):
            self.close()
            raise NoDataPortError(f"the far side cannot listen at a port from {ports[0]} to {ports[1]} ({answer})")
        self.port = int(answer["port"])

    def open(self) -> TlsChannel:
        """Open a data connection.

        Raises
        ------
        NoDataPortError
            It cannot be reached, or is somebody else.
        """
        try:
            connection = socket.create_connection((self._host, self.port), timeout=_CONNECT_S)
            try:
                return TlsChannel(connection, self._certificate, self._token, Waiting(self._stall_s, self._brake))
            except BaseException:  # an interruption too must not leave it open
                connection.close()
                raise
        except OSError as error:
            raise NoDataPortError(f"port {self.port} of {self._host} cannot be used ({error})") from error

    def close(self) -> None:
        """End the listener and all its connections."""
        self._control.close()


class TlsChannel:
    """See `transfer.streams.channel.Channel`."""

    def __init__(self, connection: socket.socket, certificate: str, token: bytes, waiting: Waiting) -> None:
        self._waiting = waiting
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # the certificate itself is known, and compared
        context.load_verify_locations(cadata=certificate)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(connection)
        if self._socket.getpeercert(binary_form=True) != ssl.PEM_cert_to_DER_cert(certificate):
            self._socket.close()
            raise ConnectionRefusedError("another certificate than the one that was made for it")
        self._socket.sendall(token)
        self._socket.setblocking(False)
        self.line = Line(buffered(self._receive), self._push)

    def close(self) -> None:
        """See `Channel.close`."""
        with suppress(OSError):  # it may be broken
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _receive(self, view: memoryview) -> int:
        began_s = time.monotonic()
        while True:
            try:
                count = self._socket.recv_into(view)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as want:
                self._wait(want, began_s)
                continue
            except ssl.SSLError as error:
                raise ConnectionResetError(f"TLS ended it: {error.reason}") from error
            if not count:
                raise ConnectionResetError("the far side ended the data connection")
            return count

    def _push(self, view: memoryview) -> int:
        began_s = time.monotonic()
        while True:
            try:
                return self._socket.send(view)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as want:
                self._wait(want, began_s)
            except ssl.SSLError as error:
                raise ConnectionResetError(f"TLS ended it: {error.reason}") from error

    def _wait(self, want: ssl.SSLError, began_s: float) -> None:
        """Wait for more of a record; one that comes byte by byte is a stall, too."""
        event = select.POLLIN if isinstance(want, ssl.SSLWantReadError) else select.POLLOUT
        self._waiting.until(self._socket.fileno(), event, began_s)


def _self_signed() -> tuple[str, str]:
    """Make a certificate and its key, as PEM; valid for a month around clocks that differ by a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + 30 * day)
        .sign(key, hashes.SHA256())
    )
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), plain.decode()

"""Data connections beside SSH. Sent to the far side as text: standard library of Python 3.6 only."""

import os
import socket
import threading

from transfer.streams.far_line import Line

TYPE_CHECKING = False  # typing takes longer to import than the rest together
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import Any

TOKEN_BYTES = 32
_GREET_S = 10.0
_MOST = 64
_BUFFER_BYTES = 1 << 16


def listen(request: "dict[str, Any]", serve: "Callable[[Line], None]") -> int:
    """Take TLS 1.3 connections at a free port of a range, from whoever knows the token; return the port.

    Certificate, key and token came over SSH and are of this one transfer. It listens at the address that
    the SSH connection came to, and nowhere else.
    """
    context = _context(request["certificate"], request["key"])
    first, last = request["ports"]
    listener = _bound(first, last)
    token = bytes.fromhex(request["token"])
    room = threading.BoundedSemaphore(_MOST)

    def take() -> None:
        while True:
            connection, _ = listener.accept()
            if room.acquire(blocking=False):
                threading.Thread(target=work, args=(connection,), daemon=True).start()
            else:
                connection.close()

    def work(connection: socket.socket) -> None:
        try:
            _serve(connection, context, token, serve)
        except (OSError, EOFError, ValueError):
            pass  # whoever it was finds the connection closed
        finally:
            connection.close()
            room.release()

    threading.Thread(target=take, daemon=True).start()
    return int(listener.getsockname()[1])


def _serve(connection: socket.socket, context: "ssl.SSLContext", token: bytes, serve: "Callable[[Line], None]") -> None:
    import hmac

    connection.settimeout(_GREET_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    with context.wrap_socket(connection, server_side=True) as secured:
        source = secured.makefile("rb", _BUFFER_BYTES)
        if hmac.compare_digest(source.read(TOKEN_BYTES), token):
            secured.settimeout(None)
            serve(Line(source, secured.send))  # type: ignore[arg-type]  # typeshed says less than it is


def _context(certificate: str, key: str) -> "ssl.SSLContext":
    import ssl  # they take long to import, and only a listener needs them
    import tempfile

    if not getattr(ssl, "HAS_TLSv1_3", False):
        raise OSError(95, "no TLS 1.3")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # It is taken from files only; this one is readable by the account alone, and gone at once.
    descriptor, path = tempfile.mkstemp()
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(key + certificate)
        context.load_cert_chain(path)
    finally:
        os.unlink(path)  # noqa: PTH108 - Python 3.6 style throughout
    return context


def _bound(first: int, last: int) -> socket.socket:
    address = [*os.environ.get("SSH_CONNECTION", "").split(), "", "", ""][2]
    problem = OSError(98, "no port")
    for port in range(first, last + 1):
        listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen(_MOST)
        except OSError as error:
            problem = error
            listener.close()
        else:
            return listener
    raise problem

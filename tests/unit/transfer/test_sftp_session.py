"""The SFTP session before a real server whose answers come late, short, out of order and in crumbs."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.services.sshd_route import random_bytes
from transfer import sftp_session, sftp_wire
from transfer.sftp_session import SftpSession
from transfer.sftp_wire import Answer
from transfer.stall import StallWatch

_FOLDERS = "/usr/lib/openssh:/usr/libexec/openssh:/usr/lib/ssh:/usr/libexec:/usr/lib/misc"
_READ, _SEEN = 5, 24
LARGE_BYTES = 255 << 10
"""Payload of one request, as OpenSSH's limits allow it."""


class UnrulyServer:
    """A channel to a real ``sftp-server``.

    Requests to read are shortened, so that it answers with less than was asked for; its answers are held back and
    given in another order, a few bytes at a time.
    """

    def __init__(self, seed: int) -> None:
        program = shutil.which("sftp-server", path=_FOLDERS)
        assert program is not None
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._random = random.Random(seed)
        self._asked = self._answered = 0
        self._held: list[bytes] = []
        self._ready = b""
        self.swapped = 0
        self._mutex = threading.Lock()

    def invoke_subsystem(self, name: str) -> None:
        assert name == "sftp"

    def sendall(self, data: bytes) -> None:
        while data:
            (size,) = struct.unpack_from(">I", data)
            assert size <= len(data) - 4
            self._ask(data[: 4 + size])
            data = data[4 + size :]

    def _ask(self, packet: bytes) -> None:
        assert self._process.stdin is not None
        kind = packet[4]
        if kind == _READ:
            (wanted,) = struct.unpack(">I", packet[-4:])
            packet = packet[:-4] + struct.pack(">I", self._random.randint(1, wanted))
        self._process.stdin.write(packet)
        self._asked += 1

    def recv(self, most_bytes: int) -> bytes:
        if not self._ready:
            while self._answered < self._asked and len(self._held) < _SEEN:
                self._held.append(self._packet())
                self._answered += 1
            chosen = self._random.randrange(len(self._held))
            self.swapped += chosen > 0
            self._ready = self._held.pop(chosen)
        crumb = self._random.choice([1, 3, 1000, most_bytes])
        taken, self._ready = self._ready[:crumb], self._ready[crumb:]
        return taken

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()

    def _packet(self) -> bytes:
        head = self._exactly(4)
        return head + self._exactly(struct.unpack(">I", head)[0])

    def _exactly(self, size: int) -> bytes:
        assert self._process.stdout is not None
        data = b""
        while len(data) < size:
            block = self._process.stdout.read(size - len(data))
            assert block
            data += block
        return data


class NoWatch:
    """A watch that never fires: there is no socket here."""

    def waiting(self) -> Any:  # noqa: ANN401 - a context manager
        return threading.Lock()


@pytest.fixture(params=range(3))
def server(request: pytest.FixtureRequest) -> Iterator[UnrulyServer]:
    server = UnrulyServer(request.param)
    yield server
    server.close()


def session_with(server: UnrulyServer) -> SftpSession:
    return SftpSession(server, cast("StallWatch", NoWatch()))


def test_short_answers_in_any_order_make_the_whole_file(server: UnrulyServer, tmp_path: Path) -> None:
    content = random_bytes(40 * LARGE_BYTES + 17)
    (tmp_path / "a").write_bytes(content)
    session = session_with(server)
    handle = session.open(os.fsencode(tmp_path / "a"), sftp_session.READ)
    assert b"".join(session.read(handle, 1000, len(content) - 1000)) == content[1000:]
    assert b"".join(session.read(handle, 0, len(content) + 5)) == content  # it ends where the file ends
    session.close(handle)
    assert server.swapped > 10


def test_acknowledgements_in_any_order_are_all_waited_for(server: UnrulyServer, tmp_path: Path) -> None:
    content = random_bytes(60 * LARGE_BYTES + 17)
    session = session_with(server)
    handle = session.open(os.fsencode(tmp_path / "a"), sftp_session.WRITE | sftp_session.CREATE)
    session.write(handle, 0, [content[:100_001], content[100_001:]])
    assert (tmp_path / "a").read_bytes() == content
    session.abandon(handle)
    paths = [os.fsencode(tmp_path / name) for name in ("a", "missing", ".")]
    sizes = [found and found[1] for found in session.lstat(paths)]
    assert sizes[:2] == [len(content), None]
    assert server.swapped > 10


def test_an_answer_to_nothing_that_was_asked_is_not_taken_for_another(server: UnrulyServer, tmp_path: Path) -> None:
    session = session_with(server)
    with pytest.raises(FileNotFoundError):
        session.open(os.fsencode(tmp_path / "missing"), sftp_session.READ)
    session.wire._answers[session.wire._last_request + 1000] = Answer(sftp_wire.STATUS, memoryview(bytes(4)))
    assert session.lstat([os.fsencode(tmp_path)])[0] is not None

r"""The far side of the mover ``streams``. Sent there as text: standard library of Python 3.6, and `far_files`.

Requests and answers are frames: the length of a JSON object (4 bytes, big endian), the object, and as many raw
bytes as its ``size`` says where the operation carries any. Requests are answered in order. ``root``, ``put`` and
``follow`` have no answer; their errors come with the next one that has. An answer with ``errno``,
``refused`` or ``words`` is an error; the connection goes on. It ends with the requests.
"""

import contextlib
import os
import sys
import time

from transfer.streams.far_files import BLOCK_BYTES, Folder, Growing, Refusal, checks_of, digest_of, told, write_all
from transfer.streams.far_group import Group
from transfer.streams.far_line import Line, widen
from transfer.streams.far_listener import listen

TYPE_CHECKING = False  # typing takes longer to import than the rest together
if TYPE_CHECKING:
    from typing import Any

GREETING = b"\ncamnet-streams/1\n"
_BEAT_S = 0.5
_MOMENT_S = 0.005
LONGEST_WAIT_S = 1.0


class Session:
    """One connection: a root folder, and at most one file that is digested while it grows."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.folder = Folder(".")
        self.group = None  # type: Group | None
        self.growing = None  # type: Growing | None
        self.block = memoryview(bytearray(BLOCK_BYTES))
        self.beaten = time.monotonic()

    def serve(self) -> None:
        """Answer requests until they end."""
        operations = {name[3:]: getattr(self, name) for name in dir(self) if name.startswith("on_")}
        try:
            while True:
                request = self.line.receive()
                try:
                    answer = operations[request["op"]](request)
                except (OSError, Refusal) as error:
                    answer = told(error)
                if answer is not None:
                    self.line.send(answer)
        except EOFError:
            return
        finally:
            self.unfollow()
            if self.group is not None:
                self.group.close()

    def beat(self) -> None:
        """Say, now and then, that the work goes on; for operations that somebody waits for."""
        if time.monotonic() - self.beaten > _BEAT_S:
            self.beaten = time.monotonic()
            self.line.send({"beat": True})

    def on_root(self, request: "dict[str, Any]") -> None:
        """Work below this folder from now on."""
        self.folder = Folder(request["root"])

    def on_ping(self, request: "dict[str, Any]") -> "dict[str, Any]":
        """Answer at once."""
        return {}

    def on_stat(self, request: "dict[str, Any]") -> "dict[str, Any]":
        """Size of each path; its digest too where the size is the one that is asked about, or -1."""
        states = []  # type: list[dict[str, Any] | None]
        for path, size in zip(request["paths"], request["sizes"]):  # noqa: B905 - Python 3.6
            try:
                states.append(self.state(path, size))
            except (OSError, Refusal) as error:
                states.append(told(error))
            self.beat()
        return {"states": states}

    def state(self, path: str, asked: int) -> "dict[str, Any] | None":
        """Describe one file."""
        size = self.folder.size(path)
        if size is None or asked not in (size, -1):
            return None if size is None else {"bytes": size}
        descriptor = self.folder.open(path, os.O_RDONLY)
        try:
            return digest_of(descriptor, self.beat)
        finally:
            os.close(descriptor)

    def on_read(self, request: "dict[str, Any]") -> "dict[str, Any]":
        """Send a part of a file: ``size``, the bytes, and then an empty answer or an error."""
        position, end = request["offset"], request["offset"] + request["size"]
        descriptor = self.folder.open(request["path"], os.O_RDONLY)
        try:
            there = os.fstat(descriptor).st_size
            if there < end:
                raise Refusal("early", request["path"], there)
            self.line.send({"size": request["size"]})
            problem = None  # type: Exception | None
            while position < end:
                step = sent = min(BLOCK_BYTES, end - position)
                if problem is None:
                    try:
                        sent = self.line.pass_file(descriptor, position, step)
                        problem = None if sent else Refusal("early", request["path"], position)
                    except BrokenPipeError:
                        raise
                    except OSError as error:
                        problem = error
                if problem is not None:  # the bytes were promised; the error comes after them
                    self.line.write(memoryview(bytes(step)))
                    sent = step
                position += sent
        finally:
            os.close(descriptor)
        return told(problem) if problem else {}

    def on_checks(self, request: "dict[str, Any]") -> "dict[str, Any]":
        """Checksums of a file, piece by piece of ``step`` bytes; to find the one that was damaged."""
        descriptor = self.folder.open(request["path"], os.O_RDONLY)
        try:
            return {"crc32": checks_of(descriptor, request["step"], self.beat)}
        finally:
            os.close(descriptor)

    def on_write(self, request: "dict[str, Any]") -> "dict[str, Any]":
        """Write bytes at their place. ``arrived`` is for the digest under way.

        The file is made only where the request says so: what is left of a connection that broke must not
        bring back a partial file that has got its name meanwhile.
        """
        if self.growing is not None and "arrived" in request:
            self.growing.advance(request["arrived"])
            # The file is not there before its digest is: where both share the processors, it must not fall behind.
            # Not for long at a time: who sends here takes a pipe that stays full for a connection that stalls.
            until = time.monotonic() + LONGEST_WAIT_S
            while self.growing.is_behind and time.monotonic() < until:
                time.sleep(_MOMENT_S)
        descriptor, problem = -1, None  # type: int, Exception | None
        try:
            flags = os.O_WRONLY | os.O_CREAT if request.get("make") else os.O_WRONLY
            descriptor = self.folder.open(request["path"], flags, create=bool(request.get("make")))
        except (OSError, Refusal) as error:
            problem = error
        try:
            problem = self.take(descriptor, request["offset"], request["size"], problem)
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        return told(problem) if problem else {}

    def take(self, descriptor: int, position: int, size: int, problem: "Exception | None") -> "Exception | None":
        """Receive bytes into a file; after a problem they are only received. Return the problem."""
        end = position + size
        while position < end:
            view = self.block[: min(BLOCK_BYTES, end - position)]
            self.line.fill(view)
            if problem is None:
                try:
                    write_all(descriptor, view, position)
                except OSError as error:
                    problem = error
            position += len(view)
        return problem

    def on_put(self, request: "dict[str, Any]") -> None:
        """Take a small file into the group that the next ``commit`` is about."""
        if self.group is None:
            self.group = Group(self.folder)
        descriptor, problem = -1, None  # type: int, Exception | None
        try:
            descriptor = self.group.begin(request)
        except (OSError, Refusal) as error:
            problem = error
        problem = self.take(descriptor, 0, request["size"], problem)
        self.group.add(request, descriptor, problem)

    def on_commit(self, request: "dict[str, Any]") -> "dict[str, Any]":
        """Flush, verify and rename the files of the group."""
        group, self.group = self.group, None
        return {"results": group.commit() if group else []}

    def on_follow(self, request: "dict[str, Any]") -> None:
        """Begin the digest of a file that is being written; ``write`` says how far it may go."""
        self.unfollow()
        with contextlib.suppress(OSError, Refusal):  # ``finish`` says so
            self.growing = Growing(self.folder.open(request["path"], os.O_RDONLY))
            self.growing.thread.start()

    def unfollow(self) -> None:
        """End the digest that is under way."""
        if self.growing is not None:
            self.growing.close()
        self.growing = None

    def on_finish(self, request: "dict[str, Any]") -> "dict[str, Any]":
        """Digest the rest of the file that was followed, and tell it."""
        growing = self.growing
        if growing is None:
            return told(Refusal("kind", ""))
        growing.advance(-1)
        while growing.thread.is_alive():
            growing.thread.join(_BEAT_S)
            self.beat()
        self.unfollow()
        return told(growing.problem) if growing.problem else growing.told()

    def on_listen(self, request: "dict[str, Any]") -> "dict[str, Any]":
        """Take further connections, over TLS at a port of the range; until this connection ends."""
        port = listen(request, lambda line: Session(line).serve())
        return {"port": port}

    def on_publish(self, request: "dict[str, Any]") -> "dict[str, Any]":
        """Give a file its final name."""
        self.folder.publish(request["partial"], request["final"])
        return {}

    def on_remove(self, request: "dict[str, Any]") -> "dict[str, Any]":
        """Remove a file."""
        self.folder.remove(request["path"])
        return {}

    def on_remove_folder(self, request: "dict[str, Any]") -> "dict[str, Any]":
        """Remove an empty folder."""
        self.folder.remove_folder(request["path"])
        return {}

    def on_free(self, request: "dict[str, Any]") -> "dict[str, Any]":
        """Tell how much room there is."""
        return {"bytes": self.folder.free_bytes()}


def send_file(descriptor: int, position: int, size: int) -> int:
    """Send some bytes of an open file to standard output."""
    return os.sendfile(1, descriptor, position, size)


def main() -> None:
    """Serve standard input and output."""
    patient = widen(0)
    widen(1)
    os.write(1, GREETING)
    status = 1
    try:
        Session(Line(sys.stdin.buffer, lambda view: os.write(1, view), send_file, patient)).serve()
        status = 0
    except Exception as error:
        os.write(2, ("%s: %s\n" % (type(error).__name__, error)).encode())  # noqa: UP031 - as long as any error's text
    finally:
        os._exit(status)  # nothing stays behind: not the listener, and none of its connections


if __name__ == "__main__":
    main()

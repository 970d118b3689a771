"""The script for the far side, as it runs there: what it answers, what it refuses, and what it bounds."""

from __future__ import annotations

import ast
import errno
import hashlib
import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from transfer.streams import far_files, far_group, far_line, far_listener, far_side
from transfer.streams.far_line import MAX_FRAME_BYTES, Line
from transfer.streams.far_store import FarStore
from transfer.streams.script import COMMAND, SCRIPT

MODULES = (far_files, far_group, far_line, far_listener, far_side)


class FarSide:
    """The script in a process, as SSH would run it."""

    def __init__(self, root: Path) -> None:
        self.process = subprocess.Popen(["sh", "-c", COMMAND], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.output = io.BufferedReader(self.process.stdout)  # type: ignore[type-var]  # a raw pipe
        self.line = Line(self.output, self.process.stdin.write)
        self.line.write(memoryview(SCRIPT))
        assert self.output.read(len(far_side.GREETING)) == far_side.GREETING
        self.line.send({"op": "root", "root": str(root)})

    def ask(self, content: bytes = b"", **request: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        self.line.send(request)
        self.line.write(memoryview(content))
        return self.line.receive()

    def ends(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.output.close()
        return self.process.wait(timeout=10)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def far(root: Path) -> Iterator[FarSide]:
    side = FarSide(root)
    try:
        yield side
    finally:
        side.process.kill()
        side.ends()


def put(far: FarSide, name: str, content: bytes, *, digest: str | None = None) -> None:
    sha256 = digest or hashlib.sha256(content).hexdigest()
    far.line.send({"op": "put", "partial": f".{name}.part", "final": name, "size": len(content), "sha256": sha256})
    far.line.write(memoryview(content))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.__name__))
def test_it_is_of_the_standard_library_and_an_old_python(module: Any) -> None:  # noqa: ANN401 - a module
    tree = ast.parse(Path(module.__file__).read_text(), feature_version=(3, 6))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    ours = {name for name in names if name.split(".")[0] not in sys.stdlib_module_names}
    assert ours <= {sent.__name__ for sent in MODULES}
    # What is not there in 3.6, or is evaluated there: new syntax of types outside of quotes.
    assert "__future__" not in names
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.NamedExpr | ast.Match)]
    for node in ast.walk(tree):
        for one in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            assert not isinstance(one, ast.Subscript | ast.BinOp), ast.unparse(node)


def test_the_command_is_one_line_without_names_and_secrets() -> None:
    assert "\n" not in COMMAND
    assert len(COMMAND) < 200


def test_it_ends_with_its_input_and_leaves_nothing(root: Path) -> None:
    far = FarSide(root)
    put(far, "a.bin", b"never committed")
    assert far.ends() == 0
    assert list(root.iterdir()) == []


def test_pieces_are_written_in_place_and_read_back(far: FarSide, root: Path) -> None:
    content = os.urandom(700_000)
    assert far.ask(op="write", path="sub/a", offset=0, size=0, make=True) == {}
    for offset in (300_000, 0):
        part = content[offset : offset + (300_000 if offset == 0 else 400_000)]
        assert far.ask(part, op="write", path="sub/a", offset=offset, size=len(part)) == {}
    assert (root / "sub/a").read_bytes() == content
    assert far.ask(op="read", path="sub/a", offset=1, size=5) == {"size": 5}
    assert far.output.read(5) == content[1:6]
    assert far.line.receive() == {}
    steps = [content[start : start + 300_000] for start in (0, 300_000, 600_000)]
    assert far.ask(op="checks", path="sub/a", step=300_000) == {"crc32": [zlib.crc32(step) for step in steps]}
    assert far.ask(op="checks", path="sub/a", step=700_000) == {"crc32": [zlib.crc32(content)]}
    assert far.ask(op="read", path="sub/a", offset=700_000, size=1)["refused"] == "early"


def test_a_piece_makes_no_file(far: FarSide, root: Path) -> None:
    # What is left of a broken connection must not bring back a partial file that has its name by now.
    assert far.ask(b"abc", op="write", path="a", offset=0, size=3) == {"errno": errno.ENOENT}
    assert list(root.iterdir()) == []
    assert far.ask(op="ping") == {}


def test_an_error_in_the_middle_keeps_the_frames_apart(far: FarSide, root: Path) -> None:
    (root / "folder").mkdir()
    answer = far.ask(os.urandom(600_000), op="write", path="folder", offset=0, size=600_000, make=True)
    assert answer["refused"] == "kind"
    assert far.ask(op="ping") == {}


@pytest.mark.parametrize("path", ["../out", "sub/../../out", "/etc/x", "a/./b", "", "sub/..", "a//b"])
@pytest.mark.parametrize("operation", ["write", "put"])
def test_no_path_leads_out(far: FarSide, root: Path, tmp_path: Path, path: str, operation: str) -> None:
    (root / "sub").mkdir()
    if operation == "write":
        answer = far.ask(b"x", op="write", path=path, offset=0, size=1, make=True)
    else:
        head = {"partial": path, "final": path, "size": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
        far.line.send({"op": "put", **head})
        far.line.write(memoryview(b"x"))
        (answer,) = far.ask(op="commit")["results"]
    assert "refused" in answer or "errno" in answer
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_links_are_refused_on_the_way_and_at_the_end(far: FarSide, root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(tmp_path)
    (root / "file").symlink_to(tmp_path / "secret")
    for path in ("link/secret", "file"):
        assert far.ask(op="read", path=path, offset=0, size=1)["refused"] == "link"
        assert far.ask(b"x", op="write", path=path, offset=0, size=1, make=True)["refused"] == "link"
        assert far.ask(op="stat", paths=[path], sizes=[-1])["states"][0]["refused"] == "link"
    put(far, "file", b"new")
    assert far.ask(op="commit")["results"] == [{"refused": "link", "name": "file", "where": 0}]
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_a_group_names_what_is_whole_and_nothing_else(far: FarSide, root: Path) -> None:
    (root / "b.bin").write_bytes(b"what was there")
    put(far, "a.bin", b"a" * 100)
    put(far, "b.bin", b"b" * 100, digest="0" * 64)
    put(far, "c.bin", b"")
    assert far.ask(op="commit")["results"] == [{}, {"damaged": True}, {}]
    assert (root / "a.bin").read_bytes() == b"a" * 100
    assert (root / "b.bin").read_bytes() == b"what was there"
    assert (root / "c.bin").read_bytes() == b""
    assert far.ask(op="commit")["results"] == []


def test_folders_and_room(far: FarSide, root: Path) -> None:
    (root / "full").mkdir()
    (root / "full/a").write_bytes(b"a")
    (root / "empty").mkdir()
    for name in ("full", "empty", "missing", "missing/below"):
        assert far.ask(op="remove_folder", path=name) == {}
    assert [path.name for path in root.iterdir()] == ["full"]
    room = far.ask(op="free")["bytes"]
    assert 0 < room <= os.statvfs(root).f_frsize * os.statvfs(root).f_blocks
    far.line.send({"op": "root", "root": str(root / "not/yet/there")})
    assert far.ask(op="free")["bytes"] > 0


def test_two_groups_do_not_write_one_partial_file(far: FarSide, root: Path) -> None:
    other = FarSide(root)
    try:
        put(other, "a.bin", b"one")
        assert other.ask(op="ping") == {}  # it has the file by now
        put(far, "a.bin", b"two")
        assert far.ask(op="commit")["results"] == [{"errno": errno.EAGAIN}]
        assert other.ask(op="commit")["results"] == [{}]
        assert (root / "a.bin").read_bytes() == b"one"
    finally:
        other.ends()


def test_a_digest_grows_with_the_file(far: FarSide, root: Path) -> None:
    content = os.urandom(1_000_000)
    far.ask(op="write", path="a", offset=0, size=0, make=True)
    far.line.send({"op": "follow", "path": "a"})
    for offset in range(0, 1_000_000, 250_000):
        far.ask(content[offset : offset + 250_000], op="write", path="a", offset=offset, size=250_000, arrived=offset)
    assert far.ask(op="finish") == {"bytes": 1_000_000, "sha256": hashlib.sha256(content).hexdigest()}
    assert "refused" in far.ask(op="finish")  # nothing is followed any more
    far.line.send({"op": "follow", "path": "missing"})
    assert "refused" in far.ask(op="finish")


def following(root: Path, arrived_bytes: int) -> far_side.Session:
    with (root / "a").open("wb") as file:
        file.truncate(arrived_bytes)
    session = far_side.Session(Line(io.BufferedReader(io.BytesIO(b"x")), len))
    session.on_root({"root": str(root)})
    session.on_follow({"path": "a"})
    return session


def test_what_arrives_does_not_run_away_from_its_digest(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far_side, "LONGEST_WAIT_S", 60.0)
    session = following(root, 128 << 20)
    assert session.growing is not None
    assert session.on_write({"path": "a", "offset": 0, "size": 1, "arrived": 128 << 20}) == {}
    assert session.growing.size >= (128 << 20) - far_files.MOST_BEHIND_BYTES
    session.unfollow()


def test_a_digest_that_stands_still_does_not_hold_a_stream_up_for_long(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(far_side, "LONGEST_WAIT_S", 0.05)
    session = following(root, 128 << 20)
    assert session.growing is not None
    with session.growing.changed:  # its thread waits for this before each block
        assert session.on_write({"path": "a", "offset": 0, "size": 1, "arrived": 128 << 20}) == {}
        assert session.growing.is_behind
    session.unfollow()


class OfProcess:
    """The channel of a `FarStore` to the script in a process."""

    def __init__(self, far: FarSide) -> None:
        self.line = far.line

    def close(self) -> None:
        """The fixture ends the process."""


def test_a_small_file_that_shrinks_on_its_way_is_damaged_and_the_next_one_is_not(
    far: FarSide, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "source").write_bytes(b"abc")
    store = FarStore(lambda: OfProcess(far), str(root), "me@host")
    with (tmp_path / "source").open("rb") as source:
        for name, size_bytes in (("longer", 5), ("whole", 3)):
            sha256 = hashlib.sha256(b"abc").hexdigest()
            request = {"partial": f".{name}.part", "final": name, "size": size_bytes, "sha256": sha256}
            store.put_file(request, source.fileno())
    store.commit()
    assert store.committed(2) == [False, True]
    assert not (root / "longer").exists()
    assert (root / "whole").read_bytes() == b"abc"


@pytest.mark.parametrize(
    "nonsense",
    [
        struct.pack(">I", MAX_FRAME_BYTES + 1),
        struct.pack(">I", 0xFFFFFFFF),
        struct.pack(">I", 2) + b"[]",
        struct.pack(">I", 3) + b"\xff{}",
        struct.pack(">I", 2) + b"{}",
        struct.pack(">I", 13) + b'{"op":"serve"}'[:13],
    ],
)
def test_nonsense_ends_it(far: FarSide, nonsense: bytes) -> None:
    far.line.write(memoryview(nonsense))
    assert far.output.read() == b""
    assert far.process.wait(timeout=10) == 1

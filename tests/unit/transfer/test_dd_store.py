"""The shell script for accounts without Python, as it runs there: hostile names, and what it refuses and tells."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tasks.errors import IntegrityError, PermanentFault
from tests.services.sshd_route import random_bytes
from transfer.streams.dd_store import SHELL, DdStore
from transfer.streams.far_line import Line

ROOT = "root; $(touch camnet-was-here) 'x' \"y\" \\z"
NAMES = [
    *("-rf", "--", "~", "*", "a b", " lead", "trail ", "$(touch camnet-was-here)", "`touch camnet-was-here`", "$HOME"),
    *("a'b\"c;d&e|f>g", "back\\slash\\n", "!x", "æöü-切片", "\x01\x7f", "é" * 120, "deep/-er/$IFS", "%s%n", "#"),
]


class ShellChannel:
    """The script in a process of one of this machine's shells."""

    def __init__(self, shell: str) -> None:
        command = SHELL.command.replace(" sh -c ", f" {shell} -c ")
        self.process = subprocess.Popen(["sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.output = io.BufferedReader(self.process.stdout)  # type: ignore[type-var]  # a raw pipe
        self.line = Line(self.output, self.process.stdin.write)
        self.line.write(memoryview(SHELL.script))
        assert self.output.read(len(SHELL.greeting)) == SHELL.greeting

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(timeout=60) == 0
        self.output.close()


@pytest.fixture(params=[shell for shell in ("dash", "bash") if shutil.which(shell)] or ["sh"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DdStore]:
    with closing(DdStore(lambda: ShellChannel(request.param), str(tmp_path / ROOT), "me@there")) as made:
        yield made


def test_names_are_names_and_nothing_else(store: DdStore, tmp_path: Path) -> None:
    for name in NAMES:
        store.write(f"{name}.part", 0, [name.encode()])
        store.publish(f"{name}.part", name)
    for name in NAMES:
        size_bytes = len(name.encode())
        assert (tmp_path / ROOT / name).read_bytes() == name.encode()
        assert b"".join(store.read(name, 0, size_bytes)) == name.encode()
        state = store.stat(name, digest=True)
        assert state is not None
        assert state.bytes == size_bytes
    assert not any((place / "camnet-was-here").exists() for place in (Path.cwd(), Path.home(), tmp_path))
    store.remove("*")
    assert {path.name for path in (tmp_path / ROOT).iterdir()} == {name.split("/")[0] for name in NAMES} - {"*"}


@pytest.mark.parametrize("name", ["a\nb", "a\0b"])
def test_a_name_that_is_no_line_is_refused(store: DdStore, name: str) -> None:
    with pytest.raises(PermanentFault, match="line break or a zero byte"):
        store.write(name, 0, [b"x"])
    assert store.stat("a") is None  # nothing of it was sent


def test_ranges_errors_and_links_and_the_session_goes_on(store: DdStore, tmp_path: Path) -> None:
    content, root = random_bytes(2_500_000), tmp_path / ROOT
    store.write("a", 1_000_000, [content[1_000_000:]])
    store.write("a", 0, [content[:999_999], content[999_999:1_000_000]])
    assert b"".join(store.read("a", 1, 2_499_999)) == content[1:]
    with closing(store.read("a", 0, 2_500_000)) as blocks:
        next(blocks)
    with pytest.raises(IntegrityError, match="ends at byte 2500000"):
        list(store.read("a", 0, 2_500_001))
    with pytest.raises(NotADirectoryError):
        store.write("a/b", 0, [content])
    with pytest.raises(OSError, match="File name too long"):
        store.write("n" * 256, 0, [content])
    (root / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        store.publish("a", "folder")
    (tmp_path / "outside").mkdir()
    (root / "way").symlink_to(tmp_path / "outside")
    (root / "link").symlink_to(root / "a")
    for path in ("way/x", "link"):
        with pytest.raises(PermanentFault, match="symbolic link"):
            store.write(path, 0, [b"x"])
    (root / "second").hardlink_to(root / "a")
    with pytest.raises(PermanentFault, match="second name"):
        store.write("a", 0, [b"x"])
    assert list((tmp_path / "outside").iterdir()) == []
    assert (root / "a").read_bytes() == content
    free_bytes = store.free_bytes()
    assert free_bytes is not None
    assert free_bytes > 0

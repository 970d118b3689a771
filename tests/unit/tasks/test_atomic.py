from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tasks.atomic import append_line, atomic_path, write_bytes, write_text
from tasks.errors import CamNetError, InputError, PermanentFault, RetryableFault
from tests.services.small_disk import needs_root, small_disk

REPOSITORY = Path(__file__).resolve().parents[3]

WRITE_AND_WAIT = """
import sys, time
from pathlib import Path
from tasks.atomic import atomic_path

with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"new" * 100_000)
    print("written", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 64) as folder:
        yield folder


def test_the_final_name_is_there_only_when_the_block_has_ended(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "er" / "a.bin"
    with atomic_path(final) as temporary:
        temporary.write_bytes(b"half")
        assert not final.exists()
        assert temporary.parent == final.parent
    assert final.read_bytes() == b"half"
    assert [path.name for path in final.parent.iterdir()] == ["a.bin"]


def test_new_content_replaces_old_content(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old, and longer")
    write_text(tmp_path / "a.txt", "né")
    assert (tmp_path / "a.txt").read_bytes() == "né".encode()


@pytest.mark.parametrize("error", [RuntimeError("bug"), KeyboardInterrupt(), SystemExit(1)])
def test_an_exception_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    final = tmp_path / "a.bin"
    final.write_bytes(b"old")

    def fail(temporary: Path) -> None:
        temporary.write_bytes(b"new")
        raise error

    with pytest.raises(type(error)), atomic_path(final) as temporary:
        fail(temporary)
    assert final.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [final]


def test_an_error_about_another_file_is_not_blamed_on_this_one(tmp_path: Path) -> None:
    missing = tmp_path / "input.bin"
    with pytest.raises(FileNotFoundError) as caught, atomic_path(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(missing.read_bytes())
    assert caught.value.filename == str(missing)


@needs_root
def test_a_full_disk_is_named_and_cleaned_up(disk: Path) -> None:
    write_bytes(disk / "a.bin", b"old")
    with pytest.raises(PermanentFault, match="No space left") as caught:
        write_bytes(disk / "a.bin", bytes(1 << 20))
    assert caught.value.subject == str(disk / "a.bin")
    assert "free some space" in str(caught.value.remedy)
    assert (disk / "a.bin").read_bytes() == b"old"
    assert list(disk.iterdir()) == [disk / "a.bin"]
    write_bytes(disk / "a.bin", b"new")
    assert (disk / "a.bin").read_bytes() == b"new"


@needs_root
def test_a_read_only_disk_is_named(disk: Path) -> None:
    write_bytes(disk / "a.bin", b"old")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(PermanentFault, match="Read-only file system"):
        write_bytes(disk / "a.bin", b"new")
    assert (disk / "a.bin").read_bytes() == b"old"


@needs_root
def test_a_folder_of_somebody_else_is_named(tmp_path: Path) -> None:
    final = tmp_path / "theirs" / "a.bin"
    final.parent.mkdir(mode=0o755)
    tmp_path.chmod(0o755)
    code = (
        "import os, sys\n"
        "from pathlib import Path\nfrom tasks.atomic import write_bytes\nfrom tasks.errors import InputError\n"
        "os.setuid(65534)\n"
        "try:\n    write_bytes(Path(sys.argv[1]), b'x')\n"
        "except InputError as error:\n    print(error.cause, '|', error.remedy)\n"
    )
    # The folders above belong to root alone, so the file is named relative to the process's own.
    said = _python(code, "theirs/a.bin", folder=tmp_path)
    assert "cannot be written (Permission denied) | check that the folder exists and belongs to you" in said
    assert list(final.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("file/a.bin", "File exists"),
        ("file/deep/a.bin", "Not a directory"),
        ("folder", "Is a directory"),
        ("n" * 300, "File name too long"),
    ],
)
def test_a_name_that_cannot_be_written_is_named(tmp_path: Path, name: str, cause: str) -> None:
    (tmp_path / "file").write_bytes(b"in the way")
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(InputError, match=cause) as caught:
        write_bytes(tmp_path / name, b"x")
    assert caught.value.subject == str(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("name", ["n" * 255, "病" * 85, "a b\nc'\"$(x);.h5", os.fsdecode(b"\xff\xfe" * 100)])
def test_every_name_that_the_file_system_takes_can_be_written(tmp_path: Path, name: str) -> None:
    write_bytes(tmp_path / name, b"x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_link_is_replaced_and_what_it_names_is_untouched(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "a.bin").symlink_to(tmp_path / "target")
    write_bytes(tmp_path / "a.bin", b"new")
    assert (tmp_path / "target").read_bytes() == b"old"
    assert (tmp_path / "a.bin").read_bytes() == b"new"


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_process_that_is_killed_before_the_rename_changes_nothing(tmp_path: Path, old: bytes | None) -> None:
    final = tmp_path / "a.bin"
    if old is not None:
        final.write_bytes(old)
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_AND_WAIT, str(final)], stdout=subprocess.PIPE, cwd=REPOSITORY
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert (final.read_bytes() if final.exists() else None) == old
    (left,) = (path for path in tmp_path.iterdir() if path != final)
    assert left.name.startswith(".")
    assert left.name.endswith(".part")
    write_bytes(final, b"next run")
    assert final.read_bytes() == b"next run"


WRITE_REPEATEDLY = """
import sys
from pathlib import Path
from tasks.atomic import write_bytes

for _ in range(40):
    write_bytes(Path(sys.argv[1]), bytes([int(sys.argv[2])]) * 50_000)
"""


def test_writers_of_one_name_never_mix(tmp_path: Path) -> None:
    final = tmp_path / "a.bin"
    write_bytes(final, bytes(50_000))
    with ThreadPoolExecutor(3) as threads:
        work: list[Future[Any]] = [
            threads.submit(_python, WRITE_REPEATEDLY, str(final), str(value), folder=tmp_path) for value in (1, 2)
        ]
        work += [threads.submit(write_bytes, final, b"\3" * 50_000) for _ in range(200)]
        seen = set()
        while not all(each.done() for each in work):
            content = final.read_bytes()
            assert len(content) == 50_000
            assert len(set(content)) == 1
            seen.add(content[0])
        for each in work:
            each.result()
    assert len(seen) > 1
    assert list(tmp_path.iterdir()) == [final]


def _python(code: str, *arguments: str, folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, PermanentFault), (errno.EDQUOT, PermanentFault), (errno.EIO, PermanentFault),
        (errno.EROFS, PermanentFault), (errno.ESTALE, RetryableFault), (errno.ETIMEDOUT, RetryableFault),
        (errno.EACCES, InputError),
    ],
)  # fmt: skip
def test_each_fault_of_a_disk_has_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[CamNetError]
) -> None:
    def fails(_: int) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "a.bin").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(CamNetError, match=os.strerror(number)) as caught:
        write_bytes(tmp_path / "a.bin", b"new")
    assert type(caught.value) is kind
    assert caught.value.remedy
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@needs_root
def test_a_line_that_only_partly_fits_is_an_error(tmp_path: Path) -> None:
    # The system takes what fits of a write, without an error; two pages hold eight of these lines and a part of one.
    line = b"x" * 999
    with small_disk(tmp_path / "disk", 8) as disk:
        for _ in range(8):
            append_line(disk / "a.jsonl", line)
        with pytest.raises(OSError, match="No space left"):
            append_line(disk / "a.jsonl", line)
        assert (disk / "a.jsonl").read_bytes().count(line + b"\n") == 8

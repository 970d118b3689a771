from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks import digests
from tasks.digests import DigestIndex, bytes_digest, file_digest


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    path = tmp_path / "slide.tif"
    path.write_bytes(b"one")
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files whose content was read, in their order."""
    seen: list[Path] = []

    def counted(path: Path) -> str:
        seen.append(path)
        return file_digest(path)

    monkeypatch.setattr(digests, "file_digest", counted)
    return seen


@pytest.mark.parametrize("size_bytes", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_a_file_has_the_digest_of_its_bytes(tmp_path: Path, size_bytes: int) -> None:
    data = os.urandom(size_bytes)
    (tmp_path / "a").write_bytes(data)
    assert file_digest(tmp_path / "a") == bytes_digest(data) == "sha256:" + hashlib.sha256(data).hexdigest()


def test_an_unchanged_file_is_read_once(slide: Path, tmp_path: Path, reads: list[Path]) -> None:
    expected = bytes_digest(b"one")
    assert DigestIndex(tmp_path / "index").known(slide) is None
    assert [DigestIndex(tmp_path / "index").digest(slide) for _ in range(3)] == [expected] * 3
    assert DigestIndex(tmp_path / "index").known(slide) == expected
    assert reads == [slide]


def test_one_file_has_one_entry_by_whatever_path(slide: Path, tmp_path: Path, reads: list[Path]) -> None:
    (tmp_path / "link.tif").symlink_to(slide)
    (tmp_path / "x").mkdir()
    other = tmp_path / "x" / ".." / slide.name
    index = DigestIndex(tmp_path / "index")
    assert index.digest(slide) == index.digest(tmp_path / "link.tif") == index.digest(other)
    assert len(reads) == 1


def _longer(slide: Path) -> None:
    slide.write_bytes(b"longer")


def _replaced_with_the_same_size_and_times(slide: Path) -> None:
    status = slide.stat()
    other = slide.with_suffix(".new")
    other.write_bytes(b"two")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(slide)


def _overwritten_with_the_same_size_and_its_time_set_back(slide: Path) -> None:
    status = slide.stat()
    while slide.stat().st_ctime_ns == status.st_ctime_ns:  # the file system's clock may tick in milliseconds
        slide.write_bytes(b"two")
    os.utime(slide, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    "change", [_longer, _replaced_with_the_same_size_and_times, _overwritten_with_the_same_size_and_its_time_set_back]
)
def test_a_changed_file_is_read_again(slide: Path, tmp_path: Path, change: Callable[[Path], None]) -> None:
    index = DigestIndex(tmp_path / "index")
    index.digest(slide)
    change(slide)
    assert index.known(slide) is None
    assert index.digest(slide) == bytes_digest(slide.read_bytes())
    assert index.known(slide) == bytes_digest(slide.read_bytes())


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_and_change(path: Path) -> str:
        digest = file_digest(path)
        path.write_bytes(b"changed")
        return digest

    monkeypatch.setattr(digests, "file_digest", read_and_change)
    index = DigestIndex(tmp_path / "index")
    index.digest(slide)
    assert index.known(slide) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b'{"stamp": 3}', b"\xff\xfe", b"9" * 5000, b"{}", b'{"stamp": STAMP}',
     b'{"stamp": STAMP, "digest": 5}', b'{"stamp": STAMP, "digest": null}'],
)  # fmt: skip
def test_a_corrupt_entry_is_as_good_as_none(slide: Path, tmp_path: Path, content: bytes) -> None:
    index = DigestIndex(tmp_path / "index")
    index.digest(slide)
    (entry,) = (tmp_path / "index").iterdir()
    status = slide.stat()
    stamp = str([status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns])
    entry.write_bytes(content.replace(b"STAMP", stamp.encode()))
    assert index.known(slide) is None
    assert index.digest(slide) == bytes_digest(b"one")
    assert index.known(slide) == bytes_digest(b"one")


def test_a_file_that_is_gone_is_not_known_and_has_no_digest(slide: Path, tmp_path: Path) -> None:
    index = DigestIndex(tmp_path / "index")
    index.digest(slide)
    slide.unlink()
    assert index.known(slide) is None
    with pytest.raises(FileNotFoundError):
        index.digest(slide)


def test_many_threads_agree_and_leave_one_entry_a_file(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.tif" for number in range(5)]
    for number, path in enumerate(files):
        path.write_bytes(bytes([number]) * 100_000)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda path: DigestIndex(tmp_path / "index").digest(path), files * 20))
    assert found == [file_digest(path) for path in files] * 20
    assert len(list((tmp_path / "index").iterdir())) == len(files)

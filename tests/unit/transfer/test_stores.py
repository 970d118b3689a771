"""What both byte stores promise the engine."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from deployments.loopback_sshd import LoopbackSshd, loopback_sshd
from tasks.errors import IntegrityError
from tests.services.sshd_route import account_of, random_bytes
from transfer.local import LocalStore
from transfer.sftp import SftpStore
from transfer.sftp_session import BLOCK_BYTES
from transfer.store import ByteStore
from transfer.streams.far_files import Folder, digest_of, write_all
from transfer.streams.far_group import Group

SIZES = [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES, 100 * BLOCK_BYTES + 17]


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with loopback_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(params=["local", "sftp"])
def store(request: pytest.FixtureRequest, tmp_path: Path, sshd: LoopbackSshd) -> Iterator[ByteStore]:
    root = tmp_path / "root"
    made: ByteStore = (
        LocalStore(root) if request.param == "local" else SftpStore(account_of(sshd), str(root), stall_s=5.0)
    )
    with closing(made):
        yield made


@pytest.mark.parametrize("size", SIZES)
def test_what_is_written_is_read(store: ByteStore, size: int) -> None:
    content = random_bytes(size)
    store.write("sub/folder/a", 0, [content])
    assert b"".join(store.read("sub/folder/a", 0, size)) == content
    state = store.stat("sub/folder/a", digest=True)
    assert state is not None
    assert (state.bytes, state.digest) == (size, f"sha256:{hashlib.sha256(content).hexdigest()}")


def test_ranges_may_come_in_any_order(store: ByteStore) -> None:
    content = random_bytes(3 * 100_000)
    for start in (200_000, 0, 100_000):
        store.write("a", start, [content[start : start + 60_000], content[start + 60_000 : start + 100_000]])
    assert b"".join(store.read("a", 0, len(content))) == content
    assert b"".join(store.read("a", 99_999, 100_002)) == content[99_999:200_001]


def test_a_file_that_ends_early_is_an_integrity_error(store: ByteStore) -> None:
    store.write("a", 0, [b"abc"])
    with pytest.raises(IntegrityError, match="ends at byte 3"):
        list(store.read("a", 0, 4))


def test_reading_may_stop_in_the_middle_and_the_store_goes_on(store: ByteStore) -> None:
    store.write("a", 0, [random_bytes(50 * BLOCK_BYTES)])
    with closing(store.read("a", 0, 50 * BLOCK_BYTES)) as blocks:
        next(blocks)
    assert b"".join(store.read("a", 0, 10)) == random_bytes(50 * BLOCK_BYTES)[:10]


def test_writing_may_fail_at_the_source_and_the_store_goes_on(store: ByteStore) -> None:
    def blocks() -> Iterator[bytes]:
        yield b"abc"
        raise IntegrityError("the source is gone")

    with pytest.raises(IntegrityError, match="the source is gone"):
        store.write("a", 0, blocks())
    store.write("b", 0, [b"fine"])
    assert b"".join(store.read("b", 0, 4)) == b"fine"


def test_publishing_replaces_and_removing_needs_nothing(store: ByteStore) -> None:
    store.write("sub/a.part", 0, [b"new"])
    store.write("sub/a", 0, [b"older"])
    store.publish("sub/a.part", "sub/a")
    assert store.stat("sub/a.part") is None
    assert b"".join(store.read("sub/a", 0, 3)) == b"new"
    for _ in range(2):
        store.remove("sub/a")
    store.remove("nowhere/at/all")
    assert store.stat("sub/a") is None
    assert store.stat("nowhere/at/all") is None


def test_room_is_told_also_where_the_root_is_not_made_yet(store: ByteStore) -> None:
    before = store.free_bytes()
    assert before is not None
    assert before > 0
    store.write("a", 0, [b"a"])
    assert store.free_bytes() is not None


def test_a_folder_is_removed_when_it_is_empty(store: ByteStore) -> None:
    store.write("folder/a", 0, [b"a"])
    store.remove_folder("folder")
    assert store.stat("folder/a") is not None
    store.remove("folder/a")
    store.remove_folder("folder")
    store.remove_folder("folder")
    assert store.follow("folder/a") is None


def test_an_account_is_talked_to_with_aes_gcm(sshd: LoopbackSshd) -> None:
    with closing(SftpStore(account_of(sshd), "/tmp", stall_s=5.0)) as store:  # noqa: S108 - nothing is written
        chosen = vars(store._connection.transport)
        assert (chosen["remote_cipher"], chosen["local_cipher"]) == ("aes128-gcm@openssh.com",) * 2


def test_a_file_is_flushed_before_it_gets_its_name(store: ByteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write("sub/a.part", 0, [b"abc"])
    steps = recorded(monkeypatch, os, "fsync", "rename")
    if isinstance(store, SftpStore):
        steps = recorded(monkeypatch, store.session, "flush", "rename")
    store.publish("sub/a.part", "sub/a")
    assert steps == (["flush", "rename"] if isinstance(store, SftpStore) else ["fsync", "rename", "fsync"])


def test_the_far_side_of_streams_flushes_before_it_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.part").write_bytes(b"abc")
    steps = recorded(monkeypatch, os, "fsync", "rename")
    Folder(str(tmp_path)).publish("a.part", "a")
    assert steps == ["fsync", "rename", "fsync"]
    steps.clear()
    group = Group(Folder(str(tmp_path)))
    for name in "bc":
        request = {"partial": f"{name}.part", "final": name, "size": 0, "sha256": hashlib.sha256(b"").hexdigest()}
        group.add(request, group.begin(request), None)
    assert group.commit() == [{}, {}]
    assert steps == ["fsync", "fsync", "rename", "rename", "fsync"]


def recorded(monkeypatch: pytest.MonkeyPatch, owner: object, *names: str) -> list[str]:
    """Note the calls of some functions, in order."""
    steps: list[str] = []

    def noted(name: str) -> Callable[..., Any]:
        function = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - handed on
            steps.append(name)
            return function(*arguments, **options)

        return call

    for name in names:
        monkeypatch.setattr(owner, name, noted(name))
    return steps


@pytest.mark.parametrize("refused", [None, errno.EXDEV, errno.EOPNOTSUPP])
def test_between_folders_of_this_machine_the_kernel_copies_where_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int | None
) -> None:
    content = random_bytes(3_000_000)
    (tmp_path / "a").write_bytes(content)
    copy, copied = os.copy_file_range, []

    def copy_file_range(*arguments: Any) -> int:  # noqa: ANN401 - handed on
        if refused:
            raise OSError(refused, os.strerror(refused))
        copied.append(copy(*arguments))
        return copied[-1]

    monkeypatch.setattr(os, "copy_file_range", copy_file_range)
    source, destination = LocalStore(tmp_path), LocalStore(tmp_path / "there")
    assert sum(destination.copy_from(source, "a", "b", 100, 2_999_900)) == 2_999_900
    assert (tmp_path / "there/b").read_bytes() == bytes(100) + content[100:]
    assert sum(copied) == (0 if refused else 2_999_900)
    with pytest.raises(IntegrityError, match="ends at byte 3000000"):
        list(destination.copy_from(source, "a", "b", 2_999_000, 5000))


def test_short_reads_and_writes_of_the_system_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = random_bytes(300_000)
    pread, pwrite, copy = os.pread, os.pwrite, os.copy_file_range
    monkeypatch.setattr(os, "pread", lambda descriptor, size, offset: pread(descriptor, min(size, 999), offset))
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: pwrite(descriptor, bytes(data[:998]), offset))
    monkeypatch.setattr(os, "copy_file_range", lambda a, b, size, *offsets: copy(a, b, min(size, 997), *offsets))
    store = LocalStore(tmp_path)
    store.write("a", 0, [content[:100_000], content[100_000:]])
    assert b"".join(store.read("a", 1, 299_999)) == content[1:]
    assert sum(store.copy_from(store, "a", "b", 0, 300_000)) == 300_000
    follower = store.follow("b")
    assert follower is not None
    digest = hashlib.sha256(content).hexdigest()
    state = follower.finish()
    assert state is not None
    assert (state.bytes, state.digest) == (300_000, f"sha256:{digest}")
    descriptor = os.open(tmp_path / "c", os.O_RDWR | os.O_CREAT)
    write_all(descriptor, memoryview(content), 0)
    assert digest_of(descriptor, lambda: None) == {"bytes": 300_000, "sha256": digest}
    os.close(descriptor)

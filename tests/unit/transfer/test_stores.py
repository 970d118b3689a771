"""What both byte stores promise the engine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from deployments.loopback_sshd import LoopbackSshd, loopback_sshd
from tasks.errors import IntegrityError
from tests.services.sshd_route import account_of, random_bytes
from transfer.local import LocalStore
from transfer.sftp import SftpStore
from transfer.sftp_session import BLOCK_BYTES
from transfer.store import ByteStore

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

"""Digests where the files lie: along the way, and with whatever programs the far side has."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from deployments.loopback_sshd import LoopbackSshd, loopback_sshd
from tests.services.sshd_route import account_of, random_bytes
from transfer.local import LocalStore
from transfer.sftp import SftpStore
from transfer.store import ByteStore

SIZE = 3_000_017
CONTENT = random_bytes(SIZE)
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


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


def test_a_file_is_digested_while_it_grows(store: ByteStore) -> None:
    store.write("a", 0, ())
    follower = store.follow("a")
    assert follower is not None
    half = SIZE // 2
    store.write("a", half, [CONTENT[half:]])
    follower.advance(0)
    store.write("a", 0, [CONTENT[:half]])
    follower.advance(half)
    follower.advance(SIZE)
    state = follower.finish()
    follower.close()
    assert state is not None
    assert (state.bytes, state.digest) == (SIZE, DIGEST)
    assert str(state.digested_by).endswith("along the way")


def test_what_is_followed_is_read_from_the_file_and_not_from_what_was_sent(store: ByteStore, tmp_path: Path) -> None:
    store.write("a", 0, [CONTENT])
    (tmp_path / "root" / "a").write_bytes(CONTENT[:-1] + b"\0")
    follower = store.follow("a")
    assert follower is not None
    follower.advance(1000)
    state = follower.finish()
    assert state is not None
    assert (state.bytes, state.digest != DIGEST) == (SIZE, True)


def test_a_follower_that_gives_up_leaves_the_store_in_order(store: ByteStore) -> None:
    store.write("a", 0, [CONTENT])
    for _ in range(3):
        follower = store.follow("a")
        assert follower is not None
        follower.advance(SIZE // 3)
        follower.close()
    state = store.stat("a", digest=True)
    assert state is not None
    assert state.digest == DIGEST


def test_nothing_that_is_missing_is_followed(store: ByteStore) -> None:
    assert store.follow("nothing") is None


@pytest.mark.parametrize(
    ("programs", "digested_by"),
    [
        (("sh", "python3"), "python3 at the far side"),
        (("sh", "xargs", "sha256sum"), "sha256sum at the far side"),
        (("sh",), "read back over SFTP"),
    ],
)
def test_the_far_side_uses_what_it_has(tmp_path: Path, programs: tuple[str, ...], digested_by: str) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in programs:
        (folder / name).symlink_to(Path(sys.executable).resolve() if name == "python3" else str(shutil.which(name)))
    setting = f'ForceCommand PATH={folder}; export PATH; eval "$SSH_ORIGINAL_COMMAND"'
    with (
        loopback_sshd(tmp_path / "sshd", settings=[setting]) as server,
        closing(SftpStore(account_of(server), str(tmp_path / "root"), stall_s=5.0)) as store,
    ):
        names = ["plain", "new\nline", "sp ace", "-rf", "'quote\"", "æ"]
        for name in names:
            store.write(name, 0, [CONTENT])
            state = store.stat(name, digest=True)
            assert state is not None
            assert (state.digest, state.digested_by) == (DIGEST, digested_by)
        assert (store.follow("plain") is not None) == ("python3" in programs)


def test_a_login_that_prints_something_is_no_digest(tmp_path: Path) -> None:
    greeting = 'case "$SSH_ORIGINAL_COMMAND" in *python3*|*sha256*) echo Welcome;; esac'
    setting = f'ForceCommand {greeting}; eval "$SSH_ORIGINAL_COMMAND"'
    with (
        loopback_sshd(tmp_path / "sshd", settings=[setting]) as server,
        closing(SftpStore(account_of(server), str(tmp_path / "root"), stall_s=5.0)) as store,
    ):
        store.write("a", 0, [CONTENT])
        state = store.stat("a", digest=True)
        assert state is not None
        assert (state.digest, state.digested_by) == (DIGEST, "read back over SFTP")


def test_a_link_is_not_digested(tmp_path: Path, sshd: LoopbackSshd) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "secret").write_bytes(CONTENT)
    with closing(SftpStore(account_of(sshd), str(root), stall_s=5.0)) as store:
        store.write("a", 0, [CONTENT])
        follower = store.follow("a")
        assert follower is not None
        assert follower.finish() is not None
        (root / "a").unlink()
        (root / "a").symlink_to(root / "secret")
        follower.advance(0)
        assert follower.finish() is None


def test_a_follower_that_gave_up_holds_the_file_no_longer(store: ByteStore, tmp_path: Path) -> None:
    store.write("a", 0, [CONTENT])
    follower = store.follow("a")
    assert follower is not None
    follower.advance(SIZE)
    follower.close()
    assert holders(tmp_path / "root" / "a") == []


def holders(path: Path) -> list[str]:
    """Processes that have the file open."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink() == path:
                found.append(link.parts[2])
        except OSError:
            continue  # the process has ended, or the descriptor was closed
    return found

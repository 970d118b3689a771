"""Packets in bursts before a real server: keys that are renewed on the way, and ciphers that have no bursts."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from deployments.loopback_sshd import loopback_sshd
from tests.services.sshd_route import account_of, random_bytes
from transfer.packets import BurstPacketizer
from transfer.sftp import SftpStore

MIB = 1 << 20


@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes256-ctr"])
def test_bytes_arrive_while_keys_are_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cipher: str) -> None:
    keys: list[bool] = []
    take = BurstPacketizer.set_outbound_cipher

    def counted(self: BurstPacketizer, *arguments: Any, aead: bool = False, **options: Any) -> None:  # noqa: ANN401 - handed on
        keys.append(aead)
        take(self, *arguments, aead=aead, **options)

    monkeypatch.setattr(BurstPacketizer, "set_outbound_cipher", counted)
    monkeypatch.setattr(BurstPacketizer, "REKEY_BYTES", MIB)
    content = random_bytes(5 * MIB + 7)
    with (
        loopback_sshd(tmp_path / "sshd", settings=[f"Ciphers {cipher}"]) as sshd,
        closing(SftpStore(account_of(sshd), str(tmp_path / "root"), stall_s=10.0)) as store,
    ):
        store.write("a.bin", 0, [content[:MIB], content[MIB:]])
        assert (tmp_path / "root/a.bin").read_bytes() == content
        renewed = len(keys)
        assert b"".join(store.read("a.bin", 0, len(content))) == content
    assert renewed >= 3
    assert len(keys) > renewed
    assert set(keys) == {"gcm" in cipher}


def test_a_server_that_goes_away_in_a_burst_is_told_as_such(tmp_path: Path) -> None:
    with loopback_sshd(tmp_path / "sshd") as sshd:
        store = SftpStore(account_of(sshd), str(tmp_path / "root"), stall_s=10.0)
    with closing(store):

        def blocks() -> Any:  # noqa: ANN401 - a generator
            yield bytes(MIB)
            store._connection.socket.shutdown(2)
            for _ in range(8):
                yield bytes(MIB)

        with pytest.raises((ConnectionError, EOFError)):
            store.write("a.bin", 0, blocks())

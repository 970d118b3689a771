"""The known_hosts file of an account: the keys that it vouches for or calls revoked, and the lines that say so."""

from __future__ import annotations

from collections.abc import Iterator

import paramiko
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

from tasks.errors import InputError
from transfer.model import SshAccount


def load_known_hosts(keys: paramiko.HostKeys, account: SshAccount) -> None:
    """Fill `keys` from the account's known_hosts without what it marks as revoked.

    Lines of certificate authorities count as nothing: their hosts stay unknown.

    Raises
    ------
    InputError
        The file cannot be read, or has a broken line.
    """
    revoked = {key for _, key in _revoked(account)}
    for _, entry in _entries(account):
        if entry.key is not None and entry.key.get_base64() not in revoked:
            for name in entry.hostnames:
                keys.add(name, entry.key.get_name(), entry.key)


def place_of_host(account: SshAccount) -> str:
    """Name the lines that hold keys of the account's host, as in ``line 3 of /home/me/known_hosts``."""
    name = account.host if account.port == 22 else f"[{account.host}]:{account.port}"
    numbers = []
    for number, entry in _entries(account):
        keys = paramiko.HostKeys()
        for pattern in entry.hostnames:
            if entry.key is not None:
                keys.add(pattern, entry.key.get_name(), entry.key)
        if keys.lookup(name) is not None:
            numbers.append(number)
    return _place(numbers, account)


def place_of_revocation(account: SshAccount, key: str | None = None) -> str | None:
    """Name the line that calls a key (in base64; None: any) revoked; None where no line does."""
    numbers = [number for number, revoked in _revoked(account) if key in (None, revoked)]
    return _place(numbers[:1], account) if numbers else None


def _place(numbers: list[int], account: SshAccount) -> str:
    lines = " and ".join(map(str, numbers))
    return f"line {lines} of {account.known_hosts}" if numbers else str(account.known_hosts)


def _entries(account: SshAccount) -> Iterator[tuple[int, HostKeyEntry]]:
    for number, line in _lines(account):
        if line[0] == "@":
            continue
        try:
            entry = HostKeyEntry.from_line(" ".join(line.split()), number)
        except (InvalidHostKey, ValueError) as error:
            raise InputError(
                f"has a broken line: line {number}, {line[:60]!r}",
                subject=account.known_hosts,
                remedy="take it out, or write it anew as the site publishes it",
            ) from error
        if entry is not None:
            yield number, entry


def _revoked(account: SshAccount) -> Iterator[tuple[int, str]]:
    for number, line in _lines(account):
        fields = line.split()
        if fields[0] == "@revoked" and len(fields) > 3:
            yield number, fields[3]


def _lines(account: SshAccount) -> list[tuple[int, str]]:
    try:
        lines = account.known_hosts.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot be read ({error})",
            subject=account.known_hosts,
            remedy=f"write the host key of {account.host} there, as the site publishes it",
        ) from error
    numbered = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    return [(number, line) for number, line in numbered if line and line[0] != "#"]

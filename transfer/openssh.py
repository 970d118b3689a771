"""The OpenSSH programs: their arguments, and what they say when they fail."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tasks.errors import CamNetError, InputError, RetryableFault
from transfer.known_hosts import place_of_host, place_of_revocation
from transfer.model import SshAccount
from transfer.program import program_fault
from transfer.scratch import scratch_errors
from transfer.ssh import private_key

_CIPHERS = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes256-ctr"
_CONNECTION = 255  # the exit status when ssh itself failed


def ssh_arguments(account: SshAccount, *, timeout_s: float) -> list[str]:
    """Options that scp, sftp and ssh share: our key, the known host key, and nothing of the user's own setting."""
    options = (f"{name}={value}" for name, value in _settings(account, timeout_s).items())
    return ["-F", "none", *(part for option in options for part in ("-o", option))]


def write_ssh_config(
    path: Path, accounts: Mapping[str, SshAccount], *, timeout_s: float, commands: Mapping[str, str] | None = None
) -> None:
    """Write a configuration under whose host names several accounts are reached by one program.

    Parameters
    ----------
    commands
        By the same names: what the account's shell runs where the program itself names no command.
    """
    lines = []
    for name, account in accounts.items():
        settings = {"HostName": account.host, "User": account.user, **_settings(account, timeout_s)}
        if commands and name in commands:
            settings |= {"RemoteCommand": commands[name].replace("%", "%%"), "RequestTTY": "no"}
        lines += [f"Host {name}", *(f"  {setting} {value}" for setting, value in settings.items())]
    with scratch_errors():
        path.write_text("\n".join([*lines, ""]))


def _settings(account: SshAccount, timeout_s: float) -> dict[str, str]:
    return {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "IdentityFile": _quoted(str(account.key)),
        "UserKnownHostsFile": _quoted(str(account.known_hosts)),
        "GlobalKnownHostsFile": "none",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "ControlPath": "none",
        "Compression": "no",
        "ConnectTimeout": str(max(1, round(timeout_s))),
        "ServerAliveInterval": str(max(1, round(timeout_s / 4))),
        "Ciphers": _CIPHERS,
        "Port": str(account.port),
        "LogLevel": "ERROR",
    }


def ssh_fault(program: str, status: int, said: str, account: SshAccount | None) -> CamNetError:
    """Put what an OpenSSH program said on standard error into our words.

    What a host key or an account is wrong about, the control connection has found out before.
    """
    subject = f"{account.user}@{account.host}:{account.port}" if account else None
    return program_fault(program, status, said, subject=subject, passes=status == _CONNECTION)


def connection_fault(said: str, account: SshAccount) -> CamNetError:
    """Say why ``ssh`` could not connect, or lost its connection, from what it said on standard error.

    The words for host keys and accounts are those of `transfer.ssh`.
    """
    subject = f"{account.user}@{account.host}:{account.port}"
    low = said.lower()
    if "host identification has changed" in low or "revoked host key" in low:
        cause = f"shows a host key that {place_of_revocation(account) or account.known_hosts} calls revoked"
        if "host identification has changed" in low:
            cause = f"shows another host key than {place_of_host(account)} has; somebody may be in between"
        return InputError(
            cause,
            subject=subject,
            remedy=f"ask the site whether its key was changed; only then replace the line in {account.known_hosts}",
        )
    if "host key verification failed" in low or "host key is known for" in low:
        return InputError(
            f"its host key is not in {account.known_hosts}",
            subject=subject,
            remedy=f"compare it with the key that the site publishes, then add its line to {account.known_hosts}",
        )
    if "permission denied" in low or "too many authentication failures" in low:
        return _refused_key(account, subject)
    if "could not resolve hostname" in low and "temporary failure" not in low:
        return InputError("no such host is known", subject=subject, remedy="check the site file")
    words = " ".join(line.strip() for line in said.splitlines()[-3:] if line.strip())[-300:]
    return RetryableFault(
        f"the connection failed ({words or 'ssh ended without a word'})",
        subject=subject,
        remedy="nothing is lost: run the same command again and it goes on where it stopped",
    )


def _refused_key(account: SshAccount, subject: str) -> InputError:
    try:
        private_key(account)
    except InputError as error:
        return error
    return InputError(
        f"the account refuses the key {account.key}",
        subject=subject,
        remedy="add its public half to the authorized_keys of the account, or name the right key",
    )


def _quoted(path: str) -> str:
    """Write a path as a value of ssh_config, where ``%`` and ``$`` and quotes have a meaning."""
    return '"' + path.replace("\\", "\\\\").replace("%", "%%").replace('"', '\\"') + '"'

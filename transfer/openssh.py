"""The OpenSSH programs: their arguments, and what they say when they fail."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tasks.errors import CamNetError
from transfer.model import SshAccount
from transfer.program import program_fault

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


def _quoted(path: str) -> str:
    """Write a path as a value of ssh_config, where ``%`` and ``$`` and quotes have a meaning."""
    return '"' + path.replace("\\", "\\\\").replace("%", "%%").replace('"', '\\"') + '"'

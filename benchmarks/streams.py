"""How fast the protocol ``streams`` is on this machine, against OpenSSH's scp and a tar through ssh.

    python benchmarks/streams.py --size-mb 1000 --small-files 1000 --repeats 3

A private SSH server is started on the loopback; source and destination lie in memory (/dev/shm) where there is such
a folder. What is timed is all of it, from the first connection to the last verified name; scp and tar verify
nothing. In every repetition all methods take turns, and the ratios are medians of those within one repetition.
Both ends share the processors of this machine, so that figures above some 100 MB/s say how much processor time a
byte costs rather than what a network gives.
"""

from __future__ import annotations

import argparse
import os
import platform
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from deployments.loopback_sshd import LoopbackSshd, loopback_sshd
from transfer.ledger import Ledger
from transfer.manifest import Manifest, manifest_of
from transfer.model import Batch, Endpoint, SshAccount, TransferOptions
from transfer.mover import open_mover
from transfer.openssh import ssh_arguments

MEMORY = Path("/dev/shm")  # noqa: S108 - a file system in memory, not a temporary file of a fixed name
PORTS = (20000, 29999)
Method = Callable[[Path, Path], None]


def account(server: LoopbackSshd, ports: tuple[int, int] | None = None) -> SshAccount:
    """Give the account of the private server."""
    known_hosts, key = server.known_hosts, server.key
    return SshAccount(
        host=server.host, port=server.port, user=server.user, key=key, known_hosts=known_hosts, data_ports=ports
    )


def streams(server: LoopbackSshd, manifest: Manifest, *, way: str, tls: bool, count: int) -> Method:
    """Give a method that moves with ``streams``."""

    def move(source: Path, destination: Path) -> None:
        ssh = account(server, PORTS if tls else None)
        batch = Batch(
            run="benchmark",
            source=Endpoint(site="a", root=str(source), ssh=ssh if way == "pull" else None),
            destination=Endpoint(site="b", root=str(destination), ssh=ssh if way == "push" else None),
            entries=manifest.entries,
        )
        ledger = Ledger(destination.parent / "state" / "ledger.jsonl")
        mover = open_mover("streams", batch.source, batch.destination, TransferOptions(streams=count), ledger)
        outcomes = mover.move(batch)
        failed = [outcome for outcome in outcomes if outcome.state != "done"]
        if failed:
            raise SystemExit(f"not moved: {failed[0]}")

    return move


def scp(server: LoopbackSshd, *, cipher: str | None) -> Method:
    """Give a method that copies with ``scp``: with our options and cipher, or with its own defaults."""

    def copy(source: Path, destination: Path) -> None:
        arguments = ssh_arguments(account(server), timeout_s=60)
        position = next(number for number, part in enumerate(arguments) if part.startswith("Ciphers="))
        arguments[position - 1 : position + 1] = ["-c", cipher] if cipher else []
        target = f"{server.user}@{server.host}:{destination}"
        subprocess.run(["scp", "-q", "-r", *arguments, *map(str, sorted(source.iterdir())), target], check=True)

    return copy


def tar(server: LoopbackSshd) -> Method:
    """Give a method that pipes a tar through ssh."""

    def copy(source: Path, destination: Path) -> None:
        arguments = ssh_arguments(account(server), timeout_s=60)
        with subprocess.Popen(["tar", "-C", str(source), "-cf", "-", "."], stdout=subprocess.PIPE) as packer:
            remote = ["ssh", *arguments, "-l", server.user, server.host, f"tar -C '{destination}' -xf -"]
            subprocess.run(remote, stdin=packer.stdout, check=True)

    return copy


def seconds(method: Method, source: Path, scratch: Path) -> float:
    """Time a method into an empty folder."""
    destination = scratch / "there"
    shutil.rmtree(destination, ignore_errors=True)
    destination.mkdir()
    began_s = time.perf_counter()
    method(source, destination)
    taken_s = time.perf_counter() - began_s
    moved = sorted(path.stat().st_size for path in destination.iterdir())
    if moved != sorted(path.stat().st_size for path in source.iterdir()):
        raise SystemExit("the destination has not what the source has")
    return taken_s


def compare(title: str, methods: dict[str, Method], source: Path, scratch: Path, repeats: int) -> None:
    """Run all methods in turns and print their medians, and ratios to the first."""
    total_mb = sum(path.stat().st_size for path in source.iterdir()) / 1e6
    taken_s: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(repeats):
        for name, method in methods.items():
            taken_s[name].append(seconds(method, source, scratch))
    first = next(iter(methods))
    print(f"\n{title}\n{'method':44}{'MB/s':>7}{'least':>7}{'most':>7}{'x ' + first:>18}")
    for name, values in taken_s.items():
        rates = [total_mb / value for value in values]
        ratio = median(base / value for base, value in zip(taken_s[first], values, strict=True))
        print(f"{name:44}{median(rates):7.0f}{min(rates):7.0f}{max(rates):7.0f}{ratio:18.2f}")


def write_files(folder: Path, count: int, size_bytes: int) -> Manifest:
    """Write files of random bytes; return their manifest."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:05d}.bin").write_bytes(secrets.token_bytes(size_bytes))
    names = sorted(path.name for path in folder.iterdir())
    return manifest_of(folder, [(name, "patches", None, None) for name in names], run="benchmark", site="a")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mb", type=int, default=1000, help="of the large file")
    parser.add_argument("--small-files", type=int, default=1000, help="of 100 kB each")
    parser.add_argument("--streams", type=int, default=4, help="most connections")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=MEMORY if MEMORY.is_dir() else None)
    given = parser.parse_args()
    version = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr.strip()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()},")
    print(f"Python {platform.python_version()}, {version}, load {os.getloadavg()[0]:.1f}, in {given.folder}")
    with tempfile.TemporaryDirectory(dir=given.folder) as name, loopback_sshd(Path(name) / "sshd") as server:
        scratch = Path(name)
        large = write_files(scratch / "large", 1, given.size_mb * 10**6)
        small = write_files(scratch / "small", given.small_files, 100_000)

        def ours(manifest: Manifest) -> dict[str, Method]:
            return {
                f"streams {way}, {'TLS' if tls else 'SSH'}": streams(
                    server, manifest, way=way, tls=tls, count=given.streams
                )
                for tls in (False, True)
                for way in ("push", "pull")
            }

        plain = {"scp": scp(server, cipher=None), "scp, AES-GCM": scp(server, cipher="aes128-gcm@openssh.com")}
        title = f"one file of {given.size_mb} MB"
        compare(title, plain | ours(large), scratch / "large", scratch, given.repeats)
        title = f"{given.small_files} files of 100 kB"
        piped: dict[str, Method] = {"tar | ssh tar": tar(server)}
        compare(title, piped | ours(small), scratch / "small", scratch, given.repeats)
    print(f"\nload {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()

"""How fast files go to an SSH account: CamNet's movers against the tools that people use, in one run.

    python benchmarks/transfer.py                                             loopback
    python benchmarks/transfer.py --round-trip-ms 50 --rate-mbit-per-s 1000   a wide-area link (root, see wan.py)

All methods take turns, in a new random order each repetition, after a warm-up that counts for nothing; medians.
Source and destination lie in memory (``--folder``, /dev/shm by default), so no disk is in the way. A rate counts from
the call to its end: connecting, start-up and, for CamNet's movers, the sha256 at the destination are in it; the peers
verify nothing, but all files are compared afterwards. CPU seconds are those of the whole machine, client and server
together, so nothing else should run. Methods whose program is missing, or that fail, are named and left out.
"""

from __future__ import annotations

import argparse
import filecmp
import importlib.metadata
import importlib.util
import os
import platform
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import paramiko
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.wan import (
    Link,
    congestion_control,
    inside,
    measured_rate_mb_per_s,
    measured_round_trip_ms,
    wide_area_link,
)
from deployments.loopback_sshd import loopback_sshd
from tasks.errors import CamNetError
from transfer.ledger import Ledger
from transfer.manifest import manifest_of
from transfer.model import Batch, Endpoint, SshAccount, TransferOptions
from transfer.mover import open_mover
from transfer.openssh import ssh_arguments

_TIMEOUT_S = 30.0
PORTS = (20000, 29999)
_ASYNCSSH = """
import asyncio, asyncssh, sys
host, port, user, key, known_hosts, source, target = sys.argv[1:]
async def put():
    async with asyncssh.connect(host, int(port), username=user, client_keys=[key], known_hosts=known_hosts,
                                encryption_algs=["aes128-gcm@openssh.com"]) as connection:
        async with connection.start_sftp_client() as sftp:
            await sftp.put(source + "/files", target, recurse=True)
asyncio.run(put())
"""


@dataclass(frozen=True)
class Place:
    """Where the files are (``here/files``) and where they go (``there/files``), and how."""

    here: Path
    there: Path
    account: SshAccount
    state: Path
    streams: int

    @property
    def target(self) -> str:
        """User and host, as programs take them."""
        return f"{self.account.user}@{self.account.host}"


def _mover(protocol: str, place: Place) -> None:
    paths = sorted(path.relative_to(place.here).as_posix() for path in place.here.rglob("*.bin"))
    manifest = manifest_of(place.here, [(path, "log", None, None) for path in paths], run="b", site="here")
    source = Endpoint(site="here", root=str(place.here))
    destination = Endpoint(site="there", root=str(place.there), ssh=place.account)
    ledger, options = Ledger(place.state / "ledger.jsonl"), TransferOptions(streams=place.streams)
    batch = Batch(run="b", source=source, destination=destination, entries=manifest.entries)
    outcomes = open_mover(protocol, source, destination, options, ledger).move(batch)
    bad = [outcome for outcome in outcomes if outcome.state != "done"]
    if bad:
        raise RuntimeError(f"{protocol}: {bad[0].error}")


def _streams_over_tls(place: Place) -> None:
    open_ports = place.account.model_copy(update={"data_ports": PORTS})
    _mover("streams", replace(place, account=open_ports))


def _scp(place: Place) -> None:
    options = ssh_arguments(place.account, timeout_s=_TIMEOUT_S)
    subprocess.run(["scp", "-q", "-r", *options, place.here / "files", f"{place.target}:{place.there}/"], check=True)


def _rsync(place: Place) -> None:
    shell = " ".join(["ssh", *ssh_arguments(place.account, timeout_s=_TIMEOUT_S)])
    command = ["rsync", "-a", "-W", "-e", shell, place.here / "files", f"{place.target}:{place.there}/"]
    subprocess.run(command, check=True)


def _tar(place: Place) -> None:
    options = ssh_arguments(place.account, timeout_s=_TIMEOUT_S)
    pack = subprocess.Popen(["tar", "-C", place.here, "-cf", "-", "files"], stdout=subprocess.PIPE)
    command = ["ssh", *options, place.target, f"tar -C {place.there} -xf -"]
    subprocess.run(command, stdin=pack.stdout, check=True)
    pack.wait()


def _rclone(place: Place) -> None:
    account = place.account
    remote = f":sftp,host={account.host},port={account.port},user={account.user},key_file={account.key},"
    remote += f"known_hosts_file={account.known_hosts},disable_hashcheck:{place.there}/files"
    command = ["rclone", "copy", "--transfers", "8", "--config", os.devnull, place.here / "files", remote]
    subprocess.run(command, check=True)


def _paramiko(place: Place) -> None:
    client = paramiko.SSHClient()
    client.load_host_keys(str(place.account.known_hosts))
    client.connect(place.account.host, place.account.port, place.account.user, key_filename=str(place.account.key))
    with client, client.open_sftp() as session:
        session.mkdir(f"{place.there}/files")
        for path in sorted((place.here / "files").iterdir()):
            session.put(str(path), f"{place.there}/files/{path.name}")


def _asyncssh(place: Place) -> None:
    account = place.account
    facts = [account.host, account.port, account.user, account.key, account.known_hosts, place.here, place.there]
    subprocess.run([sys.executable, "-c", _ASYNCSSH, *map(str, facts)], check=True)


def methods(protocols: list[str]) -> tuple[dict[str, Callable[[Place], None]], list[str]]:
    """Give what is measured, by name, and what is missing."""
    found: dict[str, Callable[[Place], None]] = {}
    for protocol in protocols:
        found[f"CamNet {protocol}"] = lambda place, protocol=protocol: _mover(protocol, place)  # type: ignore[misc]  # mypy cannot see the default
        if protocol == "streams":
            found["CamNet streams, TLS"] = _streams_over_tls
    peers = {"scp": _scp, "rsync -W": _rsync, "tar | ssh tar": _tar, "rclone": _rclone}
    missing = [name for name in peers if shutil.which(name.split()[0]) is None]
    found |= {name: method for name, method in peers.items() if name not in missing}
    found["paramiko put"] = _paramiko
    if importlib.util.find_spec("asyncssh"):
        found["asyncssh put"] = _asyncssh
    else:
        missing.append("asyncssh")
    return found, missing


def busy_s() -> float:
    """Processor seconds that this machine has worked since it was started."""
    times = psutil.cpu_times()
    return float(times.user + times.system + times.softirq + times.irq)


def measure(method: Callable[[Place], None], place: Place, total_bytes: int) -> tuple[float, float]:
    """Run a method once into an empty folder; give MB/s and processor seconds."""
    shutil.rmtree(place.there, ignore_errors=True)
    place.there.mkdir()
    before_s, started_s = busy_s(), time.monotonic()
    method(place)
    seconds, worked_s = time.monotonic() - started_s, busy_s() - before_s
    names = [path.name for path in (place.here / "files").iterdir()]
    _, mismatch, errors = filecmp.cmpfiles(place.here / "files", place.there / "files", names, shallow=False)
    if mismatch or errors:
        raise RuntimeError(f"{len(mismatch) + len(errors)} files did not arrive as they were")
    return total_bytes / 1e6 / seconds, worked_s


def make_files(folder: Path, megabytes: int, files: int) -> int:
    """Make incompressible files; give their bytes."""
    (folder / "files").mkdir(parents=True)
    each, generator = megabytes * 10**6 // files, np.random.default_rng(1)
    for number in range(files):
        with (folder / "files" / f"{number:06}.bin").open("wb") as file:
            for offset in range(0, each, 1 << 24):
                file.write(generator.bytes(min(1 << 24, each - offset)))
    return each * files


def run(given: argparse.Namespace, stack: ExitStack) -> None:
    """Measure everything and print the table."""
    folder = Path(given.folder) / f"camnet-transfer-{os.getpid()}"
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    total_bytes = make_files(folder / "here", given.megabytes, given.files)
    link: Link | None = None
    if given.round_trip_ms:
        options = {"round_trip_ms": given.round_trip_ms, "rate_mbit_per_s": given.rate_mbit_per_s, "loss": given.loss}
        link = stack.enter_context(wide_area_link(**options))
    settings = [f"ListenAddress {link.there_address}"] if link else []
    with inside(link.there) if link else nullcontext():
        sshd = stack.enter_context(loopback_sshd(folder / "sshd", settings=[*settings, "MaxStartups 200"]))
    host = link.there_address if link else sshd.host
    known_hosts = folder / "known_hosts"
    known_hosts.write_text(sshd.known_hosts.read_text().replace("[127.0.0.1]", f"[{host}]"))
    account = SshAccount(host=host, port=sshd.port, user=sshd.user, key=sshd.key, known_hosts=known_hosts)
    place = Place(folder / "here", folder / "there", account, folder / "state", given.streams)
    found, missing = methods(given.protocols.split(","))
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in found}
    for repeat in range(given.repeats + 1):
        for name in random.sample(list(found), len(found)):
            try:
                with inside(link.here) if link else nullcontext():
                    figures = measure(found[name], place, total_bytes)
            except (CamNetError, RuntimeError, OSError, subprocess.SubprocessError, paramiko.SSHException) as error:
                missing.append(f"{name} ({error})")
                del found[name], results[name]
                continue
            if repeat:
                results[name].append(figures)
    show(given, link, results, missing, total_bytes)


def show(
    given: argparse.Namespace,
    link: Link | None,
    results: dict[str, list[tuple[float, float]]],
    missing: list[str],
    total_bytes: int,
) -> None:
    """Print machine, link and table."""
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("camnet", "paramiko", "cryptography")
    )
    print(f"{platform.node()}, {os.cpu_count()} cores, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}")
    print(f"{versions}, Python {platform.python_version()}; missing: {', '.join(missing) or 'nothing'}")
    if link:
        rate = measured_rate_mb_per_s(link, 256 << 20)
        print(f"link: {measured_round_trip_ms(link):.1f} ms, {given.rate_mbit_per_s} Mb/s, loss {given.loss};", end=" ")
        print(f"one plain TCP connection ({congestion_control(link)}) {rate:.0f} MB/s over 268 MB")
    print(f"{given.files} file(s), {total_bytes / 1e6:.0f} MB in all, {given.streams} streams, n = {given.repeats}\n")
    base = median(rate for rate, _ in results["scp"]) if results.get("scp") else float("nan")
    print(f"{'method':20} {'MB/s':>7} {'least':>7} {'most':>7} {'x scp':>6} {'CPU s':>7}")
    for name, figures in sorted(results.items(), key=lambda item: -median(rate for rate, _ in item[1])):
        rates = [rate for rate, _ in figures]
        middle, worked_s = median(rates), median(worked for _, worked in figures)
        print(f"{name:20} {middle:7.0f} {min(rates):7.0f} {max(rates):7.0f} {middle / base:6.2f} {worked_s:7.2f}")


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--protocols", default="streams,sftp,scp", help="of CamNet, with commas between them")
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--files", type=int, default=1)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--round-trip-ms", type=float, default=0.0, help="0: loopback")
    parser.add_argument("--rate-mbit-per-s", type=float, default=1000.0)
    parser.add_argument("--loss", type=float, default=0.0)
    parser.add_argument("--folder", default="/dev/shm", help="in memory, for source and destination")  # noqa: S108  # that is its purpose
    with ExitStack() as stack:
        run(parser.parse_args(), stack)


if __name__ == "__main__":
    main()

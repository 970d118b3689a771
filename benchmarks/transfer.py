"""How fast files go to an SSH account: CamNet's movers against the tools that people use, in one run.

    python benchmarks/transfer.py                                             loopback
    python benchmarks/transfer.py --round-trip-ms 50 --rate-mbit-per-s 1000   a wide-area link (root, see wan.py;
                                                                              without root wan_relay.py, or --relay)

All methods take turns, in a new random order each repetition, after a warm-up that counts for nothing; medians.
Source and destination lie in memory (``--folder``, /dev/shm by default), so no disk is in the way. A rate counts from
the call to its end: connecting, start-up and, for CamNet's movers, the sha256 at the destination are in it (not that of
the source, which the manifest has). Of the peers only those with "sha256sum" verify, after the transfer, as one would
by hand; all files are compared when the clock has stopped. CPU seconds are those of the whole machine, client and
server together, so nothing else should run; or those of the control group that the script was started in, if it was.
Methods whose program is missing, or that fail, are named and left out.
"""

from __future__ import annotations

import argparse
import filecmp
import hashlib
import os
import platform
import random
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import paramiko
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.transfer_peers import Method, Place, entries_of, methods, versions
from benchmarks.wan import (
    Link,
    congestion_control,
    inside,
    measured_rate_mb_per_s,
    measured_round_trip_ms,
    wide_area_link,
)
from benchmarks.wan_relay import LIMITS, measured_through_relay, wide_area_relay
from deployments.loopback_sshd import loopback_sshd
from tasks.errors import CamNetError
from tests.services.gridftp import PROGRAM as GRIDFTP_SERVER
from tests.services.gridftp import ftp_server
from transfer.ledger import Ledger
from transfer.model import SshAccount


def busy_s() -> float:
    """Processor seconds of this process's control group (v1, cpuacct) where it has one, else of the whole machine."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if "cpuacct" in controllers.split(",") and group != "/":
            return int(Path(f"/sys/fs/cgroup/cpuacct{group}/cpuacct.usage").read_text()) / 1e9
    times = psutil.cpu_times()
    return float(times.user + times.system + times.softirq + times.irq)


@dataclass(frozen=True)
class Run:
    """What one run of a method took; `verify_s`: from the last byte until its digest was known, by our ledger."""

    mb_per_s: float
    worked_s: float
    verify_s: float


def measure(method: Method, place: Place, total_bytes: int) -> Run:
    """Run a method once into an empty folder."""
    shutil.rmtree(place.there, ignore_errors=True)
    place.there.mkdir()
    ledger = Ledger(place.state / "ledger.jsonl")
    known = len(ledger.read())
    before_s, started_s = busy_s(), time.monotonic()
    method(place)
    seconds, worked_s = time.monotonic() - started_s, busy_s() - before_s
    names = [path.name for path in (place.here / "files").iterdir()]
    _, mismatch, errors = filecmp.cmpfiles(place.here / "files", place.there / "files", names, shallow=False)
    if mismatch or errors:
        raise RuntimeError(f"{len(mismatch) + len(errors)} files did not arrive as they were")
    verify_s = sum(row.verify_seconds for row in ledger.read()[known:])
    return Run(total_bytes / 1e6 / seconds, worked_s, verify_s)


def make_files(folder: Path, megabytes: int, files: int) -> int:
    """Make incompressible files; give their bytes."""
    (folder / "files").mkdir(parents=True)
    each, generator = megabytes * 10**6 // files, np.random.default_rng(1)
    for number in range(files):
        with (folder / "files" / f"{number:06}.bin").open("wb") as file:
            for offset in range(0, each, 1 << 24):
                file.write(generator.bytes(min(1 << 24, each - offset)))
    return each * files


@dataclass(frozen=True)
class Distance:
    """How far away the server is.

    Attributes
    ----------
    link
        The namespaces between which it lies; None on loopback, and behind a relay.
    why_relayed
        Why there is a relay instead of them; None where there is none.
    """

    link: Link | None = None
    why_relayed: str | None = None


def distance(given: argparse.Namespace, stack: ExitStack) -> Distance:
    """Make the link, or find out that a relay has to do."""
    if not given.round_trip_ms:
        return Distance()
    if given.relay:
        return Distance(why_relayed="--relay")
    options = {"round_trip_ms": given.round_trip_ms, "rate_mbit_per_s": given.rate_mbit_per_s, "loss": given.loss}
    try:
        return Distance(link=stack.enter_context(wide_area_link(**options)))
    except (OSError, subprocess.CalledProcessError) as reason:
        return Distance(why_relayed=str(reason))


def run(given: argparse.Namespace, stack: ExitStack) -> None:
    """Measure everything and print the table."""
    folder = Path(given.folder) / f"camnet-transfer-{os.getpid()}"
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    total_bytes = make_files(folder / "here", given.megabytes, given.files)
    far = distance(given, stack)
    link = far.link
    settings = [f"ListenAddress {link.there_address}"] if link else []
    with inside(link.there) if link else nullcontext():
        sshd = stack.enter_context(loopback_sshd(folder / "sshd", settings=[*settings, "MaxStartups 200"]))
    host, port = link.there_address if link else sshd.host, sshd.port
    if far.why_relayed:
        figures = {"round_trip_ms": given.round_trip_ms, "rate_mbit_per_s": given.rate_mbit_per_s, "loss": given.loss}
        try:
            port = stack.enter_context(wide_area_relay(sshd.port, **figures))
        except ValueError as refusal:  # loss, which only namespaces have
            raise SystemExit(f"{refusal} (no link of namespaces: {far.why_relayed})") from None
    known_hosts = folder / "known_hosts"
    known_hosts.write_text(sshd.known_hosts.read_text().replace(f"[127.0.0.1]:{sshd.port}", f"[{host}]:{port}"))
    account = SshAccount(host=host, port=port, user=sshd.user, key=sshd.key, known_hosts=known_hosts)
    place = Place(
        folder / "here", folder / "there", account, folder / "state", given.streams, entries_of(folder / "here")
    )
    if link:
        place = replace(place, here_address=link.here_address)
    elif not far.why_relayed and Path(GRIDFTP_SERVER).exists():
        place = replace(place, ftp=stack.enter_context(ftp_server(folder / "ftp")))
    protocols = given.protocols.split(",")
    found, missing = methods(protocols, anonymous=link is None, relayed=far.why_relayed is not None)
    if given.methods:
        found = {name: method for name, method in found.items() if name in given.methods.split(";")}
    results: dict[str, list[Run]] = {name: [] for name in found}
    for repeat in range(given.repeats + 1):
        for name in random.sample(list(found), len(found)):
            try:
                with inside(link.here) if link else nullcontext():
                    one = measure(found[name], place, total_bytes)
            except (CamNetError, RuntimeError, OSError, subprocess.SubprocessError, paramiko.SSHException) as error:
                missing[name] = str(error)
                del found[name], results[name]
                continue
            if repeat:
                results[name].append(one)
    show(given, far, results, missing, total_bytes)


def show(
    given: argparse.Namespace,
    far: Distance,
    results: dict[str, list[Run]],
    missing: dict[str, str],
    total_bytes: int,
) -> None:
    """Print machine, link and table."""
    print(f"{platform.node()}, {os.cpu_count()} cores, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}")
    print(f"{versions()}, Python {platform.python_version()}; sha256 of one core {_sha256_mb_per_s():.0f} MB/s")
    print("not measured:", "; ".join(f"{name}: {reason}" for name, reason in missing.items()) or "nothing")
    if link := far.link:
        rate = measured_rate_mb_per_s(link, total_bytes)
        print(f"link: {measured_round_trip_ms(link):.1f} ms, {given.rate_mbit_per_s} Mb/s, loss {given.loss};", end=" ")
        print(f"one plain TCP connection ({congestion_control(link)}) {rate:.0f} MB/s for as much")
    if far.why_relayed:
        figures = {"round_trip_ms": given.round_trip_ms, "rate_mbit_per_s": given.rate_mbit_per_s}
        round_trip_ms, rate = measured_through_relay(**figures, size_bytes=total_bytes)
        print(f"no link of namespaces ({far.why_relayed}), but {LIMITS}")
        print(f"relay: {round_trip_ms:.1f} ms, {given.rate_mbit_per_s} Mb/s;", end=" ")
        print(f"one plain TCP connection {rate:.0f} MB/s for as much; CPU seconds are with the relay's")
    print(f"{given.files} file(s), {total_bytes / 1e6:.0f} MB in all, {given.streams} streams, n = {given.repeats}\n")
    base = median(run.mb_per_s for run in results["scp"]) if results.get("scp") else float("nan")
    print(f"{'method':20} {'MB/s':>7} {'least':>7} {'most':>7} {'x scp':>6} {'CPU s':>7} {'verify s':>9}")
    for name, runs in sorted(results.items(), key=lambda item: -median(run.mb_per_s for run in item[1])):
        rates = [run.mb_per_s for run in runs]
        middle, worked_s = median(rates), median(run.worked_s for run in runs)
        verify = f"{median(run.verify_s for run in runs):9.2f}" if name.startswith("CamNet") else ""
        print(
            f"{name:20} {middle:7.0f} {min(rates):7.0f} {max(rates):7.0f} {middle / base:6.2f} {worked_s:7.2f} {verify}"
        )


def _sha256_mb_per_s() -> float:
    """Give what limits every verified transfer of one file: how fast this machine computes a digest."""
    block = bytes(1 << 28)
    started_s = time.perf_counter()
    hashlib.sha256(block)
    return len(block) / 1e6 / (time.perf_counter() - started_s)


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--protocols", default="streams,sftp,scp", help="of CamNet, with commas between them")
    parser.add_argument("--methods", help="only these of the table's first column, with semicolons between them")
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--files", type=int, default=1)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--round-trip-ms", type=float, default=0.0, help="0: loopback")
    parser.add_argument("--rate-mbit-per-s", type=float, default=1000.0)
    parser.add_argument("--loss", type=float, default=0.0, help="share of packets; not through a relay")
    parser.add_argument("--relay", action="store_true", help="take wan_relay.py also where wan.py would do")
    parser.add_argument("--folder", default="/dev/shm", help="in memory, for source and destination")  # noqa: S108  # that is its purpose
    with ExitStack() as stack:
        run(parser.parse_args(), stack)


if __name__ == "__main__":
    main()

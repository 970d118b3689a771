"""What a transfer holds in memory and in open files: 100,000 tiny files, and one sparse file of 200 GB.

    python benchmarks/transfer_limits.py --protocols local,streams --files 100000 --sparse-gb 0
    python benchmarks/transfer_limits.py --protocols local --files 0 --sparse-gb 200

The second one reads 200 GB twice and needs as much room at the destination, because holes are sent as zeros. Both ends
lie on this machine, with a private SSH server between them for all protocols but ``local``. Printed are, for the
process that moves, the most memory and the most open files while it moved, beside what it had before.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from deployments.loopback_sshd import LoopbackSshd, loopback_sshd
from transfer.ledger import Ledger
from transfer.manifest import Entry, manifest_of
from transfer.model import Batch, Endpoint, SshAccount, TransferOptions
from transfer.mover import open_mover

TINY_BYTES = 5


def account(server: LoopbackSshd) -> SshAccount:
    """Give the account of the private server."""
    return SshAccount(
        host=server.host, port=server.port, user=server.user, key=server.key, known_hosts=server.known_hosts
    )


def make_files(folder: Path, files: int, sparse_bytes: int) -> tuple[Entry, ...]:
    """Make the files, 1,000 in a folder; describe them."""
    sizes = {f"{number // 1000:04}/{number:06}": TINY_BYTES for number in range(files)}
    sizes |= {"sparse.bin": sparse_bytes} if sparse_bytes else {}
    for name, size_bytes in sizes.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.truncate(path, size_bytes)
    return manifest_of(folder, [(name, "log", None, None) for name in sizes], run="limits", site="a").entries


def memory_mib() -> float:
    """Most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(protocol: str, batch: Batch, ledger: Ledger) -> dict[str, object]:
    """Move the batch; give what it took."""
    mover = open_mover(protocol, batch.source, batch.destination, TransferOptions(), ledger)
    before_mib, most, ended = memory_mib(), [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            most[0] = max(most[0], len(list(Path("/proc/self/fd").iterdir())))

    watcher = threading.Thread(target=watch)
    watcher.start()
    began_s = time.monotonic()
    outcomes = mover.move(batch)
    took_s = time.monotonic() - began_s
    ended.set()
    watcher.join()
    return {
        "protocol": protocol,
        "files": len(outcomes),
        "bytes": sum(entry.bytes for entry in batch.entries),
        "states": sorted({outcome.state for outcome in outcomes}),
        "seconds": round(took_s, 1),
        "memory_before_mib": round(before_mib),
        "most_memory_mib": round(memory_mib()),
        "most_open_files": most[0],
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    """Run from the command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--protocols", default="local,streams")
    options.add_argument("--files", type=int, default=100_000)
    options.add_argument("--sparse-gb", type=float, default=0)
    options.add_argument("--folder", type=Path, default=None, help="where the files are made; default: TMPDIR")
    chosen = options.parse_args()
    for protocol in chosen.protocols.split(","):
        # Of its own for each, because the most memory never shrinks.
        if os.fork() == 0:
            with tempfile.TemporaryDirectory(dir=chosen.folder) as name, loopback_sshd(Path(name) / "sshd") as server:
                here, there = Path(name) / "here", Path(name) / "there"
                here.mkdir()
                entries = make_files(here, chosen.files, int(chosen.sparse_gb * 1e9))
                ssh = None if protocol == "local" else account(server)
                source, destination = Endpoint(site="a", root=str(here)), Endpoint(site="b", root=str(there), ssh=ssh)
                batch = Batch(run="limits", source=source, destination=destination, entries=entries)
                ledger = Ledger(Path(name) / "state" / "ledger.jsonl")
                print(json.dumps(measure(protocol, batch, ledger)), flush=True)
            os._exit(0)
        _, status = os.wait()
        if status:
            raise SystemExit(1)


if __name__ == "__main__":
    main()

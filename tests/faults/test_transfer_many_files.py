"""Very many files and very large ones: memory and descriptors that do not grow with them, and what too few are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.loopback_sshd import LoopbackSshd, loopback_sshd
from tests.services.sshd_route import QUICK, account_of, random_bytes, route_of
from transfer.model import TransferOptions

REPOSITORY = Path(__file__).resolve().parent.parent.parent
MIB = 1 << 20

MOVE_AND_MEASURE = """
import json, os, resource, sys, threading
from pathlib import Path
from transfer.ledger import Ledger
from transfer.model import Batch, TransferOptions
from transfer.mover import open_mover

batch = Batch.model_validate_json(Path(sys.argv[1]).read_bytes())
options = TransferOptions.model_validate_json(sys.argv[2])
mover = open_mover(sys.argv[4], batch.source, batch.destination, options, Ledger(Path(sys.argv[3])))
most, ended = [0], threading.Event()

def watch():
    while not ended.wait(0.01):
        most[0] = max(most[0], len(os.listdir("/proc/self/fd")))

watcher = threading.Thread(target=watch)
watcher.start()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
states = {outcome.state for outcome in mover.move(batch)}
ended.set()
watcher.join()
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps({"states": sorted(states), "descriptors": most[0], "grown_kib": grown}))
"""


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with loopback_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


def measured(folder: Path, way: str, sshd: LoopbackSshd, files: dict[str, int]) -> dict[str, object]:
    """Move sparse files of these sizes in a process of its own; give its figures."""
    route = route_of(folder, way, account_of(sshd))
    for name, size_bytes in files.items():
        path = route.here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(size_bytes)
    batch = route.batch(*files)
    (folder / "batch.json").write_text(batch.model_dump_json())
    arguments = [folder / "batch.json", TransferOptions().model_dump_json(), route.ledger.path, route.protocol]
    done = subprocess.run(
        [sys.executable, "-c", MOVE_AND_MEASURE, *map(str, arguments)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        timeout=120,
        check=True,
    )
    assert {name: (route.there / name).stat().st_size for name in files} == files
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("way", "files"), [("local", 600), ("streams push", 2000)])
def test_many_tiny_files_take_no_more_descriptors_and_little_memory(
    tmp_path: Path, sshd: LoopbackSshd, way: str, files: int
) -> None:
    few = measured(tmp_path / "few", way, sshd, {f"{k:06}": 5 for k in range(100)})
    many = measured(tmp_path / "many", way, sshd, {f"{k % 10}/{k:06}": 5 for k in range(files)})
    assert few["states"] == many["states"] == ["done"]
    assert int(str(many["descriptors"])) <= int(str(few["descriptors"])) + 60
    assert int(str(many["grown_kib"])) - int(str(few["grown_kib"])) < files * 6


@pytest.mark.parametrize("way", ["local", "streams push"])
def test_a_large_sparse_file_takes_no_more_memory_than_its_chunks(tmp_path: Path, sshd: LoopbackSshd, way: str) -> None:
    found = measured(tmp_path, way, sshd, {"sparse.bin": 200 * MIB + 1})
    assert found["states"] == ["done"]
    options = TransferOptions()
    assert int(str(found["grown_kib"])) < 3 * options.streams * options.chunk_bytes / 1024
    assert int(str(found["descriptors"])) < 60


MOVE_WITH_TOO_FEW = """
import os, resource, sys
from pathlib import Path
from transfer.ledger import Ledger
from transfer.model import Batch, TransferOptions
from transfer.mover import open_mover
import transfer.journal
batch = Batch.model_validate_json(Path(sys.argv[1]).read_bytes())
options = TransferOptions.model_validate_json(sys.argv[2])
mover = open_mover(sys.argv[4], batch.source, batch.destination, options, Ledger(Path(sys.argv[3])))
load = transfer.journal.Journal.begin
def begin(self, part):
    # From here on no file, pipe or socket can be opened but the ledger.
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return load(self, part)
transfer.journal.Journal.begin = begin
append = Ledger.append
def append_anyway(self, row):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    append(self, row)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
Ledger.append = append_anyway
(outcome,) = mover.move(batch)
print(outcome.model_dump_json())
"""


@pytest.mark.parametrize("way", ["local", "sftp push", "streams push", "scp push"])
def test_too_few_descriptors_are_fatal_and_named(tmp_path: Path, sshd: LoopbackSshd, way: str) -> None:
    """They do not come back by waiting: one attempt, one clear error."""
    route = route_of(tmp_path / "sites", way, account_of(sshd))
    route.put({"a.bin": random_bytes(500_000)})
    batch = route.batch("a.bin")
    (tmp_path / "batch.json").write_text(batch.model_dump_json())
    arguments = [tmp_path / "batch.json", QUICK.model_dump_json(), route.ledger.path, route.protocol]
    done = subprocess.run(
        [sys.executable, "-c", MOVE_WITH_TOO_FEW, *map(str, arguments)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    outcome = json.loads(done.stdout)
    assert (outcome["state"], outcome["kind"]) == ("failed", "permanent")
    assert "too many open files" in outcome["error"].lower()
    assert "ulimit -n" in outcome["remedy"]
    assert len(route.ledger.read()) == 1
    assert not (route.there / "a.bin").exists()
    assert route.move(batch)[0].state == "done"

"""No secret is ever told: not in a log, a ledger, a journal, an error or a command line."""

from __future__ import annotations

import logging
import secrets
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from deployments.loopback_sshd import LoopbackSshd, loopback_sshd
from tasks.errors import CamNetError
from tests.services.gridftp import gsiftp_server, make_grid, sshftp_server
from tests.services.sshd_route import CHUNK_BYTES, QUICK, Route, account_of, random_bytes, route_of
from transfer.mover import open_mover
from transfer.streams import data_port

WAYS = ["sftp push", "streams push", "tls push", "scp push", "rsync push", "fdt push", "gridftp push", "gsiftp push"]


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with loopback_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


def lines_of_keys(*files: Path) -> set[str]:
    """Give what private keys have between their first and last line."""
    lines = {line.strip() for file in files for line in file.read_text().splitlines()}
    return {line for line in lines if len(line) > 20 and not line.startswith("-----")}


@contextmanager
def command_lines() -> Iterator[set[str]]:
    """Gather the command lines of all processes of this machine as long as the block lasts."""
    found: set[str] = set()
    ended = threading.Event()

    def gather() -> None:
        while not ended.wait(0.02):
            for process in psutil.process_iter():
                try:
                    found.add(" ".join(process.cmdline()))
                except psutil.Error:
                    continue  # it has just ended

    gatherer = threading.Thread(target=gather)
    gatherer.start()
    try:
        yield found
    finally:
        ended.set()
        gatherer.join()


@pytest.mark.parametrize(
    ("way", "trouble"),
    [*((way, "none") for way in WAYS), *((way, "refused") for way in ("sftp push", "tls push", "gsiftp push"))],
)
def test_no_secret_is_ever_told(
    tmp_path: Path,
    sshd: LoopbackSshd,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    trouble: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    known = lines_of_keys(sshd.key)
    made, certify = [secrets.token_bytes], data_port._self_signed

    def token(size: int) -> bytes:
        value = made[0](size)
        known.add(value.hex())
        return value

    def self_signed() -> tuple[str, str]:
        certificate, key = certify()
        known.update(line for line in key.splitlines() if len(line) > 20 and not line.startswith("-----"))
        return certificate, key

    monkeypatch.setattr(secrets, "token_bytes", token)
    monkeypatch.setattr(data_port, "_self_signed", self_signed)
    with route_over(tmp_path, way, sshd, known) as route:
        told = told_by(route, tmp_path, trouble)
    told += [record.getMessage() + repr(vars(record)) for record in caplog.records]
    assert known
    assert len(told) > 4
    assert {word for word in known if any(word in one for one in told)} == set()


@contextmanager
def route_over(folder: Path, way: str, sshd: LoopbackSshd, known: set[str]) -> Iterator[Route]:
    account = account_of(sshd)
    if way != "gsiftp push":
        yield route_of(folder / "sites", way, account, servers={"push": sshftp_server(account)})
        return
    grid = make_grid(folder / "grid")
    known |= lines_of_keys(grid.folder / "user.key", grid.folder / "host.key")
    with gsiftp_server(folder / "server", grid) as server:
        yield route_of(folder / "sites", "gridftp push", account, servers={"push": server})


def told_by(route: Route, folder: Path, trouble: str) -> list[str]:
    """Move a large and a small file; give all that is said and left, but the logs."""
    route.put({"a.bin": random_bytes(5 * CHUNK_BYTES), "b.bin": b"b"})
    batch = route.batch("a.bin", "b.bin")
    if trouble == "refused":
        assert route.destination.ssh is not None
        nothing = folder / "known_hosts"
        nothing.write_text("# nobody\n")
        ssh = route.destination.ssh.model_copy(update={"known_hosts": nothing})
        batch = batch.model_copy(update={"destination": route.destination.model_copy(update={"ssh": ssh})})
    mover = open_mover(route.protocol, batch.source, batch.destination, QUICK, route.ledger)
    told = [batch.model_dump_json(), repr(batch), repr(mover), repr(vars(mover))]
    with command_lines() as lines:
        try:
            told += [outcome.model_dump_json() for outcome in mover.move(batch)]
            assert trouble == "none"
        except CamNetError as fault:
            assert trouble == "refused"
            told += [repr(fault), "".join(traceback.format_exception(fault))]
        time.sleep(0.05)
    told += [path.read_text() for path in route.ledger.path.parent.rglob("*") if path.is_file()]
    return [*told, *lines]

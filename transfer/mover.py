"""Movers: one interface for every protocol, and the table of those there are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from tasks.errors import InputError
from transfer.carried import CarriedMover
from transfer.carrier import Carrier
from transfer.choice import Choice, choose
from transfer.engine import Engine, ignore_progress
from transfer.fdt import FdtCarrier
from transfer.globus import GlobusMover
from transfer.gridftp import GridftpCarrier
from transfer.ledger import Ledger
from transfer.local import LocalStore
from transfer.model import Batch, Endpoint, Features, Outcome, Progress, TransferOptions
from transfer.open_store import open_store
from transfer.rsync import RsyncCarrier
from transfer.scp import ScpCarrier
from transfer.sftp_mover import SftpMover
from transfer.streams.mover import StreamsMover

_log = logging.getLogger(__name__)


class Mover(Protocol):
    """Moves batches from one endpoint to another.

    Every mover keeps these promises, and the contract suite holds all of them to it:

    - On return every entry of the batch has an outcome, in the batch's order. *Done* and *already*: the file
      lies under its final name and has the manifest's size and digest, computed from what lies at the
      destination. *Failed*: what was under the final name is untouched.
    - Moving the same batch again moves only what is missing, and inside a file only what had not arrived.
    - Killed at any instruction, nothing is lost: the next call finishes with the same digests.
    - Nothing outside of the two roots is read or written, also where a symbolic link leads there.
    - A batch that the source's policy forbids is refused before a connection or a file is opened.
    - Every attempt at a file is a row of the ledger.
    """

    @property
    def features(self) -> Features:
        """What this mover can do."""

    def move(self, batch: Batch, progress: Progress = ignore_progress) -> list[Outcome]:
        """Move the files of `batch`; return one outcome an entry.

        Raises
        ------
        PolicyRefusal
            The batch holds what may not leave the source.
        InputError
            An account, key, host key or site is wrong, so that no file could be moved.
        """

    def cancel(self) -> None:
        """Stop `move`, from another thread: it returns soon, and what has not arrived has failed for now."""


_Make = Callable[[Endpoint, Endpoint, TransferOptions, Ledger], Mover]


def choose_protocol(
    source: Endpoint,
    destination: Endpoint,
    options: TransferOptions,
    ledger: Ledger,
    file_bytes: Sequence[int] = (),
) -> Choice:
    """Choose a protocol for two endpoints and files of these sizes; all ledgers beside `ledger`'s folder are asked."""
    offered, refused = [], {}
    for name, make in _MOVERS.items():
        try:
            offered.append(make(source, destination, options, ledger).features)
        except InputError as refusal:  # these ends do not offer what it needs
            refused[name] = refusal
    if not offered and any(end.globus and end.globus.only for end in (source, destination)):
        raise refused["globus"]
    rows = (row for path in sorted(ledger.path.parent.parent.glob("*/ledger.jsonl")) for row in Ledger(path).read())
    return choose(source, destination, offered, rows, file_bytes=file_bytes)


def open_mover(
    protocol: str,
    source: Endpoint,
    destination: Endpoint,
    options: TransferOptions,
    ledger: Ledger,
    *,
    file_bytes: Sequence[int] = (),
) -> Mover:
    """Make the mover for a protocol name, or for ``auto``; nothing is connected yet.

    Parameters
    ----------
    file_bytes
        Sizes of the files that it will move, for ``auto``.

    Raises
    ------
    InputError
        No mover has that name, or the endpoints do not offer what it needs.
    """
    if protocol == "auto":
        choice = choose_protocol(source, destination, options, ledger, file_bytes)
        _log.info("%s → %s: %s", source.site, destination.site, choice.why)
        protocol = choice.protocol
    if protocol not in _MOVERS:
        raise InputError(f"no mover is called {protocol!r}", remedy=f"use auto or one of {', '.join(sorted(_MOVERS))}")
    return _MOVERS[protocol](source, destination, options, ledger)


def _local(source: Endpoint, destination: Endpoint, options: TransferOptions, ledger: Ledger) -> Mover:
    _refuse_collections("local", source, destination)
    for end in (source, destination):
        if end.ssh:
            raise InputError(f"{end.site} is no folder of this machine", remedy="use auto, or a protocol over SSH")
    return Engine(
        Features(protocol="local", parallel=True, resumes=True, encrypted=True),
        source,
        destination,
        open_source=lambda: LocalStore(Path(source.root)),
        open_destination=lambda: LocalStore(Path(destination.root)),
        options=options,
        ledger=ledger,
    )


def _sftp(source: Endpoint, destination: Endpoint, options: TransferOptions, ledger: Ledger) -> Mover:
    _need_account("sftp", source, destination)
    return SftpMover(source, destination, options, ledger)


def _streams(source: Endpoint, destination: Endpoint, options: TransferOptions, ledger: Ledger) -> Mover:
    _need_account("streams", source, destination)
    return StreamsMover(
        source, destination, options, ledger, fallback=lambda: _sftp(source, destination, options, ledger)
    )


def _scp(source: Endpoint, destination: Endpoint, options: TransferOptions, ledger: Ledger) -> Mover:
    _need_account("scp", source, destination)
    return _carried(ScpCarrier(source, destination, options), source, destination, options, ledger)


def _rsync(source: Endpoint, destination: Endpoint, options: TransferOptions, ledger: Ledger) -> Mover:
    _need_account("rsync", source, destination)
    return _carried(RsyncCarrier(source, destination, options), source, destination, options, ledger)


def _fdt(source: Endpoint, destination: Endpoint, options: TransferOptions, ledger: Ledger) -> Mover:
    _need_account("fdt", source, destination)
    return _carried(FdtCarrier(source, destination, options), source, destination, options, ledger)


def _gridftp(source: Endpoint, destination: Endpoint, options: TransferOptions, ledger: Ledger) -> Mover:
    _refuse_collections("gridftp", source, destination)
    return _carried(GridftpCarrier(source, destination, options), source, destination, options, ledger)


def _carried(
    carrier: Carrier, source: Endpoint, destination: Endpoint, options: TransferOptions, ledger: Ledger
) -> Mover:
    return CarriedMover(
        carrier,
        source,
        destination,
        open_source=lambda: open_store(source, options),
        open_destination=lambda: open_store(destination, options),
        options=options,
        ledger=ledger,
    )


def _refuse_collections(protocol: str, source: Endpoint, destination: Endpoint) -> None:
    for end in (source, destination):
        if end.globus and end.globus.only:
            raise InputError(
                f"{end.site} is reached through its Globus collection alone, and not over {protocol}",
                remedy="use auto or globus, or add [ssh] to its site file and take out only",
            )


def _need_account(protocol: str, source: Endpoint, destination: Endpoint) -> None:
    _refuse_collections(protocol, source, destination)
    if not (source.ssh or destination.ssh):
        raise InputError(
            f"neither {source.site} nor {destination.site} has an SSH account, which {protocol} needs",
            remedy="add [ssh] to the site file of the one that is elsewhere, or use the protocol local",
        )


_MOVERS: dict[str, _Make] = {
    "local": _local,
    "streams": _streams,
    "sftp": _sftp,
    "scp": _scp,
    "rsync": _rsync,
    "gridftp": _gridftp,
    "fdt": _fdt,
    "globus": GlobusMover,
}

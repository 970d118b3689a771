"""What a transfer would do, found out by looking at the destination; nothing is sent or written."""

from __future__ import annotations

from contextlib import closing
from typing import Literal

from tasks.artifacts import Record
from tasks.errors import CamNetError
from transfer import ranges
from transfer.faults import fault_of
from transfer.journal import Target, arrived_ranges
from transfer.ledger import Ledger
from transfer.model import Batch, TransferOptions
from transfer.mover import choose_protocol
from transfer.open_store import open_store
from transfer.policy import refuse_forbidden


class Forecast(Record):
    """What would become of one file.

    Attributes
    ----------
    state
        ``there``: a file of that size is there, its digest would be checked; ``differs``: it would be
        replaced; ``partly``: a broken off transfer would go on; ``missing``.
    bytes_to_send
        At most: 0 where the file is there.
    """

    path: str
    kind: str
    bytes: int
    state: Literal["there", "differs", "partly", "missing"]
    bytes_to_send: int


class DryRun(Record):
    """Forecast of a batch, with the protocol and the reason for it."""

    source: str
    destination: str
    protocol: str
    why: str
    files: tuple[Forecast, ...]
    bytes_to_send: int


def dry_run(batch: Batch, *, protocol: str, options: TransferOptions, ledger: Ledger) -> DryRun:
    """Look what moving `batch` would do.

    Raises
    ------
    PolicyRefusal
        The batch may not leave its source.
    CamNetError
        The destination cannot be looked at.
    """
    refuse_forbidden(batch)
    why = "named by the configuration"
    if protocol == "auto":
        sizes = [entry.bytes for entry in batch.entries]
        choice = choose_protocol(batch.source, batch.destination, options, ledger, sizes)
        protocol, why = choice.protocol, choice.why
    try:
        files = _forecasts(batch, options, ledger)
    except CamNetError:
        raise
    except Exception as problem:
        fault = fault_of(problem, subject=f"{batch.destination.site}:{batch.destination.root}")
        if fault is None:
            raise
        raise fault from problem
    return DryRun(
        source=batch.source.site,
        destination=batch.destination.site,
        protocol=protocol,
        why=why,
        files=tuple(files),
        bytes_to_send=sum(file.bytes_to_send for file in files),
    )


def _forecasts(batch: Batch, options: TransferOptions, ledger: Ledger) -> list[Forecast]:
    files = []
    with closing(open_store(batch.destination, options)) as store:
        for entry in batch.entries:
            path = batch.destination_path(entry)
            state = store.stat(path)
            target = Target(batch.destination.site, batch.destination.root, path, entry.bytes, entry.digest)
            arrived_bytes = ranges.total_bytes(arrived_ranges(ledger.path.parent / "journals", target))
            left_bytes = entry.bytes - arrived_bytes
            if state is not None and state.bytes == entry.bytes:
                left_bytes, word = 0, "there"
            elif arrived_bytes:
                word = "partly"
            else:
                word = "missing" if state is None else "differs"
            facts = {"path": entry.path, "kind": entry.kind, "bytes": entry.bytes, "state": word}
            files.append(Forecast.model_validate({**facts, "bytes_to_send": left_bytes}))
    return files

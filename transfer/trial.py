"""One trial of a transfer benchmark: make files at the source, move them, take all of it away."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path, PurePosixPath

import numpy as np

from tasks import atomic
from tasks.artifacts import Record
from tasks.errors import CamNetError, PermanentFault
from transfer.benchmark import Cell, Trial
from transfer.faults import fault_of
from transfer.journal import Target
from transfer.ledger import Ledger, utc_now
from transfer.manifest import Entry
from transfer.model import Batch, Endpoint, TransferOptions
from transfer.mover import open_mover
from transfer.open_store import open_store
from transfer.store import ByteStore

_log = logging.getLogger(__name__)
FOLDER = ".camnet-benchmark"
_BLOCK_BYTES = 1 << 20
_SPARE = 1.05


class TrialFiles(Record):
    """What lies at both sites while a trial runs.

    Attributes
    ----------
    source
        None where the files that are sent were there before, and stay.
    digests
        Of the files, in the order of `names`; empty until all are made.
    """

    source: str | None
    destination: str
    folder: str
    names: tuple[str, ...]
    digests: tuple[str, ...] = ()


def run_trial(
    cell: Cell,
    repeat: int,
    source: Endpoint,
    destination: Endpoint,
    *,
    options: TransferOptions,
    ledger: Ledger,
    notes: Path,
) -> Trial:
    """Measure a cell once; what goes wrong is told in the trial, and nothing is left at either site.

    The files hold random bytes, so that nothing on the way makes them smaller.

    Parameters
    ----------
    notes
        Folder that keeps a note of the files as long as they exist: what a killed trial leaves is taken away by
        `take_away`.

    Raises
    ------
    CamNetError
        An end cannot be reached, or has no room.
    """
    for end in (destination, source):
        with _named(end), closing(open_store(end, options)) as store:
            _need_room(end, store.free_bytes(), cell.total_bytes)
    own = uuid.uuid4().hex
    folder, note = f"{FOLDER}/{own}", notes / f"{own}.json"
    files = TrialFiles(
        source=source.site,
        destination=destination.site,
        folder=folder,
        names=tuple(f"{number:06}.bin" for number in range(cell.files)),
    )
    atomic.write_text(note, files.model_dump_json())
    try:
        with _named(source), closing(open_store(source, options)) as store:
            entries = [_write(store, f"{folder}/{name}", name, cell.file_bytes) for name in files.names]
        files = files.model_copy(update={"digests": tuple(entry.digest for entry in entries)})
        atomic.write_text(note, files.model_dump_json())
        batch = Batch(
            run="benchmark",
            source=source,
            destination=destination,
            entries=tuple(entries),
            source_folder=folder,
            destination_folder=folder,
        )
        trial = measure(cell, repeat, batch, options=options, ledger=ledger)
    except BaseException:  # an interruption too must not leave the files there
        with suppress(CamNetError):  # what happened first is told; a note that stays has the rest taken away later
            _clear((source, destination), files, options, note)
        raise
    _clear((source, destination), files, options, note)
    return trial


def run_shards_trial(
    cell: Cell, repeat: int, batch: Batch, *, options: TransferOptions, ledger: Ledger, notes: Path
) -> Trial:
    """Measure how a run's own files move; what arrives is taken away again, the files at the source stay.

    Raises
    ------
    CamNetError
        The destination cannot be reached, or has no room.
    """
    destination = batch.destination
    with _named(destination), closing(open_store(destination, options)) as store:
        _need_room(destination, store.free_bytes(), cell.total_bytes)
    own = uuid.uuid4().hex
    folder, note = f"{FOLDER}/{own}", notes / f"{own}.json"
    files = TrialFiles(
        source=None,
        destination=destination.site,
        folder=folder,
        names=tuple(entry.path for entry in batch.entries),
        digests=tuple(entry.digest for entry in batch.entries),
    )
    atomic.write_text(note, files.model_dump_json())
    try:
        moved = batch.model_copy(update={"destination_folder": folder})
        trial = measure(cell, repeat, moved, options=options, ledger=ledger)
    except BaseException:  # an interruption too must not leave the files there
        with suppress(CamNetError):  # as above
            _clear((destination,), files, options, note)
        raise
    _clear((destination,), files, options, note)
    return trial


def measure(cell: Cell, repeat: int, batch: Batch, *, options: TransferOptions, ledger: Ledger) -> Trial:
    """Move a batch with the cell's protocol and streams; give the figures."""
    options = options.model_copy(update={"streams": cell.streams})
    rows_before = len(ledger.read())
    start, load, started_s, error = utc_now(), os.getloadavg()[0], time.monotonic(), None
    try:
        mover = open_mover(cell.protocol, batch.source, batch.destination, options, ledger)
        outcomes = mover.move(batch)
        error = next((outcome.error or outcome.state for outcome in outcomes if outcome.state != "done"), None)
    except CamNetError as fault:
        error = str(fault)
    seconds = time.monotonic() - started_s
    rows = ledger.read()[rows_before:]
    return Trial(
        cell=cell,
        repeat=repeat,
        start=start,
        seconds=seconds,
        load=load,
        wire_seconds=sum(row.wire_seconds for row in rows),
        startup_seconds=sum(row.startup_seconds for row in rows),
        verify_seconds=sum(row.verify_seconds for row in rows),
        retries=sum(row.retries for row in rows),
        bytes_resent=sum(row.bytes_resent for row in rows),
        error=error,
    )


def take_away(notes: Path, ends: dict[str, Endpoint], options: TransferOptions) -> None:
    """Remove what killed trials left at the sites in `ends`; a site out of reach keeps its note for the next time."""
    for note in sorted(notes.glob("*.json")):
        files = TrialFiles.model_validate_json(note.read_bytes())
        sites = [site for site in (files.source, files.destination) if site is not None]
        if not set(sites) <= set(ends):
            continue
        try:
            for site in sites:
                _remove(ends[site], files, options)
        except CamNetError as fault:
            _log.warning("what a killed trial left in %s stays there: %s", files.folder, fault)
        else:
            note.unlink()


def _clear(ends: Iterable[Endpoint], files: TrialFiles, options: TransferOptions, note: Path) -> None:
    """Take the files of a trial away at all ends, then its note."""
    for end in ends:
        _remove(end, files, options)
    note.unlink()


def _remove(end: Endpoint, files: TrialFiles, options: TransferOptions) -> None:
    """Take the files of a trial away, whole or not, and their folders where the store can."""
    paths = [f"{files.folder}/{name}" for name in files.names]
    if end.site == files.destination:
        paths += [
            Target(site=end.site, root=str(end.root), path=path, bytes=0, digest=digest).partial
            for path, digest in zip(paths, files.digests, strict=False)
        ]
    with _named(end), closing(open_store(end, options)) as store:
        for path in paths:
            store.remove(path)
        for folder in _folders(files):
            store.remove_folder(folder)


def _folders(files: TrialFiles) -> list[str]:
    """Folders that a trial's files lie in, the inner ones first."""
    own = {str(parent) for name in files.names for parent in PurePosixPath(name).parents} - {"."}
    inner = sorted(own, key=lambda path: path.count("/"), reverse=True)
    return [*(f"{files.folder}/{path}" for path in inner), files.folder, FOLDER]


@contextmanager
def _named(end: Endpoint) -> Iterator[None]:
    """Put errors of the world into our words, with the site's name."""
    try:
        yield
    except Exception as error:
        fault = fault_of(error, subject=f"{end.site}:{end.root}")
        if fault is None or fault is error:
            raise
        raise fault from error


def _need_room(end: Endpoint, free_bytes: int | None, needed_bytes: int) -> None:
    if free_bytes is not None and free_bytes < needed_bytes * _SPARE:
        raise PermanentFault(
            f"has {free_bytes / 1e9:.1f} GB free, the benchmark needs {needed_bytes * _SPARE / 1e9:.1f} GB at a time",
            subject=f"{end.site}:{end.root}",
            remedy="free some space there, or leave out the largest --sizes",
        )


def _write(store: ByteStore, path: str, name: str, size_bytes: int) -> Entry:
    content = sha256()

    def blocks() -> Iterator[bytes]:
        generator = np.random.default_rng()
        for offset in range(0, size_bytes, _BLOCK_BYTES):
            block = generator.bytes(min(_BLOCK_BYTES, size_bytes - offset))
            content.update(block)
            yield block

    store.write(path, 0, blocks())
    return Entry(path=name, kind="log", bytes=size_bytes, digest=f"sha256:{content.hexdigest()}")

"""The list of shards that a training expects: made from a manifest where the shards are, read where they will be."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from flows.called_off import refuse_when_called_off
from tasks.digests import file_digest
from tasks.errors import RetryableFault
from tasks.training.expected import (
    EXPECTED_NAME,
    ExpectedShards,
    expected_shard,
    read_expected,
    refuse_split_patients,
    write_expected,
)
from transfer.manifest import MANIFEST_NAME, Entry, Manifest, read_manifest

SAMPLED = "sampled/"
_POLL_S = 1.0
log = logging.getLogger(__name__)


def sampled_entries(manifest: Manifest) -> list[Entry]:
    """List the shards of random patches that are not empty."""
    return [entry for entry in manifest.entries if entry.path.startswith(SAMPLED) and entry.rows]


def expected_shards(manifest: Path) -> ExpectedShards:
    """Make the list from a manifest, all shards of which are there; their attributes and labels are read.

    Raises
    ------
    InputError
        It is no manifest, or a patient is in two splits.
    IntegrityError
        A shard is damaged.
    """
    named = read_manifest(manifest)
    shards = tuple(
        expected_shard(manifest.parent, entry.path, size_bytes=entry.bytes, digest=entry.digest)
        for entry in sampled_entries(named)
    )
    refuse_split_patients(shards)
    return ExpectedShards(manifest_digest=named.digest, manifest_file_digest=file_digest(manifest), shards=shards)


def announce(manifest: Path) -> Entry:
    """Write the list beside a manifest; give it as a file that can be transferred before the shards."""
    path = manifest.with_name(EXPECTED_NAME)
    write_expected(path, expected_shards(manifest))
    return Entry(path=path.name, kind="log", bytes=path.stat().st_size, rows=None, digest=file_digest(path))


def wait_for_expected(folder: Path, manifest_file_digest: str, *, patience_s: float) -> ExpectedShards:
    """Read the list of this manifest in `folder`, once it is there; without one, a manifest that is there will do.

    Raises
    ------
    RetryableFault
        It did not come in time, or what would bring it has failed.
    """
    path, deadline = folder / EXPECTED_NAME, time.monotonic() + patience_s
    told = False
    while True:
        refuse_when_called_off()
        expected = read_expected(path)
        if expected is not None and expected.manifest_file_digest == manifest_file_digest:
            return expected
        manifest = folder / MANIFEST_NAME
        if manifest.is_file() and file_digest(manifest) == manifest_file_digest:
            return expected_shards(manifest)
        if time.monotonic() > deadline:
            raise RetryableFault(
                f"did not come in {patience_s:.0f} s" if expected is None else "is of another manifest",
                subject=path,
                remedy="start `camnet transfer` with the same configuration, then this again",
            )
        if not told:
            log.info("waiting for the list of expected shards, %s", path)
            told = True
        time.sleep(_POLL_S)

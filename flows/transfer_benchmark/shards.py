"""A run's own shards, as a transfer benchmark measures with them."""

from __future__ import annotations

from pathlib import Path

from deployments.sites import Site, site_named
from tasks.artifacts import Record
from tasks.errors import InputError
from transfer.benchmark import Cell
from transfer.manifest import Entry, read_manifest
from transfer.model import Batch, Endpoint
from transfer.policy import refuse_forbidden


class RunShards(Record):
    """Shards at a site.

    Attributes
    ----------
    folder
        Of the manifest, relative to the site's root; the paths of the entries are relative to it.
    """

    site: str
    folder: str
    entries: tuple[Entry, ...]

    def batch(self, source: Endpoint, destination: Endpoint) -> Batch:
        """Give them as a batch.

        Raises
        ------
        PolicyRefusal
            They may not leave their site.
        """
        batch = Batch(
            run="benchmark", source=source, destination=destination, entries=self.entries, source_folder=self.folder
        )
        refuse_forbidden(batch)
        return batch

    def cell(self, destination: str, protocol: str, streams: int) -> Cell:
        """Give the cell that measures them."""
        return Cell(
            kind="shards",
            source=self.site,
            destination=destination,
            protocol=protocol,
            file_bytes=sum(entry.bytes for entry in self.entries) // len(self.entries),
            files=len(self.entries),
            streams=streams,
        )


def run_shards(manifest: Path, sites: dict[str, Site], measured: tuple[str, ...]) -> RunShards:
    """Find the shards that a manifest names.

    Raises
    ------
    InputError
        There is no manifest, it names no shards, or its site is not one that is `measured`, or not here.
    """
    found = read_manifest(manifest)
    if found.site not in measured:
        raise InputError(
            f"names files at {found.site}, which is none of the sites that are measured",
            subject=manifest,
            remedy=f"add {found.site} to --sites, or give a manifest of {' or '.join(measured)}",
        )
    root = site_named(sites, found.site).root.resolve()
    if not manifest.resolve().is_relative_to(root):
        raise InputError(
            f"does not lie below {root}, the root of {found.site}",
            subject=manifest,
            remedy="give the manifest where the stage wrote it; of a site elsewhere, run the benchmark there",
        )
    entries = tuple(entry for entry in found.entries if entry.kind == "patches")
    if not entries:
        raise InputError(
            "names no shards", subject=manifest, remedy="give the manifest of a run's patches, or of its staged ones"
        )
    folder = manifest.resolve().parent.relative_to(root).as_posix()
    return RunShards(site=found.site, folder=folder, entries=entries)

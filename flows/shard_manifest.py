"""The manifest of converted shards, so that they can be checked, transferred and trained on as the first ones."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tasks.errors import InputError
from tasks.patches.shards.convert import Converted
from transfer.manifest import MANIFEST_NAME, Entry, Kind, Manifest, manifest_of, read_manifest, write_manifest


def find_origin(shards: Iterable[Path]) -> tuple[str, str] | None:
    """Say of which run and site shards are: what the manifests that list them say; None if no manifest does.

    Raises
    ------
    InputError
        The shards are of several runs or sites, or of some it is not known: a manifest names one of each.
    IntegrityError
        A manifest was changed after it was written.
    """
    manifests: dict[Path, dict[Path, tuple[str, str]]] = {}
    origins = {shard: _origin(shard.parent.resolve() / shard.name, manifests) for shard in shards}
    found = set(origins.values())
    if len(found) > 1:
        raise InputError(
            "are of several runs or sites (or not all in a manifest): "
            + ", ".join(sorted("not known" if origin is None else " at ".join(origin) for origin in found)),
            subject="the shards",
            remedy="convert those of each run and site into a folder of their own, or give --run and --site",
        )
    return next(iter(found), None)


def write_converted_manifest(folder: Path, converted: Iterable[Converted], *, run: str, site: str) -> Path:
    """Write ``manifest.json`` of `folder`; call it when all shards are finished.

    What an earlier manifest of the folder lists stays listed: shards of one run may be converted in several calls.

    Raises
    ------
    InputError
        The manifest that is there is of another run or site; a file that it lists is missing or is another now.
    IntegrityError
        The manifest that is there was changed after it was written.
    """
    path = folder / MANIFEST_NAME
    made: dict[str, tuple[str, Kind, int | None, str | None]] = {
        place: (place, "patches", done.rows, None)
        for done in converted
        for place in [done.path.relative_to(folder).as_posix()]
    }
    earlier = _earlier(path, run, site)
    kept = [(entry.path, entry.kind, entry.rows, None) for entry in earlier if entry.path not in made]
    manifest = manifest_of(folder, [*kept, *made.values()], run=run, site=site)
    _refuse_changed(folder, earlier, manifest)
    write_manifest(path, manifest)
    return path


def _origin(shard: Path, manifests: dict[Path, dict[Path, tuple[str, str]]]) -> tuple[str, str] | None:
    for folder in shard.parents:
        path = folder / MANIFEST_NAME
        if folder not in manifests:
            manifests[folder] = {}
            if path.is_file():
                manifest = read_manifest(path)
                manifests[folder] = {folder / entry.path: (manifest.run, manifest.site) for entry in manifest.entries}
        if shard in manifests[folder]:
            return manifests[folder][shard]
    return None


def _earlier(path: Path, run: str, site: str) -> tuple[Entry, ...]:
    if not path.exists():
        return ()
    manifest = read_manifest(path)
    if (manifest.run, manifest.site) != (run, site):
        raise InputError(
            f"is of {manifest.run} at {manifest.site}, not of {run} at {site}",
            subject=path,
            remedy="convert into another folder, or remove it",
        )
    return manifest.entries


def _refuse_changed(folder: Path, earlier: tuple[Entry, ...], manifest: Manifest) -> None:
    now = {entry.path: entry.digest for entry in manifest.entries}
    for entry in earlier:
        if now[entry.path] != entry.digest:
            raise InputError(
                f"is not the file any more that {MANIFEST_NAME} beside it lists",
                subject=folder / entry.path,
                remedy="remove the manifest and run the same command again",
            )

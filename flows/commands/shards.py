"""``camnet shards``: look into finished shards, check them, exchange them with other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from flows.commands.options import JsonOption, print_json
from tasks.config import Encoding, Split
from tasks.errors import InputError

if TYPE_CHECKING:
    from tasks.patches.shards.export import Exporter
    from tasks.patches.shards.facts import ShardFacts

Format = Literal["png", "original", "webdataset"]
Image = Literal["png", "jpg"]
PathsArgument = Annotated[list[Path], typer.Argument(help="shards, or folders with *.patches.h5")]


def register(app: typer.Typer) -> None:
    """Add the group of commands to `app`."""
    group = typer.Typer(name="shards", help="Look into shards, check, convert and exchange them.", no_args_is_help=True)
    group.command()(info)
    group.command()(verify)
    group.command()(convert)
    group.command()(export)
    group.command("import")(import_file)
    group.command()(link)
    app.add_typer(group)


def info(paths: PathsArgument, as_json: JsonOption = False) -> None:
    """Say what shards hold: one line each."""
    from flows.shard_batch import each
    from tasks.patches.shards.facts import shard_facts
    from tasks.patches.shards.find import find_shards

    batch = each(find_shards(paths), shard_facts)
    if as_json:
        shards = [facts.model_dump(mode="json") for facts in batch.results]
        print_json({"shards": shards, "failures": batch.failures()})
    else:
        # A line may be longer than the terminal is wide; nothing of it is left out.
        Console(width=1000, highlight=False).print(_table(batch.results))
    batch.raise_if_partial()


def verify(
    paths: Annotated[list[Path] | None, typer.Argument(help="shards, or folders with *.patches.h5")] = None,
    manifest: Annotated[Path | None, typer.Option(help="also compare sizes and digests with this manifest")] = None,
    as_json: JsonOption = False,
) -> None:
    """Read shards completely and check them; exit code 4 if one is not what it should be.

    With a manifest and no path, all files of the manifest are checked.
    """
    from flows.shard_batch import verify_files
    from tasks.patches.shards.find import find_shards

    if not paths and manifest is None:
        raise InputError("names nothing to verify", subject="camnet shards verify", remedy="name shards or --manifest")
    batch = verify_files(find_shards(paths or []), manifest)
    if as_json:
        good = [{"path": str(path), "rows": rows} for path, rows in batch.results]
        print_json({"good": good, "failures": batch.failures()})
    else:
        rows = sum(rows for _, rows in batch.results)
        Console(highlight=False).print(f"{len(batch.results)} good ({rows:,} patches), {len(batch.errors)} bad")
    batch.raise_if_bad()


def convert(
    paths: PathsArgument,
    folder: Annotated[Path, typer.Argument(metavar="DEST", help="folder for the shards")],
    to: Annotated[
        Encoding, typer.Option(help="raw: the pixels; jpeg: each patch compressed, as its slide is if it is known")
    ],
    run: Annotated[str | None, typer.Option(help="run in the manifest; default: as the shards' manifest")] = None,
    site: Annotated[
        str | None, typer.Option(help="site of the manifest; default: that of the shards' manifest")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Store the pixels of shards in another way, with a manifest. Stopped, the same command goes on."""
    from flows.shard_batch import each, log
    from flows.shard_manifest import find_origin, write_converted_manifest
    from tasks.patches.shards.convert import Converted, convert_shard, find_conversions

    if to == "tiles":
        raise InputError(
            "cannot be made of a shard: only a slide has tiles",
            subject="--to tiles",
            remedy='make shards of the slides with preprocess.encoding = "tiles"',
        )
    _refuse_file(folder)
    if (run is None) != (site is None):
        raise InputError("belong together", subject="--run and --site", remedy="give both, or neither")
    destinations = find_conversions(paths, folder)
    origin = (run, site) if run is not None and site is not None else find_origin(destinations)

    def told(done: Converted) -> str:
        return f"{done.rows:,} patches in {done.bytes:,} bytes{' (found finished)' * done.reused}"

    batch = each(destinations, lambda path: convert_shard(path, destinations[path], to), told)
    manifest = None
    if origin is None:
        log.warning("%s: no manifest, since none lists the shards; name their --run and --site for one", folder)
    elif not batch.errors:
        manifest = write_converted_manifest(folder, batch.results, run=origin[0], site=origin[1])
    if as_json:
        converted = [done.model_dump(mode="json") for done in batch.results]
        told_manifest = None if manifest is None else str(manifest)
        print_json({"converted": converted, "failures": batch.failures(), "manifest": told_manifest})
    batch.raise_if_partial()


def export(
    paths: PathsArgument,
    folder: Annotated[Path, typer.Argument(metavar="DEST", help="folder for the files")],
    to: Annotated[Format, typer.Option(help="format")],
    mask_level: Annotated[int | None, typer.Option(min=0, max=12, help="original: level of the locations")] = None,
    image: Annotated[Image | None, typer.Option(help="webdataset: png, or jpg: smaller, loses a little")] = None,
    max_tar_bytes: Annotated[int | None, typer.Option(min=10240, help="webdataset: no tar is larger")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the patches of shards for other tools. Stopped, the same command goes on."""
    from flows.shard_batch import each
    from tasks.patches.shards.export import Exported, export_shard
    from tasks.patches.shards.find import find_shards

    exporter = _exporter(to, mask_level, image, max_tar_bytes)
    _refuse_file(folder)

    def told(done: Exported) -> str:
        written = done.written
        left_out = f", {written.left_out} without a label left out" if written.left_out else ""
        reused = " (found finished)" if done.reused else ""
        files = f"{len(written.files):,} file{'s' * (len(written.files) != 1)}"
        return f"{written.patches:,} patches in {files}{left_out}{reused}"

    batch = each(find_shards(paths), lambda path: export_shard(path, folder, exporter), told)
    if as_json:
        exported = [done.model_dump(mode="json") for done in batch.results]
        print_json({"exported": exported, "failures": batch.failures()})
    batch.raise_if_partial()


def import_file(
    file: Annotated[Path, typer.Argument(help="HDF5 file of the original tool")],
    to: Annotated[Path, typer.Option(help="folder for the shards")],
    mpp: Annotated[float, typer.Option(help="µm per pixel of the patches, which the file does not say")],
    split: Annotated[Split, typer.Option(help="split of all its slides, which the file does not say")],
    downsample: Annotated[
        float | None,
        typer.Option(help="level-0 pixels per pixel of the locations; default: 2 to the power of the level"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make one shard a slide of a file of the original tool (BGR, in either of its layouts)."""
    from flows.shard_batch import Batch, log
    from tasks.config import validated
    from tasks.patches.shards.original_import import ImportOptions, import_original

    options = validated(ImportOptions, {"mpp": mpp, "split": split, "downsample": downsample}, "options")
    done = import_original(file, to, options)
    for shard in done.shards:
        log.info("%s: %d patches%s", shard.path, shard.rows, " (found finished)" if shard.reused else "")
    for error in done.errors:
        log.error("%s", error)
    batch = Batch(done.shards, done.errors)
    if as_json:
        print_json(
            {
                "shards": [shard.model_dump(mode="json") for shard in done.shards],
                "failures": batch.failures(),
                "not_read": done.others,
            }
        )
    if done.others:
        log.warning("%s: not read, no patches of the original tool: %s", file, ", ".join(done.others[:10]))
    batch.raise_if_partial()


def link(
    paths: PathsArgument,
    to: Annotated[Path, typer.Option(help="HDF5 file beside or above the shards")],
    as_json: JsonOption = False,
) -> None:
    """Show many raw shards as one HDF5 file, for programs that know h5py and nothing of CamNet."""
    from tasks.patches.shards.find import find_shards
    from tasks.patches.shards.link import link_shards

    linked = link_shards(find_shards(paths), to)
    if as_json:
        print_json(linked)
        return
    Console(highlight=False).print(f"{linked.path}: {linked.rows:,} patches of {linked.shards} shards", soft_wrap=True)


def _refuse_file(folder: Path) -> None:
    if folder.is_file():
        raise InputError("is a file", subject=folder, remedy="name the folder for what is made last")


def _exporter(to: Format, mask_level: int | None, image: Image | None, max_tar_bytes: int | None) -> Exporter:
    from tasks.patches.shards.original_layout import OriginalLayout
    from tasks.patches.shards.png_folders import PngFolders
    from tasks.patches.shards.webdataset import WebDataset

    given = {"mask_level": mask_level, "image": image, "max_tar_bytes": max_tar_bytes}
    options = {name: value for name, value in given.items() if value is not None}
    kinds: dict[Format, tuple[type[Exporter], set[str]]] = {
        "png": (PngFolders, set()),
        "original": (OriginalLayout, {"mask_level"}),
        "webdataset": (WebDataset, {"image", "max_tar_bytes"}),
    }
    kind, known = kinds[to]
    for name in options.keys() - known:
        raise InputError(f"does not belong to --to {to}", subject=f"--{name.replace('_', '-')}", remedy="leave it out")
    return kind(**options)


def _table(shards: list[ShardFacts]) -> Table:
    table = Table(box=None, pad_edge=False)
    in_parts = any(facts.parts for facts in shards)
    for name in ("slide", *(["part"] if in_parts else []), "patient", "centre", "split", "encoding"):
        table.add_column(name, no_wrap=True)
    for name in ("patches", "tumour", "normal", "unknown", "px", "mpp", "bytes", "a patch"):
        table.add_column(name, no_wrap=True, justify="right")
    for facts in shards:
        table.add_row(
            facts.slide,
            *([f"{facts.part}/{facts.parts}" if facts.parts else "-"] if in_parts else []),
            facts.patient,
            "-" if facts.centre is None else str(facts.centre),
            facts.split,
            facts.encoding,
            *(f"{count:,}" for count in (facts.rows, facts.tumour, facts.normal, facts.unknown)),
            str(facts.patch_px),
            f"{facts.mpp:.4g}",
            f"{facts.bytes:,}",
            "-" if facts.bytes_per_patch is None else f"{facts.bytes_per_patch:,.0f}",
        )
    return table

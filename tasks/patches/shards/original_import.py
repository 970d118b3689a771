"""Makes shards of the original tool's files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tasks.artifacts import Record
from tasks.config import Split
from tasks.digests import file_digest
from tasks.errors import CamNetError, InputError, IntegrityError
from tasks.patches.attributes import ShardAttributes
from tasks.patches.filters import white_and_black_fraction
from tasks.patches.pixel_storage import in_batches
from tasks.patches.shard_names import SUFFIX
from tasks.patches.shards.original_entries import REMEDY, Entry, OriginalEntries, as_input
from tasks.patches.shards.original_layout import TISSUES
from tasks.patches.store import PatchBatch, open_shard, write_shard
from tasks.slides.camelyon import parse_name

_WHITE_LEVEL = 200
_MAX_LOCATION = 1 << 31


class ImportOptions(Record):
    """What the files do not say.

    Attributes
    ----------
    mpp
        µm per pixel of the patches (level 0 of their slides).
    downsample
        Level-0 pixels per pixel of the mask; None: 2 to the power of its level.
    """

    mpp: float = Field(gt=0.05, lt=20)
    split: Split
    downsample: float | None = Field(None, ge=1, le=4096)


class Imported(Record):
    """One shard that was made, or found made from the same file with the same options."""

    path: Path
    slide: str
    rows: int
    reused: bool


@dataclass(frozen=True, slots=True)
class Import:
    """What became of a file: shards, what could not be read, and paths in it that this tool did not make."""

    shards: list[Imported]
    errors: list[CamNetError]
    others: list[str]


def import_original(path: Path, folder: Path, options: ImportOptions) -> Import:
    """Make one shard a slide of a file of the original tool; a slide that cannot be read does not stop the others.

    Patches become RGB. Labels are those of that tool, which called patches tumour that hold little of it. What the
    file does not say is not made up: the shard has no size of the slide and no seed, the slide's digest is "unknown",
    sampling is "imported" with a stride of 0, and tissue and tumour fractions are NaN.

    Raises
    ------
    InputError
        It is no HDF5 file.
    PermanentFault
        The disk is full.
    """
    with _opened(path) as file:
        found, digest = OriginalEntries(path, file), file_digest(path)
        shards: list[Imported] = []
        errors: list[CamNetError] = []
        if found.refused:
            where = ", ".join(found.refused[:10])
            errors.append(InputError(f"has no groups of its own at {where}", subject=path, remedy=REMEDY))
        if not found.entries and not errors:
            layout = "{tumor|normal}/level<L>/centre<C>/patient<PPP>/node<N> with patches and locations"
            errors.append(
                InputError("holds no patches of the original tool", subject=path, remedy=f"it needs groups {layout}")
            )
        entries = sorted(found.entries, key=lambda entry: (entry.slide, entry.order))
        for slide, of_slide in groupby(entries, key=lambda entry: entry.slide):
            try:
                pieces = [_Piece.read(found, entry, options) for entry in of_slide]
                shards.append(_write(pieces, folder / f"{slide}{SUFFIX}", _attributes(path, digest, pieces, options)))
            except (InputError, IntegrityError) as error:
                errors.append(error)
    return Import(shards, errors, found.others)


@dataclass(frozen=True, slots=True)
class _Piece:
    """One entry whose locations are read."""

    entry: Entry
    patches: h5py.Dataset
    x_level0_px: NDArray[np.int64]
    y_level0_px: NDArray[np.int64]

    @classmethod
    def read(cls, found: OriginalEntries, entry: Entry, options: ImportOptions) -> _Piece:
        patches, locations = found.datasets(entry)
        with as_input(found.path):
            cells = locations[:]
        if cells.size and not (cells.min() >= 0 and cells.max() < _MAX_LOCATION):
            raise InputError(f"has impossible locations in {entry.group}", subject=found.path, remedy=REMEDY)
        level0_px = np.round(cells * (options.downsample or 2.0**entry.level)).astype(np.int64)
        return cls(entry, patches, level0_px[:, 1], level0_px[:, 0])

    @property
    def patch_px(self) -> int:
        return int(self.patches.shape[1])

    def batches(self) -> Iterator[PatchBatch]:
        for rows in in_batches(np.arange(len(self.x_level0_px)), self.patch_px):
            with as_input(Path(self.patches.file.filename)):
                stored = self.patches[rows[0] : rows[-1] + 1]
            pixels = np.ascontiguousarray(stored[..., ::-1])
            unknown = np.full(len(pixels), np.nan, np.float32)
            white = [white_and_black_fraction(patch, _WHITE_LEVEL)[0] for patch in pixels]
            yield PatchBatch(
                pixels,
                {
                    "x_level0_px": self.x_level0_px[rows],
                    "y_level0_px": self.y_level0_px[rows],
                    "label": np.full(len(pixels), TISSUES[self.entry.tissue], np.int8),
                    "tumour_fraction": unknown,
                    "tissue_fraction": unknown,
                    "white_fraction": np.array(white, np.float32),
                },
            )


def _attributes(path: Path, digest: str, pieces: list[_Piece], options: ImportOptions) -> ShardAttributes:
    first = pieces[0].entry
    name = parse_name(first.slide)
    sides_px = {piece.patch_px for piece in pieces}
    if len(sides_px) > 1:
        raise InputError(f"has patches of {sorted(sides_px)} px for {first.slide}", subject=path, remedy=REMEDY)
    side_px = sides_px.pop()
    origin = {
        "imported": path.name,
        "digest": digest,
        "options": options.model_dump(),
        "mask_levels": sorted({piece.entry.level for piece in pieces}),
        "white_level": _WHITE_LEVEL,
    }
    return ShardAttributes(
        slide=first.slide,
        slide_digest="unknown",
        patient=name.patient,
        node=name.node,
        # That tool wrote wrong centres; the names of CAMELYON17 say the right ones.
        centre=first.centre if name.centre is None else name.centre,
        split=options.split,
        truth="tumour" if any(piece.entry.tissue == "tumor" for piece in pieces) else "unknown",
        level=0,
        level_downsample=1.0,
        mpp=options.mpp,
        patch_px=side_px,
        stride_px=0,
        sampling="imported",
        configuration=json.dumps(origin, sort_keys=True),
    )


def _write(pieces: list[_Piece], path: Path, attributes: ShardAttributes) -> Imported:
    if path.exists():
        return _found(path, attributes)
    with write_shard(path, attributes) as writer:
        for piece in pieces:
            for batch in piece.batches():
                writer.append(batch)
        rows = writer.rows
    return Imported(path=path, slide=attributes.slide, rows=rows, reused=False)


def _found(path: Path, attributes: ShardAttributes) -> Imported:
    with open_shard(path) as shard:
        if shard.attributes.configuration != attributes.configuration:
            raise InputError(
                "is there already, made of something else",
                subject=path,
                remedy="import into another folder, or remove it",
            )
        return Imported(path=path, slide=attributes.slide, rows=shard.rows, reused=True)


def _opened(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except FileNotFoundError as error:
        raise InputError("is not there", subject=path, remedy="check the path") from error
    except OSError as error:
        raise InputError(f"is no complete HDF5 file ({error})", subject=path, remedy=REMEDY) from error

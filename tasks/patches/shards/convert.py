"""Converts shards to another encoding of their pixels, for example where training reads them again and again."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from tasks.artifacts import Record
from tasks.atomic import atomic_path
from tasks.errors import InputError, IntegrityError
from tasks.patches.attributes import ShardAttributes
from tasks.patches.damage import damaged, named_damage
from tasks.patches.filters import white_and_black_fraction
from tasks.patches.jpeg_encoder import JpegEncoder
from tasks.patches.shards.find import find_places
from tasks.patches.shards.reading import shard_digest
from tasks.patches.store import INDEX_DTYPES, Shard, open_shard, write_shard

PixelEncoding = Literal["raw", "jpeg"]


class Converted(Record):
    """A shard, and the one that was made of it; `reused` if that was found finished."""

    shard: Path
    path: Path
    rows: int
    bytes: int
    reused: bool


def find_conversions(paths: Iterable[Path], folder: Path) -> dict[Path, Path]:
    """Find the shards that are meant by `paths`, each with the file in `folder` that it is to become.

    What lies below a folder that is named keeps its place below it: ``sampled/`` and ``grid/`` hold equal names.

    Raises
    ------
    InputError
        A path holds no shard, or `folder` lies in one of them, where the next call would find what this one makes.
    """
    named = list(paths)
    places = find_places(named)
    for path in named:
        if path.is_dir() and folder.resolve().is_relative_to(path.resolve()):
            raise InputError(
                f"lies in {path}, whose shards are to be converted",
                subject=folder,
                remedy="name a folder beside it",
            )
    return {shard: folder / place for shard, place in places.items()}


def convert_shard(path: Path, destination: Path, encoding: PixelEncoding) -> Converted:
    """Make `destination` of the shard `path`: the same rows in the same order, in another encoding.

    Index and attributes are those of `path`, but that `encoding` is another and ``converted_from`` is the digest of
    `path`, and that the white fraction is measured where it is not known (shards with encoding ``tiles``). Pixels
    stay the same to the bit in ``raw``; ``jpeg`` imitates the compression of the slide where `path` holds tiles of
    it. A shard that is in this encoding already is copied as it is.

    Raises
    ------
    IntegrityError
        The shard is damaged.
    InputError
        There is another file under the name `destination`; or it cannot be written.
    PermanentFault
        The disk is full.
    """
    digest = shard_digest(path)
    with open_shard(path) as shard:
        same = shard.attributes.encoding == encoding
        wanted = shard.attributes
        if not same:
            wanted = wanted.model_copy(update={"encoding": encoding, "converted_from": digest})
        reused = destination.exists()
        if reused:
            _refuse_other_file(destination, path, wanted, digest if same else None)
        elif same:
            with atomic_path(destination) as temporary:
                shutil.copyfile(path, temporary)
        else:
            _write(shard, destination, wanted)
        return Converted(shard=path, path=destination, rows=shard.rows, bytes=destination.stat().st_size, reused=reused)


def _refuse_other_file(destination: Path, path: Path, wanted: ShardAttributes, digest: str | None) -> None:
    """Raise unless `destination` was made of `path`: has these attributes, and this digest if one is given."""
    try:
        with open_shard(destination) as there:
            ours = there.attributes == wanted and digest in (None, shard_digest(destination))
    except IntegrityError:
        ours = False
    if not ours:
        raise InputError(
            f"is there already, and was not made of {path}",
            subject=destination,
            remedy="convert into another folder, or remove it",
        )


def _write(shard: Shard, path: Path, attributes: ShardAttributes) -> None:
    index: dict[str, NDArray[np.generic]] = {name: getattr(shard, name) for name in INDEX_DTYPES}
    white_fraction = shard.white_fraction.copy()
    unknown = np.isnan(white_fraction)
    white_level = _white_level(shard) if unknown.any() else 0
    example = _example(shard) if attributes.encoding == "jpeg" else None
    with write_shard(path, attributes, example) as writer:
        for row, pixels in shard.stream():
            writer.put(row, pixels)
            if unknown[row]:
                white_fraction[row] = white_and_black_fraction(pixels, white_level)[0]
        writer.keep(np.arange(shard.rows), index | {"white_fraction": white_fraction})


def _example(shard: Shard) -> bytes | None:
    example = shard.example()
    with named_damage(shard.path):
        JpegEncoder(example)  # what the shard holds may be anything
    return example


class _Configuration(BaseModel):
    """What is needed of the configuration of a shard, which may be that of an import; 200 is the paper's level."""

    white_level: int = Field(200, ge=1, le=255)


def _white_level(shard: Shard) -> int:
    try:
        return _Configuration.model_validate_json(shard.attributes.configuration).white_level
    except ValidationError as error:
        raise damaged(
            shard.path, "states a configuration that is no JSON, or with an impossible white level"
        ) from error

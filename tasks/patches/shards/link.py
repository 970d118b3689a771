"""One HDF5 file that shows many shards as one, for programs that know h5py and nothing of CamNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from tasks.artifacts import Record
from tasks.errors import InputError
from tasks.hdf5 import new_hdf5
from tasks.patches.store import INDEX_DTYPES, Shard, open_shard

SCHEMA = "camnet-linked-patches/1"
_ORIGIN = {"shard": np.dtype("int32"), "row": np.dtype("int64")}
_TABLE = ("slide", "patient", "split", "path")
_TEXT = h5py.string_dtype()


@dataclass(frozen=True, slots=True)
class _Member:
    """One linked shard; `path` as seen from the folder of the link file."""

    slide: str
    patient: str
    split: str
    path: str
    mpp: float
    patch_px: int
    rows: int


class Linked(Record):
    """A link file that was written."""

    path: Path
    shards: int
    rows: int


def link_shards(paths: Sequence[Path], destination: Path) -> Linked:
    """Write `destination`, whose ``/patches`` shows the patches of all shards, one shard after the other.

    ``/patches`` is a virtual dataset: it holds no pixels, but the relative paths of the shards, and works as long as
    they stay where they are, seen from it. ``/index/*`` are copies, ``/shard`` and ``/row`` tell where each patch
    comes from, and ``/shards/*`` has one line a shard. It is made for shards with encoding ``raw``: others keep no
    array of pixels. CamNet itself never reads such files, since a virtual dataset of another site could name any
    file; `tasks.patches.store.open_shard` refuses them.

    Raises
    ------
    InputError
        A shard is not stored raw, has patches of another size, or does not lie beside or below `destination`, or
        there is another file of that name.
    IntegrityError
        A shard is damaged.
    """
    _refuse_other_file(destination)
    members: list[_Member] = []
    with new_hdf5(destination) as file:
        columns = {
            name: file.create_dataset(name, (0,), dtype, chunks=(4096,), maxshape=(None,))
            for name, dtype in {**{f"index/{name}": dtype for name, dtype in INDEX_DTYPES.items()}, **_ORIGIN}.items()
        }
        for path in paths:
            with open_shard(path) as shard:
                members.append(_member(shard, destination, members))
                _append(columns, shard, len(members) - 1)
        _show_patches(file, members)
        for name in _TABLE:
            file.create_dataset(f"shards/{name}", data=[getattr(member, name) for member in members], dtype=_TEXT)
        file.create_dataset("shards/mpp", data=[member.mpp for member in members])
        file.attrs.update({"schema": SCHEMA, "colour_order": "RGB"})
    return Linked(path=destination, shards=len(members), rows=sum(member.rows for member in members))


def _refuse_other_file(destination: Path) -> None:
    try:
        with h5py.File(destination, "r") as file:
            known = file.attrs.get("schema") == SCHEMA
    except FileNotFoundError:
        return
    except OSError:
        known = False
    if not known:
        raise InputError("is there already and links no shards", subject=destination, remedy="choose another name")


def _member(shard: Shard, destination: Path, before: list[_Member]) -> _Member:
    attributes = shard.attributes
    if attributes.encoding != "raw":
        raise InputError(
            f"is stored as {attributes.encoding}: there is no array of pixels to link",
            subject=shard.path,
            remedy="convert it first: camnet shards convert --to raw",
        )
    if before and before[0].patch_px != attributes.patch_px:
        raise InputError(
            f"has patches of {attributes.patch_px} px, the first shard of {before[0].patch_px} px", subject=shard.path
        )
    # Where the file and the shards really are: a path over a symbolic link would lead elsewhere from there.
    home, target = destination.parent.resolve(), shard.path.resolve()
    if not target.is_relative_to(home):
        raise InputError(
            "lies neither beside nor below the file that is to link it",
            subject=shard.path,
            remedy=f"name a file in a folder above it, instead of {destination}: the two can then be moved together",
        )
    return _Member(
        slide=attributes.slide,
        patient=attributes.patient,
        split=attributes.split,
        path=target.relative_to(home).as_posix(),
        mpp=attributes.mpp,
        patch_px=attributes.patch_px,
        rows=shard.rows,
    )


def _append(columns: dict[str, h5py.Dataset], shard: Shard, number: int) -> None:
    values = {f"index/{name}": getattr(shard, name) for name in INDEX_DTYPES}
    values |= {"shard": np.full(shard.rows, number, np.int32), "row": np.arange(shard.rows, dtype=np.int64)}
    for name, dataset in columns.items():
        start = dataset.shape[0]
        dataset.resize(start + shard.rows, axis=0)
        dataset[start:] = values[name]


def _show_patches(file: h5py.File, members: list[_Member]) -> None:
    side = members[0].patch_px
    layout = h5py.VirtualLayout((sum(member.rows for member in members), side, side, 3), np.uint8)
    start = 0
    for member in members:
        if member.rows:
            shape = (member.rows, side, side, 3)
            layout[start : start + member.rows] = h5py.VirtualSource(member.path, "patches", shape, np.uint8)
        start += member.rows
    file.create_virtual_dataset("patches", layout)

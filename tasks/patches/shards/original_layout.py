"""The HDF5 layout of the tool that CamNet follows (PROCESS, 2020), and the export to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.errors import InputError
from tasks.hdf5 import new_hdf5
from tasks.patches.candidates import NORMAL, TUMOUR
from tasks.patches.shards.export import ExportedFile, Written
from tasks.patches.shards.reading import batches
from tasks.patches.store import Shard
from tasks.slides.camelyon import parse_name

TISSUES = {"tumor": TUMOUR, "normal": NORMAL}
MASK_LEVEL = 7
"""Level of the masks in the files that were published with that tool; its later default is 5."""


@dataclass(frozen=True, slots=True)
class OriginalLayout:
    """``{tumor|normal}/level<L>/centre<C>/patient<PPP>/node<N>/{patches,locations}``, one file a shard.

    Patches are BGR, as that tool stores them. A location is the (row, column) of a patch's upper left corner in
    pixels of the mask, 2 to the power of L level-0 pixels a side: finer positions are lost, unless L is 0.
    Patches without a label have no place there and are left out.

    Attributes
    ----------
    mask_level
        The L.
    """

    mask_level: int = MASK_LEVEL

    @property
    def format(self) -> str:
        """All that the file depends on beside the shard."""
        return f"original/1 {self.mask_level}"

    def existing(self, folder: Path, stem: str) -> list[Path]:
        """Give the file of a shard of this name, if it is there."""
        path = folder / _file_name(stem)
        return [path] if path.exists() else []

    def write(self, shard: Shard, folder: Path, stem: str) -> Written:
        """Write one file; what the shard calls unknown is counted as left out.

        Raises
        ------
        InputError
            The slide is not of CAMELYON: the layout has no name for it.
        """
        node = _node_path(shard)
        path = folder / _file_name(stem)
        written = 0
        with new_hdf5(path) as file:
            for tissue, label in TISSUES.items():
                rows = np.flatnonzero(shard.label == label)
                if not len(rows):
                    continue
                group = file.create_group(f"{tissue}/level{self.mask_level}/{node}")
                side = shard.attributes.patch_px
                patches = group.create_dataset("patches", (len(rows), side, side, 3), np.uint8)
                done = 0
                for some, pixels in batches(shard, rows):
                    patches[done : done + len(some)] = pixels[..., ::-1]
                    done += len(some)
                group.create_dataset("locations", data=self._locations(shard, rows))
                written += len(rows)
        files = (ExportedFile(path=path.name, bytes=path.stat().st_size),)
        return Written(files=files, patches=written, left_out=shard.rows - written)

    def _locations(self, shard: Shard, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        corners = np.stack([shard.y_level0_px[rows], shard.x_level0_px[rows]], axis=1)
        locations: NDArray[np.int64] = np.round(corners / 2**self.mask_level).astype(np.int64)
        return locations


def _file_name(stem: str) -> str:
    return f"{stem}.h5"


def _node_path(shard: Shard) -> str:
    name = parse_name(shard.attributes.slide)
    if name.node is not None and name.centre is not None:
        return f"centre{name.centre}/patient{name.patient.removeprefix('patient_')}/node{name.node}"
    if name.kind == "tumor":
        return f"centre0/patient{name.patient.removeprefix('tumor_')}_Mask.tif"
    raise InputError(
        f"holds the slide {shard.attributes.slide!r}, for which the original layout has no name",
        subject=shard.path,
        remedy="it knows patient_PPP_node_N of the training set of CAMELYON17, and tumor_NNN of CAMELYON16; "
        "export to png or webdataset",
    )

"""Exports patches as PNG files in one folder a label."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks import atomic
from tasks.errors import InputError
from tasks.patches.candidates import NORMAL, TUMOUR, UNKNOWN
from tasks.patches.shards.export import ExportedFile, Written
from tasks.patches.shards.names import patch_name
from tasks.patches.shards.reading import batches
from tasks.patches.store import Shard

FOLDERS = {TUMOUR: "tumour", NORMAL: "normal", UNKNOWN: "unknown"}
_FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1]


@dataclass(frozen=True, slots=True)
class PngFolders:
    """``tumour/ normal/ unknown/`` with ``SLIDE_x_y.png``, the corner in level-0 pixels; lossless."""

    @property
    def format(self) -> str:
        """All that the files depend on beside the shard."""
        return "png/1"

    def existing(self, folder: Path, stem: str) -> list[Path]:
        """None: each file is compared when its turn comes, since shards may share patches."""
        return []

    def write(self, shard: Shard, folder: Path, stem: str) -> Written:
        """Write one PNG a position; a patch that a shard holds twice is one file.

        Raises
        ------
        InputError
            There is a file of this name with other pixels.
        """
        files: dict[str, ExportedFile] = {}
        for rows, pixels in batches(shard):
            for row, patch in zip(rows.tolist(), pixels, strict=True):
                name = patch_name(shard.attributes.slide, int(shard.x_level0_px[row]), int(shard.y_level0_px[row]))
                relative = f"{FOLDERS[int(shard.label[row])]}/{name}.png"
                if not _is_written(folder / relative, patch):
                    atomic.write_bytes(folder / relative, encode_png(patch))
                files[relative] = ExportedFile(path=relative, bytes=(folder / relative).stat().st_size)
        return Written(files=tuple(files.values()), patches=shard.rows)


def encode_png(patch: NDArray[np.uint8]) -> bytes:
    """Encode a patch, uint8 (H, W, 3), RGB."""
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(patch[..., ::-1]), _FAST)
    return encoded.tobytes()


def _is_written(path: Path, patch: NDArray[np.uint8]) -> bool:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return False
    there = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if there is None or not np.array_equal(there, patch[..., ::-1]):
        raise InputError(
            "is there already with other pixels",
            subject=path,
            remedy="export into an empty folder: patches of another size or level have the same names",
        )
    return True

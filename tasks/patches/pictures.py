"""Pictures of one slide's preprocessing, for people."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks import atomic
from tasks.patches.candidates import NORMAL, TUMOUR
from tasks.patches.sampling import SlideMasks
from tasks.patches.store import open_shard
from tasks.slides.reader import SlideReader
from tasks.slides.thumbnails import TISSUE_COLOUR, TUMOUR_COLOUR, draw_outline, thumbnail

_MAX_SIDE_PX = 1400
_PATCH_COLOURS = {TUMOUR: (230, 90, 20), NORMAL: (20, 90, 210)}
_UNKNOWN_COLOUR = (90, 90, 90)


def draw_thumbnail(reader: SlideReader, path: Path) -> NDArray[np.uint8]:
    """Write the whole slide as a JPEG of at most 1400 px a side and return its pixels."""
    picture = thumbnail(reader, _MAX_SIDE_PX)
    _write_jpeg(picture, path)
    return picture


def draw_sampling(picture: NDArray[np.uint8], masks: SlideMasks, sampled: Path, path: Path) -> None:
    """Write the thumbnail with the outlines of tissue and tumour and a frame around each sampled patch."""
    drawn = draw_outline(picture, masks.tissue, TISSUE_COLOUR)
    drawn = draw_outline(drawn, masks.tumour, TUMOUR_COLOUR)
    height, width = picture.shape[:2]
    scale = np.array([width / masks.width_level0_px, height / masks.height_level0_px])
    with open_shard(sampled) as shard:
        corners = np.stack([shard.x_level0_px, shard.y_level0_px], axis=1)
        far = corners + shard.attributes.patch_level0_px
        labels = shard.label.tolist()
    starts, ends = np.round(corners * scale).astype(int).tolist(), np.round(far * scale).astype(int).tolist()
    for start, end, label in zip(starts, ends, labels, strict=True):
        cv2.rectangle(drawn, start, end, _PATCH_COLOURS.get(label, _UNKNOWN_COLOUR), 1)
    _write_jpeg(drawn, path)


def _write_jpeg(picture: NDArray[np.uint8], path: Path) -> None:
    with atomic.atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, format="JPEG", quality=88)

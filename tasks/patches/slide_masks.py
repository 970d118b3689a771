"""The masks of a slide: tissue and tumour at low resolution, made once and kept for the parts of a large one."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks import atomic
from tasks.config import TissueConfig
from tasks.patches.sampling import SlideMasks
from tasks.slides.annotations import Annotations, tumour_mask
from tasks.slides.cohort import SlideRecord, Truth
from tasks.slides.focus import leave_out_blurred
from tasks.slides.reader import SlideReader
from tasks.slides.tissue import tissue_mask

# The masks of a slide of 65,000 px a side, at 8 µm; those of larger slides are coarser, and need no more memory.
MOST_MASK_PX = 1 << 22
# Corners far outside the slide are moved to this distance: OpenCV draws in 32 bits.
_FAR_PX = 1 << 20
_MASKS = ("tissue", "tumour", "near_tumour")
_DAMAGE = (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True)
class KnownSlide:
    """What is known of a slide before a patch is cut.

    Attributes
    ----------
    truth, exhaustive
        Of its record, corrected by what the annotation outlines (see `tasks.slides.truth`).
    """

    masks: SlideMasks
    truth: Truth
    exhaustive: bool

    def told_of(self, record: SlideRecord) -> SlideRecord:
        """Give the record with what is known."""
        return record.model_copy(update={"truth": self.truth, "exhaustive": self.exhaustive})


def make_masks(reader: SlideReader, annotations: Annotations | None, config: TissueConfig) -> SlideMasks:
    """Find the tissue of a slide, and draw its tumour.

    Raises
    ------
    InputError
        The slide cannot be read.
    """
    overview = reader.read_overview(config.mask_mpp, most_px=MOST_MASK_PX)
    shape = overview.rgb.shape[:2]
    tissue = tissue_mask(overview.rgb, config, overview.um_per_px).mask
    if config.max_blur_um is not None:
        tissue = leave_out_blurred(reader, overview, tissue, config.max_blur_um)
    annotations = annotations or Annotations(())
    tumour = tumour_mask(annotations, shape, overview.downsample, overview.downsample)
    near_tumour = _with_margin(tumour, annotations, overview.downsample)
    width, height = reader.dimensions_px
    return SlideMasks(tissue, tumour, near_tumour, overview.downsample, overview.downsample, width, height)


def write_known(path: Path, key: str, known: KnownSlide) -> None:
    """Keep what is known of a slide, some 100 kB, for those who know its content key."""
    masks = known.masks
    facts: dict[str, Any] = {
        "key": key,
        "truth": known.truth,
        "exhaustive": known.exhaustive,
        "shape": masks.tissue.shape,
        "downsample": (masks.downsample_x, masks.downsample_y),
        "size_level0_px": (masks.width_level0_px, masks.height_level0_px),
        **{name: np.packbits(getattr(masks, name)) for name in _MASKS},
    }
    with io.BytesIO() as memory:
        np.savez_compressed(memory, **facts)
        atomic.write_bytes(path, memory.getvalue())


def read_known(path: Path, key: str) -> KnownSlide | None:
    """Read what is known under this content key; None when there is nothing, or it is damaged: it is made again."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if stored["key"].item() != key:
                return None
            height, width = stored["shape"].tolist()
            bits = [np.unpackbits(stored[name], count=height * width).reshape(height, width) for name in _MASKS]
            downsample, size_level0_px = stored["downsample"].tolist(), stored["size_level0_px"].tolist()
            masks = SlideMasks(bits[0], bits[1], bits[2], *downsample, *size_level0_px)
            return KnownSlide(masks, stored["truth"].item(), stored["exhaustive"].item())
    except _DAMAGE:
        return None


def _with_margin(tumour: NDArray[np.uint8], annotations: Annotations, downsample: float) -> NDArray[np.uint8]:
    """Tumour and all pixels that an outline of tumour touches, with the pixels beside them.

    A lesion thinner than a mask pixel may contain no pixel's centre; its outline is there all the same.
    """
    drawn = tumour.copy()
    for ring in (ring for polygon in annotations.of("tumour") for ring in polygon.rings):
        corners = np.clip(ring / downsample, -_FAR_PX, _FAR_PX)
        cv2.polylines(drawn, [np.floor(corners).astype(np.int32)], isClosed=True, color=1)
    return cv2.dilate(drawn, np.ones((3, 3), np.uint8)).astype(np.uint8)

"""What kind of tissue lies where: stroma, lymphoid tissue, sinuses, tumour, on a coarse grid."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tasks.slides.annotations import Annotations, Polygon, tumour_mask
from tasks.slides.synthetic.lesions import Lesion
from tasks.slides.synthetic.noise import Field, smooth_noise
from tasks.slides.synthetic.tissue_shape import depth_um

Plane = npt.NDArray[np.uint8]

_CAPSULE_UM = 22.0
# Strands remain between the nests, but no patch inside a lesion is connective tissue alone.
_STROMA_LOST_IN_TUMOUR = 0.75


@dataclass(frozen=True, eq=False)
class Architecture:
    """Coarse planes (one cell for many pixels), from which the fine image is interpolated.

    Attributes
    ----------
    planes
        uint8, shape (rows, columns, 5): height of the tissue's edge (128 on it), eosin, fibres, gaps between
        cells, haematoxylin between the nuclei.
    stroma, crowding, follicle
        float32, shape (rows, columns), 0 to 1: share of connective tissue, relative density of nuclei, and
        germinal centres, whose cells are larger and paler than other lymphocytes but no tumour.
    tumour
        bool, shape (rows, columns): where the lesions are.
    """

    planes: Plane
    stroma: Field
    crowding: Field
    follicle: Field
    tumour: npt.NDArray[np.bool_]


def build_architecture(
    rng: np.random.Generator, height: Field, lesions: list[Lesion], cell_px: int, mpp: float
) -> Architecture:
    """Lay out the tissue.

    Parameters
    ----------
    rng
        Source of chance.
    height
        Shape of the tissue (see `tissue_height`).
    lesions
        The metastases.
    cell_px, mpp
        Step of the grid in level-0 pixels, and µm per level-0 pixel.
    """
    cell_um, shape = cell_px * mpp, height.shape
    tumour = lesion_mask(lesions, (shape[0], shape[1]), cell_px)
    soft = cv2.GaussianBlur(tumour.astype(np.float32), (0, 0), 6 / cell_um)
    septa = _ridge(smooth_noise(rng, shape, 170 / cell_um), 0.10)
    capsule = np.clip(1.5 - depth_um(height, cell_um) / _CAPSULE_UM, 0, 1)
    bands = np.maximum(septa * smooth_noise(rng, shape, 240 / cell_um).clip(0, 1), capsule)
    stroma = np.clip(bands * (1 - _STROMA_LOST_IN_TUMOUR * soft), 0, 1)
    sinus = _ridge(smooth_noise(rng, shape, 120 / cell_um), 0.16)
    follicle = np.clip(2 * smooth_noise(rng, shape, 150 / cell_um) - 1.6, 0, 1) * (1 - stroma)
    uneven = 0.28 * smooth_noise(rng, shape, 90 / cell_um) + 0.14 * smooth_noise(rng, shape, 30 / cell_um)
    crowding = np.clip((0.74 + uneven) * (1 - 0.55 * sinus * ~tumour) * (1 - 0.85 * stroma), 0.03, 1)
    pink = 1 + 0.15 * smooth_noise(rng, shape, 140 / cell_um) + 0.08 * smooth_noise(rng, shape, 22 / cell_um)
    lymphoid, nests = (1 - stroma) * (1 - soft), (1 - stroma) * soft
    # Each lesion has its own amount of cytoplasm and of dye in it: colour alone does not tell tumour.
    pink_cells, blue_cells, loose = rng.uniform(0.2, 1.1), rng.uniform(0.0, 1.1), rng.uniform(80, 250)
    eosin = pink * (50 * lymphoid + 62 * pink_cells * nests + 84 * stroma)
    fibres = 24 * lymphoid + 26 * nests + 88 * stroma
    gaps = (200 + 40 * sinus) * lymphoid * (1 - 0.7 * follicle) + loose * nests + 80 * stroma
    haze = (22 + 26 * follicle) * lymphoid + 36 * blue_cells * nests * (0.8 + 0.2 * pink) + 8 * stroma
    edge = 128 + 420 * height
    planes = np.stack([edge, eosin, fibres, gaps, haze], axis=2)
    return Architecture(
        planes=np.clip(np.round(planes), 0, 255).astype(np.uint8),
        stroma=stroma.astype(np.float32),
        crowding=crowding.astype(np.float32),
        follicle=(follicle * ~tumour).astype(np.float32),
        tumour=tumour,
    )


def lesion_mask(lesions: list[Lesion], shape: tuple[int, int], cell_px: int) -> npt.NDArray[np.bool_]:
    """Cells of the grid whose centre lies in a lesion and in none of the holes."""
    return tumour_mask(outlines_of(lesions), shape, cell_px, cell_px).astype(bool)


def outlines_of(lesions: list[Lesion]) -> Annotations:
    """Describe the lesions as annotations: all outlines, then all holes."""
    outlines = [Polygon(f"Lesion {index}", "tumour", one.outline_level0_px) for index, one in enumerate(lesions)]
    holes = [
        Polygon(f"Normal tissue in lesion {index}", "hole", hole)
        for index, one in enumerate(lesions)
        for hole in one.holes_level0_px
    ]
    return Annotations((*outlines, *holes))


def _ridge(noise: Field, width: float) -> Field:
    """1 along the zero lines of a noise field, falling to 0 at `width`: bands that branch like trabeculae."""
    field: Field = np.exp(-((noise / width) ** 2)).astype(np.float32)
    return field

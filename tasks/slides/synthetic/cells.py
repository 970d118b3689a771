"""Where the nuclei lie, and which kind each is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.slides.synthetic.architecture import Architecture
from tasks.slides.synthetic.noise import Field
from tasks.slides.synthetic.nuclei import KINDS, Stamp, stamp_library

_SPACING_UM = {"lymphocyte": 7.0, "tumour": 10.3, "fibroblast": 17.0}
_JITTER = 0.42
_STRAY_LYMPHOCYTES = 0.10
_LARGE_CELLS = 0.05
_LARGE_CELLS_IN_FOLLICLES = 0.45
_PER_MM2 = 1e6

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Cells:
    """All nuclei of a slide, sorted from top to bottom.

    Attributes
    ----------
    stamps
        Images of nuclei, of all kinds.
    x_level0_px, y_level0_px, stamp
        int64, one entry a nucleus: centre, and index into `stamps`.
    reach_px
        Half side of the largest stamp.
    """

    stamps: list[Stamp]
    x_level0_px: Ints
    y_level0_px: Ints
    stamp: Ints
    reach_px: int

    def draw(self, x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        """Haematoxylin of the nuclei in a rectangle of level 0: uint8, shape (height, width)."""
        plane = np.zeros((height, width), np.uint8)
        first, last = np.searchsorted(self.y_level0_px, [y - self.reach_px, y + height + self.reach_px + 1])
        columns = self.x_level0_px[first:last]
        near = first + np.flatnonzero((columns >= x - self.reach_px) & (columns <= x + width + self.reach_px))
        left, top = (self.x_level0_px[near] - x).tolist(), (self.y_level0_px[near] - y).tolist()
        for column, row, index in zip(left, top, self.stamp[near].tolist(), strict=True):
            _stamp_on(plane, self.stamps[index], column, row)
        return plane


def _stamp_on(plane: npt.NDArray[np.uint8], stamp: Stamp, column: int, row: int) -> None:
    half = stamp.shape[0] // 2
    top, left = row - half, column - half
    skip_y, skip_x = max(0, -top), max(0, -left)
    target = plane[max(0, top) : max(0, row + half + 1), max(0, left) : max(0, column + half + 1)]
    source = stamp[skip_y : skip_y + target.shape[0], skip_x : skip_x + target.shape[1]]
    np.maximum(target, source, out=target)


def place_cells(
    rng: np.random.Generator, tissue: npt.NDArray[np.bool_], architecture: Architecture, cell_px: int, mpp: float
) -> Cells:
    """Scatter nuclei: lymphocytes in lymphoid tissue, tumour cells in lesions, fibroblasts in stroma.

    Some lymphocytes lie among the tumour cells, and large pale cells that are no tumour among the lymphocytes, most
    of them in the follicles.
    """
    share = architecture.stroma
    lymphoid = architecture.crowding * np.where(architecture.tumour, _STRAY_LYMPHOCYTES, 1.0)
    chances = {
        "lymphocyte": lymphoid,
        "tumour": np.clip(0.5 + 0.55 * architecture.crowding, 0, 1) * architecture.tumour * (1 - share),
        "fibroblast": 0.75 * share + 0.02,
    }
    found = []
    stamps: list[Stamp] = []
    offsets = {}
    for name, kind in KINDS.items():
        offsets[name] = len(stamps)
        stamps += stamp_library(rng, kind, mpp)
    per_kind = len(stamps) // len(KINDS)
    for name, chance in chances.items():
        x, y = _scatter(rng, chance * tissue, _SPACING_UM[name] / mpp, cell_px)
        start = np.full(len(x), offsets[name])
        if name == "lymphocyte":
            large = _LARGE_CELLS + _LARGE_CELLS_IN_FOLLICLES * architecture.follicle[y // cell_px, x // cell_px]
            start[rng.uniform(size=len(x)) < large] = offsets["large cell"]
        found.append((x, y, start + rng.integers(0, per_kind, len(x))))
    x, y, stamp = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(y, kind="stable")
    reach = max(one.shape[0] for one in stamps) // 2
    return Cells(stamps=stamps, x_level0_px=x[order], y_level0_px=y[order], stamp=stamp[order], reach_px=reach)


def _scatter(rng: np.random.Generator, chance: Field, spacing_px: float, cell_px: int) -> tuple[Ints, Ints]:
    """Points of a shaken hexagonal grid, each kept with the chance of its place."""
    rows, columns = chance.shape
    high, wide = rows * cell_px, columns * cell_px
    row_step = spacing_px * np.sqrt(3) / 2
    grid_y, grid_x = np.meshgrid(np.arange(0, high, row_step), np.arange(0, wide, spacing_px), indexing="ij")
    grid_x = grid_x + np.where(np.arange(len(grid_x)) % 2, spacing_px / 2, 0)[:, None]
    x = (grid_x + rng.uniform(-_JITTER, _JITTER, grid_x.shape) * spacing_px).ravel()
    y = (grid_y + rng.uniform(-_JITTER, _JITTER, grid_y.shape) * spacing_px).ravel()
    column = np.clip(x / cell_px, 0, columns - 1).astype(np.int64)
    row = np.clip(y / cell_px, 0, rows - 1).astype(np.int64)
    kept = rng.uniform(size=x.size) < chance[row, column]
    inside = np.clip(x[kept], 0, wide - 1), np.clip(y[kept], 0, high - 1)
    return inside[0].astype(np.int64), inside[1].astype(np.int64)


def density_per_mm2() -> dict[str, float]:
    """Nuclei per mm² where tissue of their kind is densest, as the grids are laid."""
    return {name: _PER_MM2 / (spacing**2 * np.sqrt(3) / 2) for name, spacing in _SPACING_UM.items()}

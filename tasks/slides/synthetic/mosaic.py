"""The mosaic slide: real patches as the cells of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tasks.slides.synthetic.architecture import lesion_mask
from tasks.slides.synthetic.cell_outlines import cell_outlines
from tasks.slides.synthetic.config import SynthConfig
from tasks.slides.synthetic.lesions import Lesion, place_lesions
from tasks.slides.synthetic.patch_source import Patches, PatchRef, load_patches
from tasks.slides.synthetic.plan import SlidePlan
from tasks.slides.synthetic.tissue_shape import tissue_height

_GLASS = (243, 241, 243)
_NO_PATCH = -1
_TURNS = 8

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Mosaic:
    """A slide laid out in cells.

    Attributes
    ----------
    lesions
        Outlined along the borders of the tumour cells, so that the labels are true for every cell.
    patches
        uint8, shape (n, side, side, 3), RGB.
    cells
        int64, shape (rows, columns): index into `patches`, -1 for glass.
    turn
        int64, shape (rows, columns), 0 to 7: quarter turns, mirrored from 4 on.
    """

    lesions: list[Lesion]
    patches: Patches
    cells: npt.NDArray[np.int64]
    turn: npt.NDArray[np.int64]

    def render(self, x: int, y: int, width: int, height: int) -> Patches:
        """Draw a rectangle of level 0: uint8, shape (height, width, 3), RGB."""
        side = self.patches.shape[1]
        first_row, first_column = y // side, x // side
        last_row, last_column = -(-(y + height) // side), -(-(x + width) // side)
        whole = np.full(((last_row - first_row) * side, (last_column - first_column) * side, 3), _GLASS, np.uint8)
        rows, columns = self.cells.shape
        for row in range(first_row, min(last_row, rows)):
            for column in range(first_column, min(last_column, columns)):
                if self.cells[row, column] != _NO_PATCH:
                    top, left = (row - first_row) * side, (column - first_column) * side
                    whole[top : top + side, left : left + side] = self._cell(row, column)
        top, left = y - first_row * side, x - first_column * side
        return whole[top : top + height, left : left + width]

    def _cell(self, row: int, column: int) -> Patches:
        turn = int(self.turn[row, column])
        patch: Patches = np.rot90(self.patches[self.cells[row, column]], turn % 4)
        return patch[:, ::-1] if turn >= _TURNS // 2 else patch


def draw_mosaic(
    rng: np.random.Generator,
    plan: SlidePlan,
    config: SynthConfig,
    normal: Sequence[PatchRef],
    tumour: Sequence[PatchRef],
) -> Mosaic:
    """Design a slide from this patient's patches: tumour patches in the lesions, normal ones in the other tissue.

    A patch comes again, turned or mirrored, only when all others of its class have been used as often.
    """
    patches = load_patches([*normal, *tumour])
    side = patches.shape[1]
    shape = (config.height_px // side, config.width_px // side)
    tissue = tissue_height(rng, shape, side * config.mpp) > 0
    drawn = place_lesions(rng, plan.stage, tissue, side, config.mpp, config.size_scale)
    cells_of = [_lesion_cells(lesion, shape, side) for lesion in drawn]
    tumour_cells = np.any(cells_of, axis=0) if cells_of else np.zeros(shape, bool)
    cells = np.full(shape, _NO_PATCH, np.int64)
    cells[tissue & ~tumour_cells] = _deal(rng, int((tissue & ~tumour_cells).sum()), len(normal))
    cells[tumour_cells] = len(normal) + _deal(rng, int(tumour_cells.sum()), len(tumour))
    return Mosaic(_cell_lesions(tumour_cells, side), patches, cells, rng.integers(0, _TURNS, shape))


def _lesion_cells(lesion: Lesion, shape: tuple[int, int], side: int) -> Mask:
    cells = lesion_mask([lesion], shape, side)
    if not cells.any():
        column, row = (lesion.outline_level0_px.mean(axis=0) // side).astype(int)
        cells[np.clip(row, 0, shape[0] - 1), np.clip(column, 0, shape[1] - 1)] = True
    return cells


def _cell_lesions(tumour_cells: Mask, side: int) -> list[Lesion]:
    count, labels = cv2.connectedComponents(tumour_cells.astype(np.uint8), connectivity=4)
    lesions = []
    for label in range(1, count):
        outer, holes = cell_outlines(labels == label)
        lesions.append(Lesion(outer[0] * side, tuple(hole * side for hole in holes)))
    return lesions


def _deal(rng: np.random.Generator, count: int, patches: int) -> npt.NDArray[np.int64]:
    if not count:
        return np.empty(0, np.int64)
    rounds = -(-count // patches)
    return np.concatenate([rng.permutation(patches) for _ in range(rounds)])[:count]

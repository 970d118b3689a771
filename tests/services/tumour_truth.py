"""Tumour drawn by other means than CamNet's: the XML read plainly, the polygons filled by Pillow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from defusedxml import ElementTree
from numpy.typing import NDArray
from PIL import Image, ImageDraw

_HOLES = {"_2", "exclusion", "normal"}
Outline = list[tuple[float, float]]


@dataclass(frozen=True)
class TumourTruth:
    """Outlines of one annotation file, level-0 pixels."""

    tumour: list[Outline]
    holes: list[Outline]

    @classmethod
    def read(cls, path: Path) -> TumourTruth:
        """Read ASAP XML."""
        found: tuple[list[Outline], list[Outline]] = ([], [])
        for annotation in ElementTree.parse(path).iter("Annotation"):
            corners = sorted(annotation.iter("Coordinate"), key=lambda corner: int(corner.attrib["Order"]))
            outline = [(float(corner.attrib["X"]), float(corner.attrib["Y"])) for corner in corners]
            found[annotation.attrib["PartOfGroup"].lower() in _HOLES].append(outline)
        return cls(*found)

    def patch(self, x_px: int, y_px: int, side_px: int) -> NDArray[np.bool_]:
        """Mask of one patch at level 0, bool (side_px, side_px)."""
        image = Image.new("1", (side_px, side_px))
        draw = ImageDraw.Draw(image)
        for value, outlines in ((1, self.tumour), (0, self.holes)):
            for outline in outlines:
                draw.polygon([(x - x_px - 0.5, y - y_px - 0.5) for x, y in outline], fill=value)
        return np.asarray(image)

    def holes_of(self, x_px: int, y_px: int, side_px: int) -> NDArray[np.bool_]:
        """Mask of the holes alone."""
        return TumourTruth(self.holes, []).patch(x_px, y_px, side_px)

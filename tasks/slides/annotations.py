"""Tumour outlines of a slide, painted as masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from tasks.errors import InputError
from tasks.slides.winding import paint_inside

Role = Literal["tumour", "hole"]
Points = npt.NDArray[np.float64]

# No slide has a side of a billion pixels; the pen of no pathologist has drawn two (half a kilometre at 40x).
_FARTHEST_PX = 1e9
_LONGEST_PX = 2e9


@dataclass(frozen=True, eq=False)
class Polygon:
    """One closed outline.

    Attributes
    ----------
    name
        As in the annotation file.
    role
        ``tumour``, or ``hole``: what lies inside is no tumour.
    points_level0_px
        float64, shape (n, 2): x, y in level-0 pixels, the last point not the first one again.
    inner_level0_px
        Outlines, as above, of what is left out of this polygon alone. Unlike a polygon that is a ``hole``, they
        leave another polygon that lies in them as it is.
    """

    name: str
    role: Role
    points_level0_px: Points
    inner_level0_px: tuple[Points, ...] = ()

    @property
    def rings(self) -> tuple[Points, ...]:
        """The outline, then the inner ones."""
        return (self.points_level0_px, *self.inner_level0_px)


@dataclass(frozen=True)
class Annotations:
    """All outlines of a slide.

    Attributes
    ----------
    polygons
        In the order of the file.
    dropped
        Why how many entries of the file were left out.
    source
        What an error is about: the file that they were read from.
    image_px
        Width and height of the image that they were traced in; None for outlines drawn as such.
    """

    polygons: tuple[Polygon, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)
    source: str = "annotation"
    image_px: tuple[int, int] | None = None

    def of(self, role: Role) -> list[Polygon]:
        """Return the polygons with this role."""
        return [polygon for polygon in self.polygons if polygon.role == role]

    def within(self, width_px: int, height_px: int) -> Annotations:
        """Leave out, and count, the polygons that lie wholly outside a slide of this size (level-0 pixels).

        Raises
        ------
        InputError
            The annotation is of another slide: traced in an image of another size, or without a single one of its
            tumour outlines on this slide.
        """
        if self.image_px is not None and self.image_px != (width_px, height_px):
            raise InputError(
                f"is a mask of {self.image_px[0]} x {self.image_px[1]} pixels, "
                f"but its slide has {width_px} x {height_px}",
                subject=self.source,
                remedy="give the mask that was made for this slide, at the size of its highest level",
            )
        kept = tuple(polygon for polygon in self.polygons if _touches(polygon, width_px, height_px))
        outside = len(self.polygons) - len(kept)
        if not outside:
            return self
        inside = replace(self, polygons=kept, dropped={**self.dropped, "outside the slide": outside})
        if self.of("tumour") and not inside.of("tumour"):
            raise InputError(
                f"has no tumour outline on its slide of {width_px} x {height_px} pixels: all lie outside",
                subject=self.source,
                remedy="check that it belongs to this slide, with coordinates in pixels of the highest level",
            )
        return inside


def checked_outline(points: Points, where: str) -> Points:
    """Return an outline without its closing point, if its coordinates can be positions on a slide.

    Parameters
    ----------
    points
        float64, shape (n, 2), level-0 pixels.
    where
        What an error is about.

    Raises
    ------
    InputError
        A coordinate is not finite or out of all bounds, or the outline is so long that no hand drew it.
    """
    remedy = "correct or delete this outline: without it, tumour would count as normal tissue"
    if not np.isfinite(points).all() or (len(points) and float(np.abs(points).max()) > _FARTHEST_PX):
        raise InputError(
            f"has a coordinate that is no finite number up to {_FARTHEST_PX:g}", subject=where, remedy=remedy
        )
    steps = np.diff(points, axis=0, append=points[:1])
    if float(np.abs(steps).sum()) > _LONGEST_PX:
        raise InputError(f"has an outline that is longer than {_LONGEST_PX:g} pixels", subject=where, remedy=remedy)
    closed = len(points) > 1 and bool((points[0] == points[-1]).all())
    return points[:-1] if closed else points


def has_area(points: Points) -> bool:
    """Tell whether an outline has the three distinct points that it needs to enclose something."""
    others = points[(points != points[:1]).any(axis=1)]
    return len(others) > 0 and bool((others != others[0]).any())


def tumour_mask(
    annotations: Annotations, shape: tuple[int, int], downsample_x: float, downsample_y: float
) -> npt.NDArray[np.uint8]:
    """Paint the tumour outlines, then cut out all holes, whatever their order in the file.

    Parameters
    ----------
    annotations
        Outlines in level-0 pixels; what lies outside the mask is clipped.
    shape
        (height, width) of the mask.
    downsample_x, downsample_y
        Level-0 pixels per mask pixel.

    Returns
    -------
    numpy.ndarray
        uint8, `shape`, 1 where the centre of the pixel lies in tumour, else 0.
    """
    scale = np.array([downsample_x, downsample_y])
    mask = np.zeros(shape, bool)
    for polygon in [*annotations.of("tumour"), *annotations.of("hole")]:
        paint_inside(mask, [ring / scale for ring in polygon.rings], value=polygon.role == "tumour")
    return mask.view(np.uint8)


def _touches(polygon: Polygon, width_px: int, height_px: int) -> bool:
    low, high = polygon.points_level0_px.min(axis=0), polygon.points_level0_px.max(axis=0)
    return bool((high > 0).all() and low[0] < width_px and low[1] < height_px)

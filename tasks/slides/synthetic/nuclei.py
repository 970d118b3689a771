"""Cell nuclei: how each kind looks, as a library of small dye images."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from tasks.slides.synthetic.noise import smooth_noise

Stamp = npt.NDArray[np.uint8]
_STAMPS = 48


@dataclass(frozen=True)
class NucleusKind:
    """What the nuclei of one kind have in common; the differences between kinds are the cohort's true effects.

    Attributes
    ----------
    radius_um, radius_spread
        Mean radius, and its standard deviation as a share of the mean.
    elongation
        Mean ratio of the axes.
    irregularity
        How far the outline departs from an ellipse, as a share of the radius.
    body
        Dye inside, 0 to 1.
    rim
        Additional dye at the membrane.
    grain_um, grain
        Size and strength of the clumps of chromatin.
    nucleoli
        Most nucleoli.
    spread
        Standard deviation of the dye between nuclei, as a share.
    """

    radius_um: float
    radius_spread: float
    elongation: float
    irregularity: float
    body: float
    rim: float
    grain_um: float
    grain: float
    nucleoli: int
    spread: float

    def record(self) -> dict[str, float]:
        """Return the numbers for the cohort's truth file."""
        return asdict(self)


LYMPHOCYTE = NucleusKind(2.9, 0.09, 1.12, 0.05, 0.66, 0.06, 1.0, 0.16, 0, 0.12)
LARGE_CELL = NucleusKind(3.5, 0.15, 1.30, 0.07, 0.33, 0.20, 1.0, 0.12, 1, 0.20)
FIBROBLAST = NucleusKind(3.2, 0.20, 3.60, 0.06, 0.50, 0.05, 1.0, 0.12, 0, 0.15)
TUMOUR = NucleusKind(5.6, 0.18, 1.28, 0.06, 0.29, 0.26, 1.5, 0.18, 3, 0.28)
KINDS = {"lymphocyte": LYMPHOCYTE, "large cell": LARGE_CELL, "fibroblast": FIBROBLAST, "tumour": TUMOUR}


def stamp_library(rng: np.random.Generator, kind: NucleusKind, mpp: float) -> list[Stamp]:
    """Draw nuclei of one kind, each also turned and mirrored.

    Returns
    -------
    list of numpy.ndarray
        uint8 squares of odd side, 0 outside the nucleus, haematoxylin inside (255 is the most).
    """
    library = []
    for _ in range(_STAMPS):
        stamp = _draw(rng, kind, mpp)
        for turned in (np.rot90(stamp, quarter) for quarter in range(4)):
            library += [np.ascontiguousarray(turned), np.ascontiguousarray(turned[:, ::-1])]
    return library


def _draw(rng: np.random.Generator, kind: NucleusKind, mpp: float) -> Stamp:
    radius = kind.radius_um / mpp * max(0.5, 1 + kind.radius_spread * rng.standard_normal())
    axis = np.sqrt(max(1.0, kind.elongation + 0.25 * (kind.elongation - 1) * rng.standard_normal()))
    half = int(np.ceil(radius * axis * (1.15 + 2 * kind.irregularity))) + 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    turn = rng.uniform(0, np.pi)
    u = (x * np.cos(turn) + y * np.sin(turn)) / axis
    v = (-x * np.sin(turn) + y * np.cos(turn)) * axis
    depth = radius * _outline(rng, kind, np.arctan2(v, u)) - np.hypot(u, v)
    edge = max(0.7, 0.25 / mpp)
    inside = np.clip(depth / edge + 0.5, 0, 1)
    dye = kind.body + kind.rim * np.exp(-((depth / (0.55 / mpp) - 0.6) ** 2))
    dye = dye + kind.grain * np.clip(smooth_noise(rng, dye.shape, max(1.0, kind.grain_um / mpp)), -1.5, 2.0)
    dye = dye + _nucleoli(rng, kind, x, y, radius, mpp)
    strength = max(0.3, 1 + kind.spread * rng.standard_normal())
    stamp: Stamp = np.clip(255 * inside * dye * strength, 0, 255).astype(np.uint8)
    return stamp


def _outline(rng: np.random.Generator, kind: NucleusKind, angle: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    factor = np.ones_like(angle)
    for wave in (2, 3, 4, 5):
        factor += kind.irregularity / (wave - 1) * rng.standard_normal() * np.cos(wave * angle + rng.uniform(0, 6.28))
    return factor


def _nucleoli(
    rng: np.random.Generator,
    kind: NucleusKind,
    x: npt.NDArray[np.float32],
    y: npt.NDArray[np.float32],
    radius: float,
    mpp: float,
) -> npt.NDArray[np.float32]:
    spots = np.zeros_like(x)
    for _ in range(int(rng.integers(0, kind.nucleoli + 1))):
        angle, distance = rng.uniform(0, 2 * np.pi), 0.5 * radius * np.sqrt(rng.uniform())
        size = rng.uniform(0.5, 0.95) / mpp
        square = (x - distance * np.cos(angle)) ** 2 + (y - distance * np.sin(angle)) ** 2
        spots += 0.45 * np.exp(-square / (2 * (size * 0.7) ** 2))
    return spots

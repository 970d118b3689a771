"""Small shards of two textures that a small network tells apart: coarse dark spots (tumour) and fine ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.digests import file_digest
from tasks.patches.attributes import ShardAttributes
from tasks.patches.store import PatchBatch, write_shard
from tasks.training.job import ShardOfJob

SIDE_PX = 48


@dataclass(frozen=True)
class TextureShard:
    """How one shard is made; `labels` gives its rows."""

    patient: str
    split: Literal["train", "validation", "test"]
    labels: tuple[int, ...]
    patch_px: int = SIDE_PX
    mpp: float = 0.25
    centre: int | None = None


def balanced(rows: int) -> tuple[int, ...]:
    """Labels 1…1 0…0: as in real shards, the classes lie in runs."""
    return (1,) * (rows // 2) + (0,) * (rows - rows // 2)


def texture(label: int, side_px: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """One patch, uint8 (side_px, side_px, 3), with the same mean colour for both labels."""
    grain = 8 if label == 1 else 2
    spots = generator.random((side_px // grain, side_px // grain)) < 0.4
    dark = np.kron(spots, np.ones((grain, grain)))[..., None]
    colour = 230 - dark * np.array([110, 150, 60]) + generator.normal(0, 8, (side_px, side_px, 3))
    patch: NDArray[np.uint8] = np.clip(colour, 0, 255).astype(np.uint8)
    return patch


def write_texture_shard(folder: Path, shard: TextureShard, *, seed: int = 0) -> ShardOfJob:
    """Write one shard into `folder`; give its path and digest."""
    generator = np.random.default_rng([seed, *shard.patient.encode()])
    pixels = np.stack([texture(label, shard.patch_px, generator) for label in shard.labels])
    label = np.array(shard.labels, np.int8)
    return write_pixels_shard(folder, shard.patient, shard.split, pixels, label, shard.mpp, shard.centre)


def write_pixels_shard(
    folder: Path,
    patient: str,
    split: Literal["train", "validation", "test"],
    pixels: NDArray[np.uint8],
    label: NDArray[np.int8],
    mpp: float = 0.25,
    centre: int | None = None,
) -> ShardOfJob:
    """Write given patches as a shard of random positions."""
    rows, side_px = len(label), pixels.shape[1]
    path = folder / f"{patient}.{split}.patches.h5"
    attributes = ShardAttributes(
        slide=f"{patient}_node_0",
        slide_digest=f"sha256:{'0' * 64}",
        patient=patient,
        centre=centre,
        split=split,
        truth="tumour",
        level=0,
        level_downsample=1.0,
        mpp=mpp,
        patch_px=side_px,
        stride_px=0,
        slide_width_px=100_000,
        slide_height_px=100_000,
        sampling="random",
        seed=0,
        configuration="{}",
    )
    index: dict[str, NDArray[Any]] = {
        "x_level0_px": np.arange(rows) * side_px,
        "y_level0_px": np.zeros(rows, np.int64),
        "label": label,
        "tumour_fraction": (label == 1).astype(np.float32),
        "tissue_fraction": np.ones(rows, np.float32),
        "white_fraction": np.zeros(rows, np.float32),
    }
    with write_shard(path, attributes) as writer:
        writer.append(PatchBatch(pixels, index))
    return ShardOfJob(path=path, digest=file_digest(path))


def texture_cohort(folder: Path, *, rows: int = 160) -> list[ShardOfJob]:
    """Four patients to train on and two to validate with, `rows` patches each."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = [TextureShard(f"patient_00{index}", "train", balanced(rows)) for index in range(4)]
    kinds += [TextureShard(f"patient_01{index}", "validation", balanced(rows // 2)) for index in range(2)]
    return [write_texture_shard(folder, kind) for kind in kinds]

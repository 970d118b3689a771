"""A small slide as a site without slides sees it (dense shard, thumbnail, annotation), and a model that fits."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.digests import file_digest
from tasks.inference.scores import ScoreAttributes, Scores
from tasks.patches.attributes import ShardAttributes
from tasks.patches.store import PatchBatch, write_shard
from tasks.slides.annotations import Annotations, Polygon
from tasks.slides.geojson import to_geojson
from tasks.train_config import TrainConfig
from tasks.training.architectures import ARCHITECTURES
from tasks.training.card import ModelCard, write_card
from tasks.training.model_folder import CARD_NAME, WEIGHTS_NAME
from tasks.training.models import LOGIT_NAME, build

ARCHITECTURE = "CamNetSmall"
PATCH_PX = 32
MPP = 0.5
WIDTH_PX, HEIGHT_PX = 640, 480
LESION_X_PX, LESION_Y_PX, LESION_RADIUS_PX = 200.0, 180.0, 90.0


@dataclass(frozen=True)
class SlideFiles:
    """Where the files of one slide lie."""

    shard: Path
    thumbnail: Path
    annotation: Path


def write_slide(
    folder: Path,
    name: str = "patient_004_node_4",
    *,
    patient: str = "patient_004",
    truth: Literal["tumour", "negative", "unknown"] = "tumour",
    mpp: float = MPP,
    sampling: Literal["grid", "random"] = "grid",
) -> SlideFiles:
    """Write the files of a slide with one round lesion (none when `truth` is ``negative``) and an empty corner."""
    folder.mkdir(parents=True, exist_ok=True)
    files = SlideFiles(folder / f"{name}.grid.h5", folder / f"{name}.png", folder / f"{name}.geojson")
    x, y = grid_corners()
    tumour = lesion_fraction(x, y) if truth == "tumour" else np.zeros(len(x), np.float32)
    label = np.where(tumour >= 0.5, 1, np.where(tumour == 0, 0, -1)).astype(np.int8)
    if truth == "unknown":
        label[:] = -1
    pixels = tissue_patches(len(x), tumour >= 0.5, seed=len(name))
    ones = np.ones(len(x), np.float32)
    index: dict[str, NDArray[Any]] = {"x_level0_px": x, "y_level0_px": y, "label": label, "tumour_fraction": tumour}
    index |= {"tissue_fraction": ones, "white_fraction": 0 * ones}
    with write_shard(files.shard, _attributes(name, patient, truth, mpp, sampling)) as writer:
        writer.append(PatchBatch(pixels, index))
    _write_thumbnail(files.thumbnail, x, y, pixels)
    files.annotation.write_text(to_geojson(Annotations((_lesion(),) if truth == "tumour" else ())))
    return files


def write_model(folder: Path, *, patch_px: int = PATCH_PX, mpp: float | None = MPP) -> Path:
    """Write the folder of a model that tells the tumour of `tissue_patches` from the rest."""
    folder.mkdir(parents=True)
    model = build(ARCHITECTURE, patch_px, seed=5)
    _fit_last_layer(model)
    with warnings.catch_warnings():
        # keras 3.15 calls np.array(variable), and TensorFlow's variables know no `copy` argument yet
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        model.save_weights(folder / WEIGHTS_NAME)
    card = ModelCard(
        key="0" * 32,
        architecture=ARCHITECTURE,
        patch_px=patch_px,
        mpp=mpp,
        normalisation=ARCHITECTURES[ARCHITECTURE].preprocessing,
        parameters=model.count_params(),
        config=TrainConfig(architecture=ARCHITECTURE),
        seed=5,
        manifest_digest=None,
        shards=(),
        split_patients={},
        metrics=(),
        epochs_run=1,
        best_epoch=1,
        ranks=1,
        controller="gloo",
        equal_weights_over_ranks=True,
        versions={"keras": keras.__version__},
        weights_digest=file_digest(folder / WEIGHTS_NAME),
    )
    write_card(folder / CARD_NAME, card)
    return folder


def make_scores(
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    probability: NDArray[np.floating],
    *,
    label: NDArray[np.int8] | None = None,
    slide: str = "patient_004_node_4",
    patient: str = "patient_004",
    truth: Literal["tumour", "negative", "unknown"] = "tumour",
    stride_px: float = PATCH_PX,
) -> Scores:
    """Scores at given corners (level 0) of a slide of `WIDTH_PX` x `HEIGHT_PX`."""
    attributes = ScoreAttributes(
        slide=slide,
        patient=patient,
        centre=0,
        truth=truth,
        level=0,
        level_downsample=1.0,
        mpp=MPP,
        patch_px=PATCH_PX,
        stride_level0_px=stride_px,
        slide_width_px=WIDTH_PX,
        slide_height_px=HEIGHT_PX,
        model_digest="sha256:model",
        shard_digest="sha256:shard",
    )
    known = np.zeros(len(x), np.int8) if label is None else label
    return Scores(attributes, x, y, probability.astype(np.float32), known, (known == 1).astype(np.float32))


def grid_corners() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Top left corners of a dense grid, without the lower right quarter of the slide."""
    x, y = np.meshgrid(np.arange(0, WIDTH_PX, PATCH_PX), np.arange(0, HEIGHT_PX, PATCH_PX))
    corners = np.stack([x.ravel(), y.ravel()], 1).astype(np.int64)
    kept = corners[(corners[:, 0] < WIDTH_PX // 2) | (corners[:, 1] < HEIGHT_PX // 2)]
    return kept[:, 0].copy(), kept[:, 1].copy()


def lesion_fraction(x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.float32]:
    """Share of each patch that lies in the lesion."""
    inside = np.arange(PATCH_PX) + 0.5
    along_x = ((x[:, None] + inside - LESION_X_PX) ** 2)[:, None, :]
    along_y = ((y[:, None] + inside - LESION_Y_PX) ** 2)[:, :, None]
    return np.asarray((along_x + along_y < LESION_RADIUS_PX**2).mean((1, 2)), np.float32)


def tissue_patches(count: int, tumour: NDArray[np.bool_], *, seed: int) -> NDArray[np.uint8]:
    """Noisy pink patches, the tumour ones darker and bluer."""
    colour = np.where(tumour[:, None], (120.0, 70.0, 150.0), (220.0, 150.0, 190.0))
    noise = np.random.default_rng(seed).normal(0, 12, (count, PATCH_PX, PATCH_PX, 3))
    return np.asarray(np.clip(colour[:, None, None, :] + noise, 0, 255), np.uint8)


def _lesion() -> Polygon:
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1) * LESION_RADIUS_PX
    return Polygon("lesion", "tumour", circle + np.array([LESION_X_PX, LESION_Y_PX]))


def _attributes(
    name: str,
    patient: str,
    truth: Literal["tumour", "negative", "unknown"],
    mpp: float,
    sampling: Literal["grid", "random"],
) -> ShardAttributes:
    return ShardAttributes(
        slide=name,
        slide_digest="sha256:slide",
        patient=patient,
        centre=0,
        split="test",
        truth=truth,
        level=0,
        level_downsample=1.0,
        mpp=mpp,
        patch_px=PATCH_PX,
        stride_px=PATCH_PX if sampling == "grid" else 0,
        slide_width_px=WIDTH_PX,
        slide_height_px=HEIGHT_PX,
        sampling=sampling,
        seed=0,
        configuration="{}",
    )


def _write_thumbnail(path: Path, x: NDArray[np.int64], y: NDArray[np.int64], pixels: NDArray[np.uint8]) -> None:
    slide = np.full((HEIGHT_PX, WIDTH_PX, 3), 243, np.uint8)
    for column, row, patch in zip(x, y, pixels, strict=True):
        slide[row : row + PATCH_PX, column : column + PATCH_PX] = patch
    Image.fromarray(slide).resize((WIDTH_PX // 2, HEIGHT_PX // 2)).save(path)


def _fit_last_layer(model: keras.Model) -> None:
    """Point the logit along the mean difference of the two classes in the features of a random network."""
    side = model.input_shape[1]
    tumour = np.arange(32) < 16
    patches = np.resize(tissue_patches(32, tumour, seed=1), (32, PATCH_PX, PATCH_PX, 3))
    patches = np.tile(patches, (1, -(-side // PATCH_PX), -(-side // PATCH_PX), 1))[:, :side, :side]
    head = model.get_layer(LOGIT_NAME)
    features = keras.Model(model.inputs[0], head.input)(patches.astype(np.float32), training=False).numpy()
    towards = features[tumour].mean(0) - features[~tumour].mean(0)
    middle = (features[tumour].mean(0) + features[~tumour].mean(0)) / 2
    towards *= 6 / (towards @ towards)
    head.set_weights([towards[:, None], np.array([-(towards @ middle)])])

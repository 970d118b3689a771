"""Layer 3 for one slide: what the network looked at in its highest scored patches (paper sections 3.7 and 4.4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from tasks.config import ExplainConfig
from tasks.errors import InputError
from tasks.explain.gradcam import CamMaps, gradcam, to_image
from tasks.explain.outcome import ExplainedPatch, ExplainOutcome
from tasks.explain.panels import PatchPanel, draw_panels, top_rows
from tasks.inference.scores import Scores, read_scores
from tasks.patches.slide_shards import SlideShards, open_slide_shards
from tasks.patches.slide_stain import slide_stain_change
from tasks.stain.change import change_colours
from tasks.training.architectures import architecture_named
from tasks.training.card import ModelCard
from tasks.training.model_folder import read_model
from tasks.training.models import build

# Not the seed of any training: a network would be compared with its own first weights.
_RANDOM_SEED = 20_200_000


def explain_slide(
    model_folder: Path, shard_paths: Sequence[Path], scores_path: Path, out: Path, config: ExplainConfig
) -> ExplainOutcome:
    """Explain the highest scored patches of a slide; writes ``SLIDE.gradcam.png`` into the folder `out`.

    Every map stands beside that of the same network with random weights: a map that hardly differs from it
    says nothing about what was learned (Adebayo et al. 2018).

    Parameters
    ----------
    shard_paths
        The slide's dense shard, or all parts of it.

    Raises
    ------
    InputError
        The scores are not of this shard and this model, there is no such layer, or no patch is asked for.
    IntegrityError
        A file is missing or not what it should be.
    """
    model, card = read_model(model_folder)
    layer = config.layer or architecture_named(card.architecture).cam_layer
    scores = read_scores(scores_path)
    rows = top_rows(scores, config.top_patches)
    if not rows:
        raise InputError("there is no patch to explain", subject=scores_path, remedy="set explain.top_patches above 0")
    with open_slide_shards(shard_paths) as slide:
        _check_same(scores, scores_path, slide, card)
        pixels = _as_trained(slide, rows, card)
    panels = _panels(model, card, layer, scores, rows, pixels)
    panel_path = out / f"{scores.attributes.slide}.gradcam.png"
    draw_panels(panel_path, scores.attributes.slide, layer, panels)
    facts = ExplainedPatch.model_fields
    patches = tuple(ExplainedPatch(**{name: getattr(panel, name) for name in facts}) for panel in panels)
    return ExplainOutcome(slide=scores.attributes.slide, layer=layer, patches=patches, panel=panel_path)


def _as_trained(slide: SlideShards, rows: list[int], card: ModelCard) -> NDArray[np.uint8]:
    """Read patches as the network was shown those that it learned from."""
    pixels = slide.read(np.asarray(rows))
    change = slide_stain_change(slide, card.stain) if card.stain else None
    change_colours(pixels, change)
    return pixels


def _panels(
    model: keras.Model, card: ModelCard, layer: str, scores: Scores, rows: list[int], pixels: NDArray[np.uint8]
) -> list[PatchPanel]:
    trained = gradcam(model, pixels, layer)
    random = gradcam(build(card.architecture, card.patch_px, seed=_RANDOM_SEED, head=card.config.head), pixels, layer)
    side = pixels.shape[1:3]
    images = [to_image(maps, *side) for maps in (trained.gradcam, trained.gradcam_plus_plus, random.gradcam)]
    return [
        PatchPanel(
            x_level0_px=int(scores.x_level0_px[row]),
            y_level0_px=int(scores.y_level0_px[row]),
            probability=float(scores.probability[row]),
            label=int(scores.label[row]),
            pixels=pixels[index],
            gradcam=images[0][index],
            gradcam_plus_plus=images[1][index],
            random=images[2][index],
            random_correlation=_correlation(trained, random, index),
        )
        for index, row in enumerate(rows)
    ]


def _correlation(trained: CamMaps, random: CamMaps, index: int) -> float | None:
    one, other = trained.gradcam[index].ravel(), random.gradcam[index].ravel()
    if one.std() == 0 or other.std() == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])


def _check_same(scores: Scores, scores_path: Path, slide: SlideShards, card: ModelCard) -> None:
    if scores.attributes.model_digest != card.weights_digest:
        raise InputError(
            f"was made by another model ({scores.attributes.model_digest})",
            subject=scores_path,
            remedy="score the slide with this model first",
        )
    same = np.array_equal(scores.x_level0_px, slide.x_level0_px) and np.array_equal(
        scores.y_level0_px, slide.y_level0_px
    )
    if scores.attributes.slide != slide.attributes.slide or not same:
        raise InputError(
            f"does not hold the scores of the patches in {slide.path}",
            subject=scores_path,
            remedy="score this shard first",
        )

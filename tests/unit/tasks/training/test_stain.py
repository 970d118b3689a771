from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from tasks.errors import InputError
from tasks.inference.predict import score_patches
from tasks.patches.slide_shards import open_slide_shards
from tasks.patches.slide_stain import slide_stain_change
from tasks.patches.store import open_shard
from tasks.stain.change import change_colours
from tasks.stain.reference import StainReference, measure_reference
from tasks.train_config import TrainConfig
from tasks.training.batches import read_batches
from tasks.training.cohort import LabelledRows, read_cohort
from tasks.training.epoch import train_epoch
from tasks.training.models import build
from tasks.training.stain import SlideStains, stain_reference
from tests.services.part_shards import cut_in_parts
from tests.services.stained import PINK_DYES, VIOLET_DYES, tissue
from tests.services.texture_shards import write_pixels_shard

SIDE_PX, ROWS = 64, 20


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> LabelledRows:
    """Rows of a violet, a pink and an empty slide."""
    folder = tmp_path_factory.mktemp("slides")
    for patient, dyes in (("violet", VIOLET_DYES), ("pink", PINK_DYES), ("white", None)):
        patches = [
            np.full((SIDE_PX, SIDE_PX, 3), 240, np.uint8) if dyes is None else tissue(dyes, row, SIDE_PX)
            for row in range(ROWS)
        ]
        write_pixels_shard(folder, patient, "train", np.stack(patches), (np.arange(ROWS) % 2).astype(np.int8))
    return read_cohort(sorted(folder.glob("*.h5"))).rows("train")


def changed(path: Path, reference: StainReference) -> NDArray[np.uint8]:
    with open_shard(path) as shard:
        pixels = shard.read(np.arange(shard.rows))
        change_colours(pixels, slide_stain_change(shard, reference))
    return pixels


def test_the_reader_gives_each_patch_the_stain_of_the_reference_of_its_slide(rows: LabelledRows) -> None:
    reference = stain_reference(TrainConfig(stain="macenko"), rows)
    assert reference is not None
    expected = {facts.slide: changed(facts.path, reference) for facts in rows.shards}
    plan = train_epoch(rows, seed=0, epoch=1, rank=0, ranks=1, batch_size=7)
    stains = SlideStains(rows.shards, reference)
    for batch in read_batches(rows, plan, threads=3, stains=stains):
        for patch, place in zip(batch.pixels, batch.rows, strict=True):
            assert np.array_equal(patch, expected[rows.shards[rows.shard[place]].slide][rows.row[place]])
    violet, pink, white = (expected[f"{name}_node_0"] for name in ("violet", "pink", "white"))
    with open_shard(rows.shards[0].path) as shard:
        plain_pink = shard.read(np.arange(ROWS))
    assert np.abs(violet.mean((0, 1, 2)) - pink.mean((0, 1, 2))).max() < 4
    assert not np.array_equal(pink, plain_pink)
    assert np.all(white == 240)


def test_parts_of_a_slide_are_measured_together_as_in_inference(rows: LabelledRows, tmp_path: Path) -> None:
    reference = stain_reference(TrainConfig(stain="reinhard"), rows)
    assert reference is not None
    parts = cut_in_parts(Path(shutil.copy(rows.shards[1].path, tmp_path / "pink.patches.h5")), [7])
    facts = [replace(rows.shards[1], path=path) for path in reversed(parts)]
    found = SlideStains(facts, reference).change_of(rows.shards[1].slide)
    with open_slide_shards(parts) as slide:
        expected = slide_stain_change(slide, reference)
    assert found is not None
    assert expected is not None
    assert np.array_equal(found.matrix, expected.matrix)
    assert np.array_equal(found.offset, expected.offset)


def test_inference_scores_the_changed_patches(rows: LabelledRows) -> None:
    reference = stain_reference(TrainConfig(stain="macenko"), rows)
    assert reference is not None
    model = build("CamNetSmall", SIDE_PX, seed=3)
    with open_shard(rows.shards[0].path) as shard:
        scores = score_patches(model, shard, 8, stain=reference)
        plain = score_patches(model, shard, 8)
    logit = np.asarray(model(changed(rows.shards[0].path, reference)))[:, 0]
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logit)), atol=1e-5)
    assert np.abs(scores - plain).max() > 1e-4


def test_a_picture_can_be_the_reference(rows: LabelledRows, tmp_path: Path) -> None:
    path = tmp_path / "reference.png"
    cv2.imwrite(str(path), tissue(PINK_DYES, 9)[..., ::-1])
    found = stain_reference(TrainConfig(stain="macenko", stain_reference=path), rows)
    assert found is not None
    assert found.stain == measure_reference(tissue(PINK_DYES, 9), "macenko", source="a test").stain
    assert stain_reference(TrainConfig(), rows) is None
    with pytest.raises(ValidationError, match="stain_reference needs"):
        TrainConfig(stain_reference=path)


def test_training_patches_without_tissue_are_refused(rows: LabelledRows) -> None:
    white = replace(rows, shard=np.full(ROWS, 2), row=np.arange(ROWS), label=rows.label[:ROWS])
    assert white.shards[2].patient == "white"
    with pytest.raises(InputError, match="too little stained tissue"):
        stain_reference(TrainConfig(stain="reinhard"), white)

"""Defects of the tool that CamNet follows, each of which made data that looked right.

More of them: labels and holes in test_labels_are_true.py, names and centres in tests/unit/tasks/slides.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from tasks.cohort_config import CohortConfig
from tasks.config import PreprocessConfig
from tasks.patches.candidates import NORMAL, TUMOUR, UNKNOWN, Selection
from tasks.patches.preprocess import preprocess_slide
from tasks.patches.sampling import SlideMasks, sample_grid, sample_random
from tasks.patches.slide_job import SlideJob
from tasks.patches.store import open_shard
from tasks.slides.annotations import Annotations, Polygon, tumour_mask
from tasks.slides.cohort import find_slides
from tasks.slides.synthetic.cohort import CohortSummary
from tests.services.slide_jobs import slide_jobs

DOWNSAMPLE = 32.0
CONFIG = PreprocessConfig(patch_px=224)


def masks_of(tissue: np.ndarray, tumour: np.ndarray) -> SlideMasks:
    height, width = tissue.shape
    return SlideMasks(tissue, tumour, tumour, DOWNSAMPLE, DOWNSAMPLE, int(width * DOWNSAMPLE), int(height * DOWNSAMPLE))


def drawn(masks: SlideMasks, **changes: object) -> Selection:
    config = PreprocessConfig.model_validate({"patch_px": 224} | changes)
    return sample_random(masks, config, patch_level0_px=224, truth="tumour", exhaustive=True, seed=1)


@pytest.fixture
def job(small_cohort: CohortSummary, tmp_path: Path) -> SlideJob:
    slide = next(slide for slide in small_cohort.slides if slide.stage != "negative")
    return slide_jobs(small_cohort.folder, tmp_path, tumour_patches=5, normal_patches=5)[slide.name]


def test_defect_2_one_mask_pixel_of_tumour_made_a_tumour_patch() -> None:
    """Masks were 0 and 255, and their mean was compared with 0.6: a third of the tumour patches held less tumour."""
    nothing = np.zeros((30, 30), np.uint8)
    one = nothing.copy()
    one[15, 15] = 1
    found = sample_grid(
        masks_of(np.ones_like(nothing), one),
        CONFIG,
        patch_level0_px=224,
        stride_level0_px=32,
        truth="tumour",
        exhaustive=True,
    ).candidates
    assert found.tumour_fraction.max() == pytest.approx(1 / 49)
    assert TUMOUR not in found.label
    assert (found.label == UNKNOWN).sum() == 49
    square = np.array([[0, 0], [64, 0], [64, 64], [0, 64]], float)
    mask = tumour_mask(Annotations((Polygon("a", "tumour", square),)), (4, 4), 32, 32)
    assert np.unique(mask).tolist() == [0, 1]


def test_defect_4_patches_were_stored_blue_for_red(tmp_path: Path) -> None:
    """A slide in eosin, which leaves red: stored as BGR and read as RGB it is blue."""
    eosin = np.random.default_rng(0).integers(0, 30, (512, 512, 3)) + np.array([200, 90, 140])
    resolution = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    path = tmp_path / "eosin.tif"
    tifffile.imwrite(path, eosin.astype(np.uint8), tile=(64, 64), photometric="rgb", metadata=None, **resolution)
    (job,) = slide_jobs(path, tmp_path / "site").values()
    preprocess_slide(job)
    with open_shard(job.grid_path) as shard:
        red, green, blue = shard.read(np.arange(shard.rows)).reshape(-1, 3).mean(axis=0)
        assert shard.attributes.colour_order == "RGB"
    assert (red, green, blue) == pytest.approx((214.5, 104.5, 154.5), abs=1)


def test_defect_5_sampling_did_not_end_when_no_position_could_be_accepted() -> None:
    thin = np.zeros((60, 60), np.uint8)
    thin[:, 30] = 1  # a fifth of a patch at most: the tissue rule refuses each position
    selection = drawn(masks_of(thin, np.zeros_like(thin)), tumour_patches=10**9, normal_patches=10**9)
    assert len(selection.candidates) == 0
    assert selection.rejected.total() == 60
    only_edge = np.zeros((60, 60), np.uint8)
    only_edge[0] = 1
    assert drawn(masks_of(only_edge, np.zeros_like(thin))).rejected == {"over the slide's edge": 60}


def test_defect_5_the_same_patch_was_drawn_again_and_again() -> None:
    tissue = np.ones((20, 20), np.uint8)
    found = drawn(masks_of(tissue, np.zeros_like(tissue)), normal_patches=10**9).candidates
    places = set(zip(found.x_level0_px.tolist(), found.y_level0_px.tolist(), strict=True))
    assert len(places) == len(found) > 100


def test_defect_5_windows_drew_what_they_liked_and_overlapped() -> None:
    tissue = np.ones((30, 30), np.uint8)
    masks = masks_of(tissue, np.zeros_like(tissue))
    whole = drawn(masks).candidates.x_level0_px.tolist()
    tenths = [drawn(masks, window_percent=(first, first + 10)) for first in range(0, 100, 10)]
    assert [x for tenth in tenths for x in tenth.candidates.x_level0_px.tolist()] == whole


@pytest.mark.parametrize("stride", [224, 112])
def test_defect_6_a_dense_grid_stored_each_pixel_fifty_times(stride: int) -> None:
    tissue = np.ones((70, 70), np.uint8)
    grid = sample_grid(
        masks_of(tissue, np.zeros_like(tissue)),
        CONFIG,
        patch_level0_px=224,
        stride_level0_px=stride,
        truth="negative",
        exhaustive=True,
    ).candidates
    stored = np.zeros((2240, 2240), np.int64)
    for x, y in zip(grid.x_level0_px.tolist(), grid.y_level0_px.tolist(), strict=True):
        stored[y : y + 224, x : x + 224] += 1
    assert stored.min() == 1
    assert stored.max() == (224 // stride) ** 2


def test_defect_10_centres_that_do_not_start_at_0_were_mixed_up(tmp_path: Path) -> None:
    for patient in (61, 85):
        path = tmp_path / f"patient_{patient:03}_node_1.tif"
        tifffile.imwrite(path, np.full((64, 64, 3), 200, np.uint8), tile=(64, 64), photometric="rgb", metadata=None)
    assert [record.centre for record in find_slides(CohortConfig(slides=tmp_path))] == [3, 4]


def test_defect_10_outlines_were_drawn_into_the_picture_that_the_tissue_was_found_in(job: SlideJob) -> None:
    record = job.record.model_copy(update={"annotation": None, "truth": "unknown", "exhaustive": False})
    plain = job.model_copy(update={"record": record, "folder": job.folder / "plain"})
    found = []
    for each in (job, plain):
        assert preprocess_slide(each).state == "done"
        with open_shard(each.grid_path) as shard:
            found.append([shard.x_level0_px.tolist(), shard.y_level0_px.tolist(), shard.tissue_fraction.tolist()])
            labels = set(shard.label.tolist())
        assert labels == ({UNKNOWN} if each is plain else {TUMOUR, NORMAL, UNKNOWN})
    assert found[0] == found[1]


def test_defect_10_locations_were_mask_pixels_and_nothing_said_of_what(job: SlideJob) -> None:
    preprocess_slide(job)
    with open_shard(job.sampled_path) as shard, openslide.OpenSlide(job.record.path) as slide:
        side = shard.attributes.patch_px
        for row in range(shard.rows):
            place = int(shard.x_level0_px[row]), int(shard.y_level0_px[row])
            region = np.asarray(slide.read_region(place, 0, (side, side)).convert("RGB"))
            assert np.array_equal(shard.read(np.array([row]))[0], region)
        stated = shard.attributes
        assert (stated.slide, stated.mpp, stated.seed) == (job.record.name, 0.5, job.slide_seed)
        assert stated.slide_digest.startswith("sha256:")
        assert json.loads(stated.configuration) == json.loads(job.config.model_dump_json())

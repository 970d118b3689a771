"""One slide with its annotation as XML, GeoJSON and mask: the same patches, whatever says where the tumour is."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from tasks.patches.candidates import NORMAL, TUMOUR, UNKNOWN
from tasks.patches.preprocess import preprocess_slide
from tasks.patches.slide_job import SlideJob
from tasks.patches.store import open_shard
from tasks.slides.annotation_files import read_annotations
from tasks.slides.annotations import tumour_mask
from tasks.slides.geojson import to_geojson
from tasks.slides.synthetic.cohort import CohortSummary
from tests.services.slide_jobs import slide_jobs

SIDE_PX = 2048


@pytest.fixture
def folder(small_cohort: CohortSummary, tmp_path: Path) -> Path:
    """A slide with tumour, and its annotation apart from it."""
    slide = next(slide for slide in small_cohort.slides if slide.stage == "macro")
    (tmp_path / "cohort").mkdir()
    shutil.copy(small_cohort.folder / "images" / f"{slide.name}.tif", tmp_path / "cohort" / "a.tif")
    shutil.copy(small_cohort.folder / "annotations" / f"{slide.name}.xml", tmp_path / "drawn.xml")
    return tmp_path


def write_mask(path: Path, mask: NDArray[np.uint8]) -> None:
    tifffile.imwrite(path, mask, tile=(256, 256), compression="zlib", photometric="minisblack", metadata=None)


def job(folder: Path, tumour_values: tuple[int, ...] | None = None) -> SlideJob:
    (made,) = slide_jobs(folder / "cohort", folder / "site").values()
    return made.model_copy(update={"record": made.record.model_copy(update={"tumour_values": tumour_values})})


def grid(job: SlideJob) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    outcome = preprocess_slide(job)
    assert outcome.state == "done", outcome.reason
    with open_shard(job.grid_path) as shard:
        return shard.tumour_fraction, shard.label


def test_all_kinds_of_annotation_give_the_same_labels(folder: Path) -> None:
    drawn = read_annotations(folder / "drawn.xml")
    shutil.copy(folder / "drawn.xml", folder / "cohort" / "a.xml")
    fraction, label = grid(job(folder))
    assert {TUMOUR, NORMAL} <= set(label.tolist())
    (folder / "cohort" / "a.xml").unlink()

    (folder / "cohort" / "a.geojson").write_text(to_geojson(drawn))
    as_geojson = grid(job(folder))
    assert (as_geojson[0] == fraction).all()
    assert (as_geojson[1] == label).all()
    (folder / "cohort" / "a.geojson").unlink()

    tissue = np.ones((SIDE_PX, SIDE_PX), np.uint8)
    write_mask(folder / "cohort" / "a_mask.tif", tissue + tumour_mask(drawn, tissue.shape, 1, 1))
    as_mask = grid(job(folder, (2,)))
    # An outline differs from the pixel edges that stand for it by less than a pixel of level 0, which decides over few
    # of the 16 mask pixels of a patch.
    assert np.abs(as_mask[0] - fraction).max() < 0.2
    assert np.abs(as_mask[0] - fraction).mean() < 0.002
    assert (as_mask[1] != label).mean() < 0.02


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (np.ones((SIDE_PX, SIDE_PX), np.uint8), "which do not say what is tumour"),
        (np.full((SIDE_PX, SIDE_PX - 1), 255, np.uint8), "is a mask of 2047 x 2048 pixels"),
    ],
)
def test_a_mask_that_cannot_be_used_fails_its_slide_by_name(folder: Path, mask: NDArray[np.uint8], reason: str) -> None:
    path = folder / "cohort" / "a_mask.tif"
    write_mask(path, mask)
    outcome = preprocess_slide(job(folder))
    assert outcome.state == "failed"
    assert outcome.reason.startswith(f"{path}: ")
    assert reason in outcome.reason
    assert outcome.remedy


def test_outlines_of_another_slide_fail_it(folder: Path) -> None:
    text = (folder / "drawn.xml").read_text()
    (folder / "cohort" / "a.xml").write_text(text.replace('X="', 'X="9'))
    outcome = preprocess_slide(job(folder))
    assert outcome.state == "failed"
    assert "all lie outside" in outcome.reason


def test_a_mask_without_tumour_makes_a_negative_slide(folder: Path) -> None:
    write_mask(folder / "cohort" / "a_mask.tif", np.zeros((SIDE_PX, SIDE_PX), np.uint8))
    made = job(folder)
    assert made.record.truth == "tumour", "as long as nobody has looked into it"
    outcome = preprocess_slide(made)
    assert (outcome.truth, outcome.tumour_patches, outcome.unknown_patches) == ("negative", 0, 0)
    assert outcome.normal_patches > 0
    with open_shard(made.grid_path) as shard:
        assert shard.attributes.truth == "negative"
        assert set(shard.label.tolist()) == {NORMAL}


def test_outside_the_outlines_of_an_incompletely_annotated_slide_nothing_is_normal(folder: Path) -> None:
    (folder / "cohort" / "a.tif").rename(folder / "cohort" / "Tumor_110.tif")
    drawn = read_annotations(folder / "drawn.xml")
    mask = tumour_mask(drawn, (SIDE_PX, SIDE_PX), 1, 1)
    write_mask(folder / "cohort" / "tumor_110_Mask.tif", mask * 255)
    made = job(folder)
    assert (made.record.truth, made.record.exhaustive) == ("tumour", False)
    _, label = grid(made)
    assert set(label.tolist()) == {TUMOUR, UNKNOWN}
    with open_shard(made.sampled_path) as shard:
        assert set(shard.label.tolist()) == {TUMOUR}

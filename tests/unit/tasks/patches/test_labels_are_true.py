"""Labels of stored patches against the annotation, filled independently.

The tool that this one follows kept its masks as 0 and 255 and compared their mean with 0.6: a third of its tumour
patches held less tumour than that, and it filled the holes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.patches.candidates import NORMAL, TUMOUR, UNKNOWN
from tasks.patches.preprocess import preprocess_slide
from tasks.patches.slide_job import SlideJob
from tasks.patches.store import open_shard
from tasks.slides.synthetic.cohort import CohortSummary
from tests.services.slide_jobs import slide_jobs
from tests.services.tumour_truth import TumourTruth


@dataclass(frozen=True)
class Labelled:
    """Patches of one slide with their label, the share that CamNet states and the true share of tumour."""

    label: NDArray[np.int8]
    stated: NDArray[np.float32]
    true: NDArray[np.float64]
    in_holes: NDArray[np.float64]


def labelled(job: SlideJob, shard: Path) -> Labelled:
    assert preprocess_slide(job).state == "done"
    truth = TumourTruth([], []) if job.record.annotation is None else TumourTruth.read(job.record.annotation)
    with open_shard(shard) as opened:
        places = list(zip(opened.x_level0_px.tolist(), opened.y_level0_px.tolist(), strict=True))
        side = job.config.patch_px
        return Labelled(
            opened.label,
            opened.tumour_fraction,
            np.array([truth.patch(x, y, side).mean() for x, y in places]),
            np.array([truth.holes_of(x, y, side).mean() for x, y in places]),
        )


@pytest.fixture(scope="module")
def synthetic(small_cohort: CohortSummary, tmp_path_factory: pytest.TempPathFactory) -> dict[str, SlideJob]:
    return slide_jobs(small_cohort.folder, tmp_path_factory.mktemp("site"), tumour_patches=150, normal_patches=150)


def check(patches: Labelled) -> None:
    # The mask has a pixel for 8 µm, so that a share of the patch is known to a few percent at the border.
    assert np.abs(patches.stated - patches.true).max() < 0.12
    assert np.abs(patches.stated - patches.true).mean() < 0.02
    tumour, normal = patches.label == TUMOUR, patches.label == NORMAL
    assert (patches.true[tumour] > 0.5).all()
    assert (patches.true[tumour] < 0.6).mean() < 0.05
    assert (patches.in_holes[tumour] < 0.5).all()
    assert (patches.true[normal] == 0).all()


def test_synthetic_tumour_patches_are_tumour_and_normal_ones_are_not(synthetic: dict[str, SlideJob]) -> None:
    with_tumour = [job for job in synthetic.values() if job.record.truth == "tumour"]
    assert len(with_tumour) == 3
    seen_holes = 0.0
    for job in with_tumour:
        for shard in (job.sampled_path, job.grid_path):
            patches = labelled(job, shard)
            assert (patches.label == TUMOUR).sum() >= 20
            assert (patches.label == NORMAL).sum() >= 50
            check(patches)
            seen_holes = max(seen_holes, float(patches.in_holes.max()))
    assert seen_holes > 0.3, "no patch lies in a hole, so that nothing is shown about holes"


def test_real_tumour_patches_are_tumour_and_normal_ones_are_not(real_data: Path, tmp_path: Path) -> None:
    changes = {"patch_px": 224, "grid_stride_px": 112, "tumour_patches": 300, "normal_patches": 300}
    (job,) = slide_jobs(real_data / "mini_camelyon", tmp_path, **changes).values()
    patches = labelled(job, job.sampled_path)
    assert (patches.label == TUMOUR).sum() > 100
    check(patches)
    check(labelled(job, job.grid_path))


def test_a_negative_slide_has_normal_patches_only(synthetic: dict[str, SlideJob]) -> None:
    job = next(job for job in synthetic.values() if job.record.truth == "negative")
    patches = labelled(job, job.sampled_path)
    assert patches.label.tolist() == [NORMAL] * 150
    assert set(labelled(job, job.grid_path).label.tolist()) == {NORMAL}


def test_an_incompletely_annotated_slide_has_no_normal_patch(synthetic: dict[str, SlideJob], tmp_path: Path) -> None:
    job = next(job for job in synthetic.values() if job.record.truth == "tumour")
    partly = job.model_copy(
        update={"record": job.record.model_copy(update={"exhaustive": False}), "root": tmp_path, "folder": tmp_path}
    )
    assert set(labelled(partly, partly.sampled_path).label.tolist()) == {TUMOUR}
    assert set(labelled(partly, partly.grid_path).label.tolist()) == {TUMOUR, UNKNOWN}


def test_a_slide_of_which_nothing_is_known_has_no_labels(synthetic: dict[str, SlideJob], tmp_path: Path) -> None:
    job = next(iter(synthetic.values()))
    record = job.record.model_copy(update={"truth": "unknown", "exhaustive": False, "annotation": None})
    unknown = job.model_copy(update={"record": record, "root": tmp_path, "folder": tmp_path})
    assert labelled(unknown, unknown.sampled_path).label.tolist() == [UNKNOWN] * 150
    assert set(labelled(unknown, unknown.grid_path).label.tolist()) == {UNKNOWN}

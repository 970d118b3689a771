from __future__ import annotations

import numpy as np
import pytest

from tasks.slides.camelyon import Stage
from tasks.slides.synthetic.architecture import lesion_mask
from tasks.slides.synthetic.cells import Cells
from tasks.slides.synthetic.config import SynthConfig
from tasks.slides.synthetic.histology import Histology, draw_histology
from tasks.slides.synthetic.lesions import place_lesions, stage_of
from tasks.slides.synthetic.marks import draw_marks
from tasks.slides.synthetic.nuclei import LYMPHOCYTE, TUMOUR, stamp_library
from tasks.slides.synthetic.plan import SlidePlan, plan_cohort

CONFIG = SynthConfig(width_px=1500, height_px=1300, mpp=0.5, seed=3)


def design(plan: SlidePlan) -> Histology:
    return draw_histology(np.random.default_rng([CONFIG.seed, plan.index]), plan, CONFIG)


def plan_of(stage: Stage) -> SlidePlan:
    return next(plan for plan in plan_cohort(CONFIG) if plan.stage == stage)


@pytest.fixture(scope="module")
def macro() -> Histology:
    return design(plan_of("macro"))


def test_the_same_seed_draws_the_same_slide(macro: Histology) -> None:
    again = design(plan_of("macro"))
    assert (macro.render(300, 300, 400, 400) == again.render(300, 300, 400, 400)).all()


def test_a_rectangle_fits_its_neighbours(macro: Histology) -> None:
    whole = macro.render(300, 200, 700, 600).astype(int)
    for x, y in ((300, 200), (417, 333), (812, 512)):
        part = macro.render(x, y, 160, 130)
        difference = np.abs(whole[y - 200 : y - 70, x - 300 : x - 140] - part)
        assert difference.max() <= 2


def test_glass_has_the_tint_of_the_scanner_and_noise(macro: Histology) -> None:
    corner = macro.render(0, 0, 96, 96)
    assert np.abs(corner.mean(axis=(0, 1)) - macro.stain.glass).max() < 1
    assert 0.5 < corner.std() < 6


@pytest.mark.parametrize("stage", ["negative", "itc", "micro", "macro"])
@pytest.mark.parametrize("seed", range(8))
def test_lesions_have_the_size_of_the_stage_and_lie_in_the_tissue(stage: Stage, seed: int) -> None:
    y, x = np.mgrid[:250, :250]
    tissue = np.hypot(x - 125, y - 125) < 100
    lesions = place_lesions(np.random.default_rng(seed), stage, tissue, 16, 0.25, 0.2)
    assert stage_of(lesions, 0.25, 0.2) == stage
    for lesion in lesions:
        cells = lesion_mask([lesion], tissue.shape, 16)
        assert not cells.any() or tissue[cells].mean() > 0.95
    assert all(len(lesion.holes_level0_px) == 0 or lesion.major_axis_um(0.25) > 400 for lesion in lesions)


def test_nuclei_of_tumour_are_larger_paler_and_coarser() -> None:
    rng = np.random.default_rng(0)
    radius, dye, coarse = {}, {}, {}
    for kind in (LYMPHOCYTE, TUMOUR):
        stamps = stamp_library(rng, kind, 0.25)[::8]
        radius[kind] = np.mean([np.sqrt((stamp > 20).sum() / np.pi) for stamp in stamps]) * 0.25
        dye[kind] = np.mean([stamp[stamp > 20].mean() for stamp in stamps])
        coarse[kind] = np.mean([stamp[stamp > 20].std() / stamp[stamp > 20].mean() for stamp in stamps])
        assert radius[kind] == pytest.approx(kind.radius_um, rel=0.12)
    assert radius[TUMOUR] > 1.5 * radius[LYMPHOCYTE]
    assert dye[TUMOUR] < 0.85 * dye[LYMPHOCYTE]
    assert coarse[TUMOUR] > 1.3 * coarse[LYMPHOCYTE]


def test_nuclei_at_the_border_of_a_rectangle_are_cut_not_lost() -> None:
    stamp = np.full((5, 5), 200, np.uint8)
    at = np.array([0, 7, 20])
    cells = Cells(stamps=[stamp], x_level0_px=at, y_level0_px=at, stamp=np.zeros(3, np.int64), reach_px=2)
    whole = cells.draw(-10, -10, 40, 40)
    assert (whole > 0).sum() == 75
    assert (cells.draw(8, 6, 12, 13) == whole[16:29, 18:30]).all()


def test_marks_are_where_the_plan_wants_them() -> None:
    plans = plan_cohort(CONFIG)
    pen, border = next(p for p in plans if p.pen_mark), next(p for p in plans if p.black_border)
    white = np.full((1300, 1500, 3), 240, np.uint8)
    inked = draw_marks(np.random.default_rng(0), pen, 1500, 1300).put_on(white, 0, 0)
    changed = (inked != 240).any(axis=2)
    assert changed[:140].any()
    assert not changed[140:].any()
    framed = draw_marks(np.random.default_rng(0), border, 1500, 1300)
    assert (framed.put_on(white, 0, 0)[:, :19] == 0).all()
    assert (framed.put_on(white, 0, 0)[:-20, 20:] == 240).all()
    assert (framed.put_on(white[:100, :100], 1000, 1250)[30:40] == 0).all()
    assert (white == 240).all()

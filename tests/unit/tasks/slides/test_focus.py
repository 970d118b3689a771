from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from tasks.config import TissueConfig
from tasks.errors import InputError
from tasks.slides.focus import leave_out_blurred
from tasks.slides.reader import Overview, Rgb, open_slide
from tasks.slides.synthetic.cohort import CohortSummary
from tasks.slides.synthetic.pyramid import write_pyramid
from tasks.slides.tissue import tissue_mask

MAX_BLUR_UM = 1.2
Masks = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], Overview]


def masks(path: Path, mpp: float | None = None) -> Masks:
    """Tissue before and after the blurred squares are left out, and their frame."""
    with open_slide(path, mpp) as slide:
        overview = slide.read_overview(8.0)
        tissue = tissue_mask(overview.rgb, TissueConfig(), overview.um_per_px).mask
        return tissue, leave_out_blurred(slide, overview, tissue, MAX_BLUR_UM), overview


def pixels(path: Path) -> tuple[Rgb, float]:
    with open_slide(path) as slide:
        return slide.read_region(0, 0, 0, *slide.dimensions_px), slide.mpp


def blurred(rgb: Rgb, sigma_px: float) -> Rgb:
    """Out of focus, with the noise that a camera adds behind the lens."""
    smooth = cv2.GaussianBlur(rgb, (0, 0), sigma_px)
    return np.clip(smooth + np.random.default_rng(0).normal(0, 2, rgb.shape), 0, 255).astype(np.uint8)


def write(path: Path, rgb: Rgb, mpp: float) -> Path:
    height, width = rgb.shape[:2]
    write_pyramid(path, lambda x, y, w, h: rgb[y : y + h, x : x + w], width, height, mpp)
    return path


REAL = ["mini_camelyon/patient_004_node_4.tif", "slides/CMU-1-Small-Region.svs"]


@pytest.mark.parametrize("name", REAL)
def test_real_sharp_tissue_stays(real_data: Path, name: str) -> None:
    tissue, sharp, _ = masks(real_data / name)
    assert tissue.any()
    assert (sharp == tissue).all()


@pytest.mark.parametrize("name", REAL)
def test_the_half_of_a_real_slide_that_is_out_of_focus_is_left_out(real_data: Path, tmp_path: Path, name: str) -> None:
    rgb, mpp = pixels(real_data / name)
    half = rgb.shape[0] // 2
    rgb[half:] = blurred(rgb, 3 / mpp)[half:]
    tissue, sharp, overview = masks(write(tmp_path / "a.tif", rgb, mpp))
    rows = round(half / overview.downsample)
    margin = round(128 / overview.um_per_px)
    assert (sharp[: rows - margin] == tissue[: rows - margin]).all()
    below = slice(rows + margin, None)
    # What stays is the border of the tissue, where glass makes the focus unclear.
    assert sharp[below].sum() < 0.2 * tissue[below].sum()
    assert not (sharp & ~tissue & 1).any()


def test_synthetic_slides_are_sharp_and_lose_all_when_blurred(small_cohort: CohortSummary, tmp_path: Path) -> None:
    path = small_cohort.folder / "images" / f"{small_cohort.slides[0].name}.tif"
    tissue, sharp, _ = masks(path)
    assert (sharp == tissue).all()
    rgb, mpp = pixels(path)
    tissue, sharp, _ = masks(write(tmp_path / "a.tif", blurred(rgb, 3 / mpp), mpp))
    assert sharp.sum() < 0.15 * tissue.sum()


def test_tissue_without_contrast_counts_as_sharp(tmp_path: Path) -> None:
    rgb = np.full((2048, 2048, 3), (190, 120, 175), np.uint8)
    rgb[:256] = 243
    tissue, sharp, _ = masks(write(tmp_path / "a.tif", rgb, 0.5))
    assert tissue.any()
    assert (sharp == tissue).all()


def test_squares_that_cannot_be_read_stay_and_their_neighbours_are_judged(
    small_cohort: CohortSummary, tmp_path: Path
) -> None:
    rgb, mpp = pixels(small_cohort.folder / "images" / f"{small_cohort.slides[0].name}.tif")
    path = write(tmp_path / "a.tif", blurred(rgb, 3 / mpp), mpp)
    tissue, whole, overview = masks(path)
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[1].dataoffsets[0], file.pages[1].databytecounts[0]
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\0" * count)
    with open_slide(path) as slide:
        assert slide.mpp * slide.level_downsamples[1] == pytest.approx(1.0), "the level that focus is judged on"
        broken = leave_out_blurred(slide, overview, tissue, MAX_BLUR_UM)
    # The tile has 512 µm, that is 64 pixels of the mask and four squares a side.
    assert (broken[:64, :64] == tissue[:64, :64]).all()
    assert (broken[64:] == whole[64:]).all()
    assert (broken[:64, 64:] == whole[:64, 64:]).all()
    assert broken.sum() > whole.sum()


def test_a_slide_that_is_too_coarse_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.full((600, 600, 3), 200, np.uint8), 2.0)
    with pytest.raises(InputError, match="too coarse for its focus") as caught:
        masks(path)
    assert "max_blur_um" in str(caught.value.remedy)

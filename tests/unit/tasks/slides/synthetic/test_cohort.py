from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tasks.cohort_config import CohortConfig
from tasks.config import TissueConfig
from tasks.errors import InputError
from tasks.slides.annotation_files import read_annotations
from tasks.slides.annotations import tumour_mask
from tasks.slides.camelyon import patient_stage, read_stages
from tasks.slides.cohort import find_slides
from tasks.slides.reader import open_slide
from tasks.slides.synthetic.cohort import CohortSummary, make_cohort
from tasks.slides.synthetic.config import SynthConfig
from tasks.slides.tissue import box_fraction, tissue_mask
from tests.services.cohort import small_cohort

CONFIG = SynthConfig(slides=6, centres=3, nodes_per_patient=2, width_px=1200, height_px=1100, mpp=0.5, seed=7)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> CohortSummary:
    return make_cohort(tmp_path_factory.mktemp("cohort"), CONFIG)


def test_the_cohort_is_found_as_a_real_one_would_be(cohort: CohortSummary) -> None:
    records = {record.name: record for record in find_slides(CohortConfig(slides=cohort.folder))}
    assert set(records) == {slide.name for slide in cohort.slides}
    for slide in cohort.slides:
        record = records[slide.name]
        assert record.patient == slide.patient
        assert record.centre == slide.centre
        assert record.stage == slide.stage
        assert record.truth == ("negative" if slide.stage == "negative" else "tumour")
    assert {slide.centre for slide in cohort.slides} == {0, 1, 2}


def test_the_stage_table_follows_the_rule(cohort: CohortSummary) -> None:
    table = read_stages(cohort.folder / "stages.csv")
    for patient, stage in table.patients.items():
        assert patient_stage(own for name, own in table.slides.items() if name.startswith(patient)) == stage
    assert table.patients == cohort.patients


def test_truth_is_recorded(cohort: CohortSummary) -> None:
    truth = json.loads((cohort.folder / "truth.json").read_text())
    assert truth["size_scale"] == pytest.approx(1100 * 0.5 / 5000)
    for slide in truth["slides"]:
        sizes = [lesion["major_axis_um"] for lesion in slide["lesions"]]
        assert (slide["stage"] == "macro") == any(size > truth["macro_above_um"] for size in sizes)
        assert (slide["stage"] == "negative") == (not sizes)
    assert truth["nuclei"]["tumour"]["radius_um"] > 1.5 * truth["nuclei"]["lymphocyte"]["radius_um"]
    assert str(cohort.folder) not in json.dumps(truth)


def test_annotated_area_is_the_true_area_and_lies_in_tissue(cohort: CohortSummary) -> None:
    for slide in cohort.slides:
        if not slide.lesions:
            continue
        outlines = read_annotations(cohort.folder / "annotations" / f"{slide.name}.xml")
        mask = tumour_mask(outlines, (550, 600), 2, 2)
        assert mask.sum() == pytest.approx(sum(lesion.area_um2 for lesion in slide.lesions), rel=0.02, abs=8)
        with open_slide(cohort.folder / "images" / f"{slide.name}.tif") as reader:
            overview = reader.read_overview(4.0)
        tissue = tissue_mask(overview.rgb, TissueConfig(), overview.um_per_px)
        assert 0.15 < tissue.fraction < 0.8
        coarse = tumour_mask(outlines, (tissue.mask.shape[0], tissue.mask.shape[1]), 8, 8)
        assert (tissue.mask[coarse > 0]).mean() > 0.85


def test_group_names_of_all_conventions_occur(cohort: CohortSummary) -> None:
    text = "".join(path.read_text() for path in sorted((cohort.folder / "annotations").iterdir()))
    assert sum(f'PartOfGroup="{name}"' in text for name in ("Tumor", "_0", "metastases")) >= 2


def test_files_depend_neither_on_the_number_of_processes_nor_on_the_run(tmp_path: Path, cohort: CohortSummary) -> None:
    again = make_cohort(tmp_path / "again", CONFIG, workers=2)
    assert digests(again.folder) == digests(cohort.folder)
    assert again.slides == cohort.slides


def test_another_seed_gives_other_slides(tmp_path: Path) -> None:
    one = small_cohort(tmp_path / "one", slides=2, side_px=512, seed=0)
    two = small_cohort(tmp_path / "two", slides=2, side_px=512, seed=1)
    assert not set(digests(one.folder / "images").values()) & set(digests(two.folder / "images").values())


def test_a_folder_with_other_slides_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "patient_099_node_4.tif").write_bytes(b"somebody's slide")
    with pytest.raises(InputError, match="already holds other slides"):
        make_cohort(tmp_path, CONFIG)
    assert digests(tmp_path).keys() == {"images/patient_099_node_4.tif"}


def test_colour_alone_does_not_tell_tumour(tmp_path: Path) -> None:
    """The mean colour of the classes differs less than it varies within one class."""
    made = small_cohort(tmp_path, slides=8, side_px=1024)
    tumour, normal = [], []
    for record in find_slides(CohortConfig(slides=made.folder)):
        with open_slide(record.path) as reader:
            overview = reader.read_overview(4.0)
        tissue = tissue_mask(overview.rgb, TissueConfig(), 4.0).mask
        mask = np.zeros_like(tissue)
        if record.annotation:
            mask = tumour_mask(read_annotations(record.annotation), (tissue.shape[0], tissue.shape[1]), 8, 8)
        smooth = cv2.blur(overview.rgb, (6, 6))
        inner = cv2.erode(tissue, np.ones((9, 9), np.uint8)) > 0
        tumour.append(smooth[inner & (mask > 0)])
        normal.append(smooth[inner & (mask == 0)])
    one, other = np.vstack(tumour).astype(float), np.vstack(normal).astype(float)
    assert len(one) > 500
    gap = np.abs(one.mean(axis=0) - other.mean(axis=0))
    assert (gap < other.std(axis=0)).all()


def read_cells(folder: Path, side: int) -> dict[str, set[bytes]]:
    """Digest of each cell of each slide, whatever way it was turned; JPEG is undone by coarse rounding."""
    cells = {}
    for path in sorted((folder / "images").glob("*.tif")):
        with open_slide(path) as slide:
            width, height = slide.dimensions_px
            rgb = slide.read_region(0, 0, 0, width, height)
        blocks = [
            rgb[y : y + side, x : x + side]
            for y in range(0, height - side + 1, side)
            for x in range(0, width - side + 1, side)
        ]
        cells[path.stem] = {_turned(block) for block in blocks if block.std() > 12}
    return cells


def _turned(block: np.ndarray) -> bytes:
    # Means of blocks far apart in value survive JPEG; sorted, they do not depend on the turn.
    return bytes(sorted(np.round(block.mean(axis=(0, 1)) / 4).astype(np.uint8)))


def colour_patches(folder: Path) -> Path:
    """Labelled patches in the folder layout, each of its own flat-ish colour with a pattern."""
    rng = np.random.default_rng(0)
    for label, base in (("normal", 90), ("tumor", 170)):
        (folder / label).mkdir(parents=True)
        for index in range(40):
            colour = np.array([base + 40 * (index % 2), 60 + 4 * index, 40 + 4 * ((index * 7) % 40)])
            patch = np.clip(colour + rng.normal(0, 20, (32, 32, 1)), 0, 230).astype(np.uint8)
            cv2.imwrite(str(folder / label / f"{index:03}.png"), patch)
    return folder


def test_mosaics_take_each_patch_for_one_patient_only(tmp_path: Path) -> None:
    config = SynthConfig(
        slides=6, centres=2, nodes_per_patient=2, width_px=640, height_px=640, mpp=1.0,
        pixels=colour_patches(tmp_path / "patches"), seed=2,
    )  # fmt: skip
    made = make_cohort(tmp_path / "cohort", config)
    seen = read_cells(made.folder, 32)
    patients: dict[str, set[bytes]] = {}
    for slide in made.slides:
        patients.setdefault(slide.patient, set()).update(seen[slide.name])
    names = sorted(patients)
    assert len(names) == 3
    assert min(len(own) for own in patients.values()) > 5
    for first in names:
        for second in names:
            shared = patients[first] & patients[second]
            assert first == second or len(shared) <= 0.2 * min(len(patients[first]), len(patients[second]))


def test_the_cells_of_real_mosaics_are_wholly_tumour_or_wholly_normal(tmp_path: Path, real_data: Path) -> None:
    config = SynthConfig(
        slides=3, centres=1, nodes_per_patient=1, width_px=1536, height_px=1536, mpp=0.97, negative_fraction=0.0,
        pixels=real_data / "patches", seed=1,
    )  # fmt: skip
    made = make_cohort(tmp_path, config)
    for slide in made.slides:
        mask = tumour_mask(read_annotations(tmp_path / "annotations" / f"{slide.name}.xml"), (1536, 1536), 1, 1)
        corners = np.arange(16) * 96.0
        x, y = np.meshgrid(corners, corners)
        fraction = box_fraction(mask, x, y, 96, 96)
        assert set(np.unique(fraction)) == {0.0, 1.0}
        assert read_stages(tmp_path / "stages.csv").slides[slide.name] == slide.stage != "negative"


@pytest.mark.parametrize("content", ["nothing", "one class", "odd sizes", "labels missing"])
def test_patches_that_cannot_be_used_are_named(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "patches"
    if content == "one class":
        (colour_patches(folder) / "tumor").rename(folder / "else")
    elif content == "odd sizes":
        cv2.imwrite(str(colour_patches(folder) / "normal" / "x.png"), np.zeros((10, 12, 3), np.uint8))
    elif content == "labels missing":
        folder.mkdir()
        (folder / "a_x.h5").write_bytes(b"no hdf5")
    else:
        folder.mkdir()
    with pytest.raises(InputError, match="patches"):
        make_cohort(tmp_path / "cohort", SynthConfig(slides=2, width_px=512, height_px=512, pixels=folder))
    assert not (tmp_path / "cohort" / "truth.json").exists()


def test_too_few_patches_for_the_patients_are_an_error(tmp_path: Path) -> None:
    folder = colour_patches(tmp_path / "patches")
    for path in sorted((folder / "tumor").iterdir())[2:]:
        path.unlink()
    with pytest.raises(InputError, match="too few for"):
        make_cohort(tmp_path / "cohort", SynthConfig(width_px=512, height_px=512, pixels=folder))

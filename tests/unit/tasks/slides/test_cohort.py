from __future__ import annotations

from pathlib import Path

import pytest

from tasks.config import CohortConfig
from tasks.errors import InputError
from tasks.slides.cohort import SlideRecord, find_slides


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def cohort(root: Path, **settings: Path) -> dict[str, SlideRecord]:
    return {record.name: record for record in find_slides(CohortConfig(slides=root, **settings))}


def test_an_annotation_belongs_to_the_slide_of_its_name_only(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "centre_0/patient_004_node_3.tif",
        "centre_0/patient_004_node_4.tif",
        "lesion_annotations/patient_004_node_4.xml",
        "lesion_annotations/patient_009_node_1.xml",
    )
    found = cohort(tmp_path)
    assert found["patient_004_node_3"].annotation is None
    assert found["patient_004_node_4"].annotation == tmp_path / "lesion_annotations/patient_004_node_4.xml"
    assert [found[name].truth for name in sorted(found)] == ["unknown", "tumour"]


@pytest.mark.parametrize(
    "place",
    ["images/Tumor_001.XML", "images/annotations/tumor_001.xml", "annotations/tumor_001.xml",
     "lesion_annotations/sub/tumor_001.xml"],
)  # fmt: skip
def test_annotations_are_found_beside_and_above(tmp_path: Path, place: str) -> None:
    touch(tmp_path, "images/tumor_001.tif", place)
    assert cohort(tmp_path / "images")["tumor_001"].annotation == tmp_path / place


def test_annotations_outside_the_cohort_are_not_searched(tmp_path: Path) -> None:
    touch(tmp_path, "home/study/images/tumor_001.tif", "annotations/tumor_001.xml")
    assert cohort(tmp_path / "home/study")["tumor_001"].annotation is None


def test_a_named_annotation_folder_comes_first(tmp_path: Path) -> None:
    touch(tmp_path, "images/tumor_001.tif", "images/tumor_001.xml", "mine/tumor_001.xml")
    found = cohort(tmp_path / "images", annotations=tmp_path / "mine")
    assert found["tumor_001"].annotation == tmp_path / "mine/tumor_001.xml"


def test_two_annotations_in_one_place_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "tumor_001.tif", "tumor_001.xml", "Tumor_001.xml")
    with pytest.raises(InputError, match="has two annotations"):
        cohort(tmp_path)


def test_masks_hidden_files_and_annotation_images_are_no_slides(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "normal_001.tif",
        "tumor_001_mask.tif",
        "masks/tumor_002.tif",
        "Ground_Truth/tumor_003.tif",
        "lesion_annotations/tumor_004.tif",
        ".trash/normal_009.tif",
        "._normal_010.tif",
        "notes.txt",
    )
    assert list(cohort(tmp_path)) == ["normal_001"]


def test_what_is_known_of_each_slide(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "normal_001.tif",
        "tumor_010.tif",
        "tumor_010.xml",
        "tumor_011.tif",
        "tumor_011.xml",
        "patient_010_node_0.tif",
        "patient_010_node_1.tif",
        "patient_010_node_1.xml",
        "patient_030_node_2.tif",
        "center_3/any name.svs",
    )
    (tmp_path / "stages.csv").write_text(
        "patient,stage\npatient_010_node_0.tif,negative\npatient_010_node_1.tif,itc\npatient_030_node_2.tif,macro\n"
    )
    found = cohort(tmp_path)
    known = {name: (record.truth, record.exhaustive, record.centre, record.patient) for name, record in found.items()}
    assert known == {
        "normal_001": ("negative", True, None, "normal_001"),
        "tumor_010": ("tumour", False, None, "tumor_010"),
        "tumor_011": ("tumour", True, None, "tumor_011"),
        "patient_010_node_0": ("negative", True, 0, "patient_010"),
        "patient_010_node_1": ("tumour", False, 0, "patient_010"),
        "patient_030_node_2": ("unknown", False, 1, "patient_030"),
        "any name": ("unknown", False, 3, "any name"),
    }
    assert found["patient_010_node_1"].stage == "itc"
    assert found["patient_030_node_2"].node == 2


def test_a_negative_slide_with_an_annotation_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "normal_001.tif", "normal_001.xml")
    with pytest.raises(InputError, match="is known as negative but has the annotation"):
        cohort(tmp_path)


def test_two_slides_of_one_name_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/tumor_001.tif", "b/Tumor_001.svs")
    with pytest.raises(InputError, match="has the same name as"):
        cohort(tmp_path)


@pytest.mark.parametrize("make", [True, False])
def test_no_slides_is_an_error_with_a_remedy(tmp_path: Path, make: bool) -> None:
    folder = tmp_path / "slides"
    if make:
        touch(folder, "readme.txt")
    with pytest.raises(InputError) as caught:
        cohort(folder)
    assert "camnet synth" in str(caught.value.remedy)


def test_one_file_is_a_cohort(tmp_path: Path) -> None:
    touch(tmp_path, "a.tif", "b.tif", "a.xml")
    found = cohort(tmp_path / "a.tif")
    assert list(found) == ["a"]
    assert found["a"].truth == "tumour"


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "disk/a.tif")
    study = tmp_path / "study"
    study.mkdir()
    (study / "images").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "loop").symlink_to(study)
    assert list(cohort(study)) == ["a"]


def test_real_cohorts(real_data: Path) -> None:
    mini = cohort(real_data / "mini_camelyon")["patient_004_node_4"]
    assert (mini.truth, mini.centre, mini.node, mini.exhaustive) == ("tumour", 0, 4, True)
    # boxes_0.dcm and boxes_1.dcm are two levels of one slide
    assert set(cohort(real_data / "slides")) == {
        "CMU-1-Small-Region", "boxes", "boxes_0", "small", "unopenable", "unreadable",
    }  # fmt: skip

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.cohort_config import CohortConfig
from tasks.errors import InputError
from tasks.slides.cohort import SlideRecord, find_slides


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def cohort(root: Path, **settings: Any) -> dict[str, SlideRecord]:  # noqa: ANN401  # fields of the configuration
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


names = st.sampled_from(
    [f"patient_{patient:03}_node_{node}" for patient in (4, 40) for node in (0, 1)]
    + ["tumor_001", "tumor_011", "test_001", "a", "a b", "b"]
)
places = st.sampled_from(["{}", "lesion_annotations/{}", "annotations/sub/{}", "masks/{}", "images/{}"])
endings = st.sampled_from([".xml", ".geojson", ".json", ".tif.geojson", "_mask.tif", "_Mask.tiff", ".XML"])


@given(st.sets(names, min_size=1, max_size=4), st.sets(st.tuples(names, places, endings), max_size=6))
def test_no_slide_ever_has_the_annotation_of_another(slides: set[str], annotations: set[tuple[str, str, str]]) -> None:
    """The tool that this one follows gave each slide the last XML of its centre."""
    with TemporaryDirectory() as folder:
        root = touch(Path(folder), *(f"images/{name}.tif" for name in slides))
        for name, place, ending in annotations:
            touch(root, place.format(name.upper() + ending))
        try:
            found = cohort(root)
        except InputError:  # two in one place
            return
        assert set(found) == slides
        for name, record in found.items():
            if record.annotation is not None:
                stem = record.annotation.stem.lower().removesuffix(".tif")
                assert stem in (name, f"{name}_mask")
                assert (record.annotation.suffix == ".tif") <= ("mask" in str(record.annotation).lower())


@pytest.mark.parametrize(
    ("slides", "annotations"),
    [
        # CAMELYON16: the challenge, GigaScience, AWS
        (
            ["TrainingData/Train_Tumor/Tumor_001.tif", "TrainingData/Train_Normal/Normal_001.tif"],
            ["TrainingData/Ground_Truth/XML/tumor_001.xml", "TrainingData/Ground_Truth/Mask/Tumor_001_Mask.tif"],
        ),
        (["Testset/Images/Test_001.tif"], ["Testset/Ground_Truth/Masks/Test_001_Mask.tif"]),
        (
            ["training/tumor/tumor_001.tif", "training/normal/normal_001.tif"],
            ["training/lesion_annotations/tumor_001.xml"],
        ),
        (["testing/images/test_001.tif"], ["testing/lesion_annotations/Test_001.xml"]),
        (
            ["CAMELYON16/images/tumor_001.tif", "CAMELYON16/images/normal_001.tif"],
            [
                "CAMELYON16/annotations/tumor_001.xml",
                "CAMELYON16/masks/tumor_001_mask.tif",
                "CAMELYON16/masks/normal_001_mask.tif",
                "CAMELYON16/background_tissue/tumor_001_tissue.tif",
            ],
        ),
        # CAMELYON17: by centre and patient, and flat
        (["training/centre_0/patient_004_node_4.tif"], ["training/lesion_annotations/patient_004_node_4.xml"]),
        (
            ["training/center_1/patient_024/patient_024_node_4.tif"],
            ["training/lesion_annotations/patient_024_node_4.xml"],
        ),
        (["Center_0/Patient_004_Node_4.tif"], ["LESION_ANNOTATIONS/patient_004_node_4.xml"]),
        (["images/patient_004_node_4.tif"], ["masks/patient_004_node_4_mask.tif"]),
        (["images/patient_004_node_4.tif"], ["lesion_masks/patient_004_node_4_mask.tif"]),
        # Flat folders
        (["a.svs", "b.svs"], ["a.geojson"]),
        (["a.svs", "b.svs"], ["a.svs.geojson"]),
        (["a.tif", "b.tif"], ["a_mask.tif"]),
    ],
)
def test_every_layout(tmp_path: Path, slides: list[str], annotations: list[str]) -> None:
    root = touch(tmp_path, *slides, *annotations)
    found = cohort(root, tumour_values=[1])
    assert {record.path for record in found.values()} == {root / slide for slide in slides}
    first, *others = (found[Path(slide).stem] for slide in slides)
    assert first.annotation == root / annotations[0]
    assert first.truth == "tumour"
    assert first.tumour_values == ((1,) if annotations[0].lower().endswith("mask.tif") else None)
    assert [(other.annotation, other.truth == "tumour") for other in others] == [(None, False)] * len(others)


def test_outlines_come_before_masks_wherever_they_are(tmp_path: Path) -> None:
    touch(tmp_path, "images/tumor_001.tif", "images/tumor_001_mask.tif", "annotations/tumor_001.geojson")
    assert cohort(tmp_path)["tumor_001"].annotation == tmp_path / "annotations/tumor_001.geojson"


def test_a_mask_without_the_word_is_one_in_a_folder_of_masks_only(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.tif", "masks/a.tiff", "images/b.tif", "images/c/b.tiff")
    with pytest.raises(InputError, match="has the same name as"):
        cohort(tmp_path)
    (tmp_path / "images/c/b.tiff").unlink()
    found = cohort(tmp_path)
    assert (found["a"].annotation, found["b"].annotation) == (tmp_path / "masks/a.tiff", None)


def test_a_slide_is_not_its_own_mask(tmp_path: Path) -> None:
    touch(tmp_path, "a.tif", "b.tif", "b.xml")
    found = cohort(tmp_path, annotations=tmp_path)
    assert (found["a"].annotation, found["b"].annotation) == (None, tmp_path / "b.xml")


def test_json_beside_a_slide_is_something_else(tmp_path: Path) -> None:
    touch(tmp_path, "a.tif", "a.json", "b.tif", "annotations/b.json")
    found = cohort(tmp_path)
    assert (found["a"].annotation, found["b"].annotation) == (None, tmp_path / "annotations/b.json")


def test_masks_of_tissue_are_no_annotations(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.tif", "Ground_Truth/tissue/a_mask.tif", "masks/background_tissue/a.tif")
    assert cohort(tmp_path)["a"].annotation is None


def test_two_outlines_of_one_slide_in_one_place_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.tif", "annotations/a.xml", "annotations/a.geojson")
    with pytest.raises(InputError, match="has two annotations"):
        cohort(tmp_path)


def test_a_negative_slide_may_have_a_mask_but_it_is_not_taken(tmp_path: Path) -> None:
    touch(tmp_path, "images/normal_001.tif", "masks/normal_001_mask.tif")
    record = cohort(tmp_path)["normal_001"]
    assert (record.annotation, record.truth, record.label) == (None, "negative", "negative")


def test_archives_are_named_when_there_is_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "center_0/patient_000.zip")
    with pytest.raises(InputError) as caught:
        cohort(tmp_path)
    assert "unpack its archives" in str(caught.value.remedy)
    touch(tmp_path, "center_0/patient_001_node_0.tif")
    assert list(cohort(tmp_path)) == ["patient_001_node_0"]
    assert "1 archives are not unpacked" in caplog.text


def test_patients_and_centres_can_be_chosen(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "patient_004_node_0.tif", "patient_004_node_1.tif", "patient_010_node_0.tif", "patient_030_node_2.tif",
        "centre_7/other.tif", "loose.tif",
    )  # fmt: skip
    assert set(cohort(tmp_path, patients=["Patient_004"])) == {"patient_004_node_0", "patient_004_node_1"}
    assert set(cohort(tmp_path, centres=[1, 7])) == {"patient_030_node_2", "other"}
    assert set(cohort(tmp_path, centres=[0], patients=["patient_010", "patient_030"])) == {"patient_010_node_0"}
    assert len(cohort(tmp_path)) == 6


def test_a_name_that_matches_nothing_is_an_error_with_the_nearest_one(tmp_path: Path) -> None:
    touch(tmp_path, "patient_004_node_0.tif", "patient_010_node_0.tif", "patient_030_node_2.tif")
    with pytest.raises(InputError, match="has no patient 'patient_4'") as caught:
        cohort(tmp_path, patients=["patient_010", "patient_4"])
    assert "'patient_004'" in str(caught.value.remedy)
    with pytest.raises(InputError, match="has no slide of centre 4") as caught:
        cohort(tmp_path, centres=[0, 4])
    assert "the nearest is 1" in str(caught.value.remedy)
    alone = touch(tmp_path / "alone", "a.tif")
    with pytest.raises(InputError, match="has no slide of centre 0") as caught:
        cohort(alone, centres=[0])
    assert "leave cohort.centres out" in str(caught.value.remedy)


def test_what_is_not_chosen_can_do_no_harm(tmp_path: Path) -> None:
    touch(tmp_path, "normal_001.tif", "normal_001.xml", "normal_002.tif")
    assert list(cohort(tmp_path, patients=["normal_002"])) == ["normal_002"]


def test_slides_of_a_choice_that_excludes_all_are_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "patient_004_node_0.tif", "patient_030_node_2.tif")
    with pytest.raises(InputError, match="has no slide of these patients in these centres"):
        cohort(tmp_path, patients=["patient_004"], centres=[1])


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

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from tasks.errors import InputError
from tasks.slides.camelyon import (
    INCOMPLETELY_ANNOTATED,
    PatientStage,
    SlideName,
    Stage,
    parse_name,
    patient_stage,
    read_stages,
)


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("patient_004_node_4", SlideName("patient_004", 4, 0)),
        ("PATIENT_099_NODE_0", SlideName("patient_099", 0, 4)),
        ("patient_020_node_1", SlideName("patient_020", 1, 1)),
        ("patient_120_node_1", SlideName("patient_120", 1, None)),
        ("normal_001", SlideName("normal_001", kind="normal")),
        ("Tumor_110", SlideName("tumor_110", kind="tumor")),
        ("test_114", SlideName("test_114", kind="test")),
        ("tumor_1", SlideName("tumor_1")),
        ("My Slide 7", SlideName("My Slide 7")),
    ],
)
def test_names(stem: str, name: SlideName) -> None:
    assert parse_name(stem) == name


def test_twenty_training_slides_are_incompletely_annotated() -> None:
    assert len(INCOMPLETELY_ANNOTATED) == 21
    assert {"tumor_010", "tumor_110", "test_114"} <= INCOMPLETELY_ANNOTATED
    assert "tumor_001" not in INCOMPLETELY_ANNOTATED


@pytest.mark.parametrize(
    ("nodes", "stage"),
    [
        ([], "pN0"),
        (["negative"] * 5, "pN0"),
        (["itc", "negative"], "pN0(i+)"),
        (["micro", "itc"], "pN1mi"),
        (["micro"] * 5, "pN1mi"),
        (["macro", "micro", "micro", "itc"], "pN1"),
        (["macro", "micro", "micro", "micro"], "pN2"),
        (["macro"] * 4, "pN2"),
    ],
)
def test_patient_stage(nodes: list[Stage], stage: PatientStage) -> None:
    assert patient_stage(nodes) == stage


def test_the_rule_gives_the_stage_of_all_hundred_patients(real_data: Path) -> None:
    table = read_stages(real_data / "camelyon" / "labels" / "stage_labels.csv")
    assert (len(table.patients), len(table.slides)) == (100, 500)
    nodes: dict[str, list[Stage]] = defaultdict(list)
    for slide, stage in table.slides.items():
        nodes[parse_name(slide).patient].append(stage)
    assert {patient: patient_stage(stages) for patient, stages in nodes.items()} == table.patients


def write(folder: Path, text: str) -> Path:
    path = folder / "stages.csv"
    path.write_text(text)
    return path


def test_case_and_spaces_do_not_matter(tmp_path: Path) -> None:
    table = read_stages(write(tmp_path, "patient,stage\nPatient_001.zip,pn1MI\nPatient_001_Node_0.tif, Micro\n\n"))
    assert table.patients == {"patient_001": "pN1mi"}
    assert table.slides == {"patient_001_node_0": "micro"}


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "is no stage table"),
        ("name,label\n", "is no stage table"),
        ("patient,stage\na.tif,huge\n", "line 2 has the unknown stage 'huge'"),
        ("patient,stage\na.zip,macro\n", "unknown stage 'macro'"),
        ("patient,stage\na.tif,micro,x\n", "line 2 has not two columns"),
        ("patient,stage\na.tif,micro\nA.TIF,macro\n", "line 3 names 'A.TIF' again"),
    ],
)
def test_wrong_tables_are_named(tmp_path: Path, text: str, cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        read_stages(write(tmp_path, text))


def test_a_table_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "stages.csv"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="cannot be read as a table"):
        read_stages(path)

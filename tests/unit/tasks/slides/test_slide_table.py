from __future__ import annotations

from pathlib import Path

import pytest

from tasks.cohort_config import CohortConfig
from tasks.errors import InputError
from tasks.slides.cohort import SlideRecord, find_slides
from tasks.slides.split import assign_splits


def write(folder: Path, *lines: str, header: str = "path,patient,split,label,annotation,mpp", name: str = "t") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / f"{name}.csv"
    table.write_text("\n".join([header, *lines]) + "\n")
    for slide in ("a.tif", "b.tif", "sub/c.svs", "sub/a.tif", "sub/c.xml", "tumor_010.tif", "patient_024_node_3.tif"):
        path = folder / slide
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return table


def records(table: Path) -> dict[str, SlideRecord]:
    return {record.name: record for record in find_slides(CohortConfig(slides=table))}


def refused(table: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        find_slides(CohortConfig(slides=table))
    assert caught.value.remedy
    return caught.value


def test_a_line_is_a_slide_with_what_the_cells_say(tmp_path: Path) -> None:
    table = write(
        tmp_path,
        "a.tif,P1,test,negative,,0.25,old",
        "sub/c.svs,P2,train,tumour,sub/c.xml,,new",
        f"{tmp_path}/b.tif,P3,,,,,",
        header="path,patient,split,label,annotation,mpp,scanner",
    )
    found = records(table)
    assert {name: (r.patient, r.split, r.label, r.truth, r.mpp) for name, r in found.items()} == {
        "a": ("P1", "test", "negative", "negative", 0.25),
        "b": ("P3", None, None, "unknown", None),
        "c": ("P2", "train", "tumour", "tumour", None),
    }
    assert found["c"].annotation == tmp_path / "sub/c.xml"
    assert found["a"].path == tmp_path / "a.tif"
    assert assign_splits(found.values(), 0.2, 0.25, 0)["a"] == "test"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_quotes_case_order_and_byte_order_mark_do_not_matter(tmp_path: Path, separator: str) -> None:
    table = write(tmp_path, name="x")
    lines = ["Patient ID,Center, PATH ,Node", '"P, 1;2",center_3,sub/c.svs,node 2', "", ",,,"]
    text = "\r\n".join(line.replace(",", separator) for line in lines).replace(f"P{separator}", "P,")
    table.write_bytes(b"\xef\xbb\xbf" + text.encode())
    (record,) = records(table).values()
    assert (record.patient, record.centre, record.node) == ("P, 1;2", 3, 2)


@pytest.mark.parametrize(
    ("label", "known"),
    [
        ("tumor", ("tumour", None)), ("Tumour", ("tumour", None)), ("positive", ("tumour", None)),
        ("1", ("tumour", None)), ("1.0", ("tumour", None)), ("macro", ("tumour", "macro")), ("ITC", ("tumour", "itc")),
        ("negative", ("negative", "negative")), ("normal", ("negative", "negative")), ("0", ("negative", "negative")),
        ("unknown", (None, None)), ("", (None, None)),
    ],
)  # fmt: skip
def test_labels(tmp_path: Path, label: str, known: tuple[str | None, str | None]) -> None:
    record = records(write(tmp_path, f"a.tif,{label}", header="slide,label"))["a"]
    assert (record.label, record.stage) == known
    assert record.truth == ("negative" if known[0] == "negative" else "unknown")


def test_names_say_what_the_table_does_not(tmp_path: Path) -> None:
    found = records(write(tmp_path, "patient_024_node_3.tif", "tumor_010.tif", header="slide"))
    node = found["patient_024_node_3"]
    assert (node.patient, node.node, node.centre) == ("patient_024", 3, 1)
    assert (found["tumor_010"].label, found["tumor_010"].patient) == ("tumour", "tumor_010")


def test_a_slide_may_have_a_name_of_its_own(tmp_path: Path) -> None:
    table = write(tmp_path, "one,a.tif", "two,sub/a.tif", header="slide,path")
    assert {name: (r.path, r.patient) for name, r in records(table).items()} == {
        "one": (tmp_path / "a.tif", "one"),
        "two": (tmp_path / "sub/a.tif", "two"),
    }


def test_an_incompletely_annotated_slide_stays_one_under_any_name(tmp_path: Path) -> None:
    (tmp_path / "x.xml").touch()
    for line, patient in (("first,tumor_010.tif,x.xml", "tumor_010"), ("Tumor_010,a.tif,x.xml", "Tumor_010")):
        (record,) = records(write(tmp_path, line, header="slide,path,annotation")).values()
        assert (record.truth, record.exhaustive, record.patient) == ("tumour", False, patient)


def test_annotations_are_looked_for_where_the_table_has_no_column_for_them(tmp_path: Path) -> None:
    beside = records(write(tmp_path, "sub/c.svs", "b.tif", header="slide"))
    assert (beside["c"].annotation, beside["b"].annotation) == (tmp_path / "sub/c.xml", None)
    stated = records(write(tmp_path, "sub/c.svs,", header="slide,annotation"))
    assert stated["c"].annotation is None


def test_slides_far_from_the_table_have_their_annotations_beside_and_one_above(tmp_path: Path) -> None:
    far = tmp_path / "disk/study/images/a.tif"
    for path in (far, far.parent.parent / "annotations/a.xml", tmp_path / "disk/annotations/b.xml", far.with_stem("b")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = records(write(tmp_path / "tables/mine", str(far), str(far.with_stem("b")), header="path"))
    assert found["a"].annotation == far.parent.parent / "annotations/a.xml"
    assert found["b"].annotation is None


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("none.tif,,,,,", "names the path {folder}/none.tif, which is no file"),
        ("x" * 300 + ",,,,,", "which is no file"),
        ("sub,,,,,", "names the path {folder}/sub, which is no file"),
        ("a.tif,,,,none.xml,", "names the annotation {folder}/none.xml, which is no file"),
        (",P1,,,,", "names no slide"),
        ("a.tif,,tset,,,", "has the unknown split 'tset'"),
        ("a.tif,,,cancer,,", "has the unknown label 'cancer'"),
        ("a.tif,,,,,0", "has the mpp '0'"),
        ("a.tif,,,,,nan", "has the mpp 'nan'"),
        ("a.tif,,,,,25", "has the mpp '25'"),
        ("a.tif,,,,,0.25um", "has the mpp '0.25um'"),
        ("a.tif,P, 1,,,,,", "has 8 cells, more than the 6 columns"),
        ("sub/c.svs,,,normal,sub/c.xml,", "is known as negative but has the annotation"),
        ("sub/a.tif,,,,,", "has the same name as {table}, line 2"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, line: str, cause: str) -> None:
    table = write(tmp_path, "a.tif,P0,,,,", "b.tif,P0,,,,", "", line)
    error = refused(table)
    assert error.subject == f"{table}, line 5"
    assert cause.format(folder=tmp_path, table=table) in error.cause


@pytest.mark.parametrize(("cell", "what"), [("-1", "node"), ("x", "node"), ("1.5", "centre"), ("RUMC", "centre")])
def test_nodes_and_centres_are_numbers(tmp_path: Path, cell: str, what: str) -> None:
    error = refused(write(tmp_path, f"a.tif,{cell}", header=f"slide,{what}"))
    assert f"has the {what} {cell!r}" in error.cause


@pytest.mark.parametrize("name", ["../x", "x/y", "x\\y", ".x", "..", "x" * 201, "µ" * 101, "a\x07b"])
def test_a_name_that_no_file_should_have_is_refused(tmp_path: Path, name: str) -> None:
    assert "has the slide" in refused(write(tmp_path, f"{name},a.tif", header="slide,path")).cause


def test_a_patient_in_two_splits_is_refused(tmp_path: Path) -> None:
    table = write(tmp_path, "a.tif,P1,train,,,", "b.tif,P2,test,,,", "sub/c.svs,P1,test,,,")
    error = refused(table)
    assert error.subject == f"{table}, line 4"
    assert error.cause == f"puts patient 'P1' into 'test', but {table}, line 2 into 'train'"


def test_a_patient_in_two_spellings_is_refused(tmp_path: Path) -> None:
    error = refused(write(tmp_path, "a.tif,P1,,,,", "b.tif,p1,,,,"))
    assert "names the patient 'p1', but" in error.cause
    assert "writes 'P1'" in error.cause


def test_a_patient_whose_split_is_given_once_has_it_as_a_whole(tmp_path: Path) -> None:
    table = write(tmp_path, "a.tif,P1,,,,", "b.tif,P1,validation,,,", "sub/c.svs,P1,,,,")
    assert set(assign_splits(records(table).values(), 0.2, 0.25, 0).values()) == {"validation"}


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "has no column 'path' or 'slide', only nothing"),
        ("a.tif,b.tif\n", "has no column 'path' or 'slide', only 'a.tif', 'b.tif'"),
        ("path,center,centre\na.tif,1,1\n", "has two columns for centre"),
        ("path,file\na.tif,a.tif\n", "has two columns for path"),
        ("path\n", "names no slides"),
        ("path\n" + "x" * 200_000 + "\n", "cannot be read as a table"),
    ],
)
def test_a_table_that_is_none(tmp_path: Path, text: str, cause: str) -> None:
    table = write(tmp_path)
    table.write_text(text)
    assert cause in refused(table).cause


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    table = write(tmp_path)
    table.write_bytes("path\na.tif\n".encode("utf-16"))
    assert "cannot be read as a table" in refused(table).cause


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "neither a folder, nor a slide, nor a table" in refused(tmp_path / "none.csv").cause


def test_patients_and_centres_of_a_table_can_be_chosen(tmp_path: Path) -> None:
    table = write(tmp_path, "a.tif,P1,1", "b.tif,P2,2", header="path,patient,centre")
    assert [r.name for r in find_slides(CohortConfig(slides=table, patients=("p2",)))] == ["b"]
    assert [r.name for r in find_slides(CohortConfig(slides=table, centres=(1,)))] == ["a"]


def test_a_stage_table_tells_what_the_table_of_slides_does_not(tmp_path: Path) -> None:
    table = write(tmp_path, "a.tif,", "b.tif,macro", header="path,label")
    stages = tmp_path / "stages.csv"
    stages.write_text("patient,stage\na.tif,micro\nb.tif,negative\n")
    found = {r.name: r for r in find_slides(CohortConfig(slides=table, stages=stages))}
    assert (found["a"].stage, found["b"].stage) == ("micro", "macro")
    assert records(table)["a"].stage is None, "a table beside it is not taken by itself"

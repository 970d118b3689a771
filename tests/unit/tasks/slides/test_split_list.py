from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tasks.errors import InputError
from tasks.slides.split_list import read_split_lists


def test_the_lists_of_the_original_tool_are_read(real_data: Path) -> None:
    folder = real_data / "camelyon" / "l2_demo"
    names = ("train", "val", "test", "test2", "data")
    found = read_split_lists(folder / f"demo_{name}_shuffle.csv" for name in names)
    assert Counter(one.split for one in found.values()) == {"train": 43, "validation": 1, "test": 2}
    assert found["patient_044_node_4"].split == "validation"
    # Tumour and normal patches of a slide of CAMELYON16 are two paths.
    assert found["tumor_044"].split == "train"
    assert found["patient_010_node_4"].where == f"{folder / 'demo_test_shuffle.csv'}, line 2"


def test_the_newer_layout_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("db, tumor/l5/c1/p024/n2/0, 3, Train\n\ndb,normal/l5/c1/p025/n0/17/patches,3,val\n")
    found = read_split_lists([path])
    assert {name: one.split for name, one in found.items()} == {
        "patient_024_node_2": "train",
        "patient_025_node_0": "validation",
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("db, tumor/level7/centre0/patient001/node0/patches, 1", "line 1: has 3 cells"),
        ("db, ../../etc/passwd, 1, train", "line 1: has the path '../../etc/passwd'"),
        ("db, tumor/level7/centre0/patient001/node0/patches, 1, holdout", "line 1: has the split 'holdout'"),
        ("path,patient,split,label", "line 1: has the path 'patient'"),
        ("", "name no slides"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(line)
    with pytest.raises(InputError, match=said) as caught:
        read_split_lists([path])
    assert caught.value.remedy


def test_a_slide_in_two_splits_is_named_with_both_lines(tmp_path: Path) -> None:
    first, second = tmp_path / "one.csv", tmp_path / "two.csv"
    first.write_text("db, tumor/level7/centre0/patient001/node0/patches, 1, train\n")
    second.write_text("db, normal/level7/centre0/patient001/node0/patches, 1, test\n")
    with pytest.raises(InputError, match=r"two.csv, line 1: puts slide patient_001_node_0 .*one.csv, line 1 into"):
        read_split_lists([first, second])


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read as a list"):
        read_split_lists([tmp_path / "none.csv"])

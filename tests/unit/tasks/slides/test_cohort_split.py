from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.cohort_config import CohortConfig
from tasks.config import Split
from tasks.errors import InputError
from tasks.slides.cohort import SlideRecord, Truth
from tasks.slides.cohort_split import split_cohort
from tasks.slides.split import assign_splits


def record(name: str, patient: str, truth: Truth = "tumour", centre: int | None = 0) -> SlideRecord:
    return SlideRecord(
        name=name, path=Path(f"{name}.tif"), patient=patient, centre=centre, truth=truth, exhaustive=truth != "unknown"
    )


def config(**settings: object) -> CohortConfig:
    return CohortConfig.model_validate({"slides": "slides", **settings})


@st.composite
def cohorts(draw: st.DrawFn) -> list[SlideRecord]:
    """Patients of one to three slides, each in one of four centres, at least one patient in each."""
    records = []
    for patient in range(draw(st.integers(8, 30))):
        centre = patient if patient < 4 else draw(st.integers(0, 3))
        for node in range(draw(st.integers(1, 3))):
            truth: Truth = draw(st.sampled_from(["tumour", "negative", "unknown"]))
            records.append(record(f"p{patient}_n{node}", f"p{patient}", truth, centre))
    return records


rules = st.sampled_from(
    [{"split": "patient"}, {"split": "centre", "test_centres": [2]}, {"split": "centre", "test_centres": [0, 3]}]
    + [{"split": "folds", "folds": 4, "fold": fold} for fold in range(4)]
)


@given(cohorts(), rules, st.integers(0, 5), st.randoms())
def test_every_slide_has_a_split_and_no_patient_two_whatever_the_rule(
    records: list[SlideRecord], rule: dict[str, Any], seed: int, random: Random
) -> None:
    splits = split_cohort(records, config(**rule), seed)
    assert set(splits) == {one.name for one in records}
    of_patient = defaultdict(set)
    for one in records:
        of_patient[one.patient].add(splits[one.name])
    assert all(len(found) == 1 for found in of_patient.values())
    shuffled = list(records)
    random.shuffle(shuffled)
    assert split_cohort(shuffled, config(**rule), seed) == splits


def test_the_fractions_are_the_default() -> None:
    records = [record(f"s{k}", f"s{k}") for k in range(20)]
    assert split_cohort(records, config(), 3) == assign_splits(records, 0.2, 0.25, 3)


@given(cohorts(), st.integers(0, 5))
def test_centres_for_testing_are_tested_as_a_whole_and_no_other(records: list[SlideRecord], seed: int) -> None:
    splits = split_cohort(records, config(split="centre", test_centres=[1, 2]), seed)
    for one in records:
        assert (splits[one.name] == "test") == (one.centre in (1, 2))
    assert {"train", "test"} <= set(splits.values())


@given(cohorts(), st.integers(2, 8), st.integers(0, 5))
def test_over_all_folds_each_patient_is_tested_once(records: list[SlideRecord], folds: int, seed: int) -> None:
    patient_of = {one.name: one.patient for one in records}
    tested: Counter[str] = Counter()
    sizes = []
    for fold in range(folds):
        splits = split_cohort(records, config(split="folds", folds=folds, fold=fold), seed)
        tests = {patient_of[name] for name, split in splits.items() if split == "test"}
        tested.update(tests)
        sizes.append(len(tests))
    assert set(tested.values()) == {1}
    assert set(tested) == set(patient_of.values())
    assert max(sizes) - min(sizes) <= 1


def test_folds_are_alike_in_truth_and_centres() -> None:
    records = [record(f"s{k}", f"s{k}", "tumour" if k % 2 else "negative", k // 2 % 5) for k in range(100)]
    for fold in range(5):
        splits = split_cohort(records, config(split="folds", folds=5, fold=fold), 1)
        tests = [one for one in records if splits[one.name] == "test"]
        assert Counter(one.truth for one in tests) == {"tumour": 10, "negative": 10}
        assert Counter(one.centre for one in tests) == dict.fromkeys(range(5), 4)
        # A fifth of the others.
        assert list(splits.values()).count("validation") == 16


def test_the_seed_chooses_the_folds() -> None:
    records = [record(f"s{k}", f"s{k}") for k in range(20)]
    rule = config(split="folds", folds=4, fold=0)
    assert len({tuple(split_cohort(records, rule, seed).items()) for seed in range(8)}) == 8


@pytest.mark.parametrize(
    ("rule", "records", "said"),
    [
        (
            {"split": "centre", "test_centres": [7]},
            [record("a", "a", centre=1), record("b", "b", centre=2)],
            "has no slide of centre 7",
        ),
        (
            {"split": "centre", "test_centres": [1]},
            [record("a", "a", centre=1), record("b", "b", centre=None)],
            "b.tif: is of a centre that is not known",
        ),
        (
            {"split": "centre", "test_centres": [1]},
            [record("a", "p", centre=1), record("b", "p", centre=2)],
            "patient p: has slides of the centres 1, 2, some of them for testing and some not",
        ),
        (
            {"split": "centre", "test_centres": [1, 2]},
            [record("a", "a", centre=1), record("b", "b", centre=2)],
            "leaves no patient for training",
        ),
        ({"split": "folds", "folds": 3, "fold": 0}, [record("a", "a"), record("b", "b")], "has 2 patients, too few"),
    ],
)
def test_a_rule_that_does_not_fit_the_cohort_is_refused(
    rule: dict[str, Any], records: list[SlideRecord], said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        split_cohort(records, config(**rule), 0)
    assert caught.value.remedy


def listed(folder: Path, *lines: str) -> CohortConfig:
    path = folder / "list.csv"
    path.write_text("\n".join(lines))
    return config(split="lists", split_lists=[path])


def test_lists_give_a_patient_its_split_and_leave_the_others_out(tmp_path: Path) -> None:
    names = ["patient_001_node_0", "patient_001_node_3", "patient_002_node_1", "patient_003_node_0", "Tumor_044"]
    records = [record(name, name.rpartition("_node")[0] or name) for name in names]
    records[2] = records[2].model_copy(update={"split": "train"})  # a table of slides says otherwise
    wanted = listed(
        tmp_path,
        "all500, tumor/level7/centre0/patient001/node3/patches, 7, train",
        "all500, tumor/level7/centre0/patient002/node1/patches, 9, validation",
        "cam16, normal/level7/centre0/patient044_Mask.tif/patches, 1, test",
    )
    expected: dict[str, Split] = {
        "patient_001_node_0": "train",
        "patient_001_node_3": "train",
        "patient_002_node_1": "validation",
        "Tumor_044": "test",
    }
    assert split_cohort(records, wanted, 0) == expected


def test_a_patient_of_two_splits_in_the_lists_is_refused_by_name(tmp_path: Path) -> None:
    records = [record(f"patient_001_node_{node}", "patient_001") for node in range(2)]
    wanted = listed(
        tmp_path,
        "all500, tumor/level7/centre0/patient001/node0/patches, 7, train",
        "all500, tumor/level7/centre0/patient001/node1/patches, 7, test",
    )
    with pytest.raises(InputError, match=r"list.csv, line 2: puts patient patient_001 into 'test', but .*, line 1"):
        split_cohort(records, wanted, 0)


def test_a_listed_slide_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    wanted = listed(tmp_path, "x, tumor/l5/c0/p001/n0/0, 7, train", "x, tumor/l5/c0/p002/n0/0, 7, train")
    with pytest.raises(InputError, match=r"line 1: names slide patient_001_node_0 \(and 1 more\), which the cohort"):
        split_cohort([record("a", "a")], wanted, 0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"split": "centre"}, "test_centres and split = 'centre' belong together"),
        ({"test_centres": [1]}, "test_centres and split = 'centre' belong together"),
        ({"split": "folds", "folds": 3}, "fold and split = 'folds' belong together"),
        ({"folds": 3, "fold": 1}, "folds and split = 'folds' belong together"),
        ({"split": "folds", "folds": 3, "fold": 3}, "fold must be from 0 to folds - 1 = 2"),
        ({"split": "lists"}, "split_lists and split = 'lists' belong together"),
    ],
)
def test_a_rule_and_what_it_needs_belong_together(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(**settings)

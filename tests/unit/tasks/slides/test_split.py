from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.config import Split
from tasks.errors import InputError
from tasks.slides.cohort import SlideRecord, Truth
from tasks.slides.split import assign_splits


def record(name: str, patient: str, truth: Truth, centre: int | None = None) -> SlideRecord:
    return SlideRecord(
        name=name, path=Path(f"{name}.tif"), patient=patient, centre=centre, truth=truth, exhaustive=truth != "unknown"
    )


@st.composite
def cohorts(draw: st.DrawFn) -> list[SlideRecord]:
    patients = draw(st.integers(1, 30))
    records = []
    for patient in range(patients):
        centre = draw(st.integers(0, 3))
        for node in range(draw(st.integers(1, 4))):
            truth: Truth = draw(st.sampled_from(["tumour", "negative", "unknown"]))
            records.append(record(f"p{patient}_n{node}", f"p{patient}", truth, centre))
    return records


fractions = st.sampled_from([(0.2, 0.25), (0.0, 0.3), (0.3, 0.0), (0.0, 0.0), (0.4, 0.5)])


def kind(records: list[SlideRecord]) -> str:
    truths = {one.truth for one in records}
    return "tumour" if "tumour" in truths else "negative" if truths == {"negative"} else "unknown"


def by_patient(records: list[SlideRecord]) -> dict[str, list[SlideRecord]]:
    patients = defaultdict(list)
    for one in records:
        patients[one.patient].append(one)
    return patients


@given(cohorts(), fractions, st.integers(0, 5), st.randoms())
def test_every_slide_has_a_split_and_no_patient_two(
    records: list[SlideRecord], fractions: tuple[float, float], seed: int, random: Random
) -> None:
    splits = assign_splits(records, *fractions, seed)
    assert set(splits) == {one.name for one in records}
    for own in by_patient(records).values():
        assert len({splits[one.name] for one in own}) == 1
    shuffled = list(records)
    random.shuffle(shuffled)
    assert assign_splits(shuffled, *fractions, seed) == splits


@given(cohorts(), fractions, st.integers(0, 5))
def test_every_wanted_split_has_each_kind_of_patient_where_there_are_three(
    records: list[SlideRecord], fractions: tuple[float, float], seed: int
) -> None:
    splits = assign_splits(records, *fractions, seed)
    patients = by_patient(records)
    wanted = {"train"} | ({"validation"} if fractions[0] else set()) | ({"test"} if fractions[1] else set())
    for name in ("tumour", "negative", "unknown"):
        alike = [own for own in patients.values() if kind(own) == name]
        given_splits = {splits[own[0].name] for own in alike}
        if len(alike) >= len(wanted):
            assert given_splits == wanted
        elif alike:
            assert "train" in given_splits


@given(st.integers(20, 200), st.integers(0, 3))
def test_fractions_are_met_in_each_class(patients: int, seed: int) -> None:
    records = [record(f"s{k}", f"s{k}", "tumour" if k % 3 else "negative", k % 5) for k in range(patients)]
    splits = list(assign_splits(records, 0.2, 0.25, seed).values())
    assert abs(splits.count("validation") - 0.2 * patients) <= 1.5
    assert abs(splits.count("test") - 0.25 * patients) <= 1.5


def test_centres_are_spread_over_the_splits() -> None:
    records = [record(f"s{k}", f"s{k}", "tumour", k // 20) for k in range(100)]
    for seed in range(5):
        splits = assign_splits(records, 0.2, 0.25, seed)
        for centre in range(5):
            own = [splits[one.name] for one in records if one.centre == centre]
            assert own.count("test") == 5
            assert 3 <= own.count("validation") <= 5


def test_the_seed_chooses() -> None:
    records = [record(f"s{k}", f"s{k}", "tumour", 0) for k in range(20)]
    assert len({tuple(assign_splits(records, 0.2, 0.25, seed).items()) for seed in range(8)}) > 4


def test_official_test_slides_are_test_slides() -> None:
    records = [record(f"test_{k:03}", f"test_{k:03}", "unknown") for k in range(1, 131)]
    records += [record(f"tumor_{k:03}", f"tumor_{k:03}", "tumour") for k in range(1, 112)]
    records += [record(f"normal_{k:03}", f"normal_{k:03}", "negative") for k in range(1, 161)]
    splits = assign_splits(records, 0.2, 0.25, 0)
    tests = {name for name, split in splits.items() if split == "test"}
    # 130 of 401 are more than a quarter: no training slide is taken away for testing.
    assert tests == {f"test_{k:03}" for k in range(1, 131)}
    assert 50 <= sum(split == "validation" for split in splits.values()) <= 58


def test_of_two_patients_one_is_for_training() -> None:
    records = [record("a", "a", "tumour"), record("b", "b", "tumour")]
    assert sorted(assign_splits(records, 0.2, 0.25, 0).values()) == ["test", "train"]
    assert sorted(assign_splits(records, 0.2, 0.0, 0).values()) == ["train", "validation"]
    assert list(assign_splits(records[:1], 0.2, 0.25, 0).values()) == ["train"]


@given(cohorts(), fractions, st.integers(0, 5), st.data())
def test_a_given_split_is_kept_for_the_whole_patient(
    records: list[SlideRecord], fractions: tuple[float, float], seed: int, data: st.DataObject
) -> None:
    patients = sorted(by_patient(records))
    split: st.SearchStrategy[Split | None] = st.sampled_from([None, "train", "validation", "test"])
    given_splits = {patient: data.draw(split) for patient in patients}
    first = {own[0].name for own in by_patient(records).values()}
    records = [
        one.model_copy(update={"split": given_splits[one.patient]}) if one.name in first else one for one in records
    ]
    splits = assign_splits(records, *fractions, seed)
    for one in records:
        wanted = given_splits[one.patient]
        assert wanted is None or splits[one.name] == wanted
    for own in by_patient(records).values():
        assert len({splits[one.name] for one in own}) == 1


def test_given_splits_count_toward_the_fractions() -> None:
    records = [record(f"s{k}", f"s{k}", "tumour") for k in range(100)]
    records = [
        one.model_copy(update={"split": "test" if k < 20 else "validation" if k < 30 else None})
        for k, one in enumerate(records)
    ]
    splits = list(assign_splits(records, 0.2, 0.25, 0).values())
    assert splits.count("test") == 25
    assert splits.count("validation") == 16  # a fifth of those that are not for testing
    full = [one.model_copy(update={"split": "test" if k < 40 else None}) for k, one in enumerate(records)]
    assert list(assign_splits(full, 0.2, 0.25, 0).values()).count("test") == 40


def test_a_given_split_comes_before_the_official_one() -> None:
    one = record("test_001", "test_001", "unknown").model_copy(update={"split": "train"})
    assert assign_splits([one, record("test_002", "test_002", "unknown")], 0.2, 0.25, 0) == {
        "test_001": "train",
        "test_002": "test",
    }


def test_a_patient_in_two_splits_is_refused() -> None:
    records = [record(f"s{k}", "p", "tumour").model_copy(update={"split": k}) for k in ("train", "test")]
    with pytest.raises(InputError, match="patient p: has slides in test and train"):
        assign_splits(records, 0.2, 0.25, 0)


def test_a_slide_that_is_only_labelled_is_spread_with_those_that_are_outlined() -> None:
    records = [record(f"s{k}", f"s{k}", "unknown").model_copy(update={"label": "tumour"}) for k in range(2)]
    records += [record("t", "t", "tumour")]
    assert len(set(assign_splits(records, 0.2, 0.25, 0).values())) == 3

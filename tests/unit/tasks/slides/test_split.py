from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from random import Random

from hypothesis import given
from hypothesis import strategies as st

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

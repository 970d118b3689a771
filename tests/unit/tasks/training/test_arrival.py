from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from tasks.config import Split
from tasks.errors import InputError
from tasks.train_config import TrainConfig
from tasks.training.arrival import is_complete, named, shards_of_epoch, why_wait
from tasks.training.cohort import Cohort, ShardFacts
from tasks.training.expected import (
    ExpectedShard,
    ExpectedShards,
    expected_shard,
    read_expected,
    refuse_split_patients,
    write_expected,
)
from tests.services.texture_shards import TextureShard, write_texture_shard

Ints = NDArray[np.int64]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def shard(number: int, patient: int, split: Split, tumour: int, normal: int) -> ExpectedShard:
    return ExpectedShard(
        path=f"sampled/{number:03}.patches.h5",
        bytes=1,
        digest=f"sha256:{number}",
        split=split,
        patient=f"patient_{patient:03}",
        tumour_rows=tumour,
        normal_rows=normal,
    )


def facts(expected: ExpectedShard) -> ShardFacts:
    label = np.repeat([1, 0], [expected.tumour_rows, expected.normal_rows]).astype(np.int8)
    return ShardFacts(Path(expected.path), expected.split, expected.patient, 48, 0.25, label)


@st.composite
def cohorts(draw: st.DrawFn) -> list[ExpectedShard]:
    """Shards of some patients; each patient has one split, as the plan of the cohort says."""
    splits = draw(st.lists(st.sampled_from(SPLITS), min_size=1, max_size=6))
    patients = draw(st.lists(st.integers(0, len(splits) - 1), min_size=1, max_size=12))
    rows = st.integers(0, 5)
    return [shard(number, patient, splits[patient], draw(rows), draw(rows)) for number, patient in enumerate(patients)]


histories = st.integers(0, 2**32).map(np.random.default_rng)


@given(cohorts(), histories)
def test_an_epoch_has_what_came_before_it_and_rows_keep_their_places(
    expected: list[ExpectedShard], history: np.random.Generator
) -> None:
    first_epoch = history.integers(0, 5, len(expected))
    before: list[int] = []
    for epoch in range(1, 6):
        now = shards_of_epoch(first_epoch, epoch).tolist()
        assert now[: len(before)] == before
        assert sorted(now) == [k for k, first in enumerate(first_epoch.tolist()) if 0 < first <= epoch]
        earlier, later = (Cohort(tuple(facts(expected[k]) for k in some)).rows("train") for some in (before, now))
        assert later.label[: len(earlier)].tolist() == earlier.label.tolist()
        assert later.patients[: len(earlier)].tolist() == earlier.patients.tolist()
        before = now


@given(cohorts(), histories, histories)
def test_the_order_of_arrival_changes_no_split_and_lets_no_patient_leak(
    expected: list[ExpectedShard], one: np.random.Generator, other: np.random.Generator
) -> None:
    planned = {patient: shard.split for shard in expected for patient in [shard.patient]}
    ends = []
    for history in (one, other):
        first_epoch = history.integers(1, 5, len(expected))
        for epoch in range(1, 5):
            cohort = Cohort(tuple(facts(expected[k]) for k in shards_of_epoch(first_epoch, epoch)))
            for split in SPLITS:
                assert {planned[patient] for patient in cohort.patients(split)} <= {split}
        ends.append({split: sorted(cohort.rows(split).patients.tolist()) for split in SPLITS})
    assert ends[0] == ends[1]


def test_what_came_between_two_epochs_has_the_order_of_the_list() -> None:
    assert shards_of_epoch(np.array([2, 1, 0, 1, 2]), 2).tolist() == [1, 3, 0, 4]
    assert shards_of_epoch(np.ones(4, np.int64), 1).tolist() == [0, 1, 2, 3]


def config_of(**arrival: float) -> TrainConfig:
    return TrainConfig.model_validate({"epochs": 6, "arrival": {"follow": True, **arrival}})


@given(cohorts(), histories, st.floats(0.01, 1), st.integers(1, 6), st.integers(1, 4))
def test_more_shards_never_make_an_epoch_wait(
    expected: list[ExpectedShard], history: np.random.Generator, share: float, epoch: int, ranks: int
) -> None:
    config = config_of(start_share=share, complete_epochs=2)
    few = history.random(len(expected)) < 0.5
    more = few | (history.random(len(expected)) < 0.5)
    if why_wait(config, expected, few, epoch=epoch, ranks=ranks) is None:
        assert why_wait(config, expected, more, epoch=epoch, ranks=ranks) is None
    assert why_wait(config, expected, np.ones(len(expected), np.bool_), epoch=epoch, ranks=ranks) is None


@given(cohorts(), histories, st.floats(0.01, 1), st.integers(1, 4))
def test_a_training_that_begins_has_both_classes_on_both_sides_and_its_share(
    expected: list[ExpectedShard], history: np.random.Generator, share: float, ranks: int
) -> None:
    there = history.random(len(expected)) < 0.7
    if why_wait(config_of(start_share=share), expected, there, epoch=1, ranks=ranks) is not None or there.all():
        return
    present = [one for one, is_there in zip(expected, there, strict=True) if is_there]
    for split in ("train", "validation"):
        for name in ("tumour_rows", "normal_rows"):
            wanted, got = (
                sum(getattr(one, name) for one in some if one.split == split) for some in (expected, present)
            )
            assert got > 0 or wanted == 0
    rows = sum(one.rows for one in present if one.split == "train")
    assert rows >= share * sum(one.rows for one in expected if one.split == "train")
    assert rows >= ranks


def test_why_a_training_waits_is_said() -> None:
    expected = [
        shard(0, 0, "train", 5, 5),
        shard(1, 1, "train", 0, 90),
        shard(2, 2, "validation", 4, 4),
        shard(3, 3, "test", 4, 4),
    ]

    def why(*there: int, epoch: int = 1, **arrival: float) -> str | None:
        present = np.isin(np.arange(4), there)
        return why_wait(config_of(**arrival), expected, present, epoch=epoch, ranks=2)

    assert why(1, 2) == "the train split has no tumour patches yet"
    assert why(0, 1) == "the validation split has no tumour patches yet"
    assert why(0, 2, start_share=0.5) == "10 of the 50 training patches are there"
    assert why(0, 2, start_share=0.1) is None
    assert why(0, 1, 2, epoch=5) is None
    assert why(0, 1, 2, epoch=6) == "the last epochs need all shards"
    assert why(0, 1, 2, epoch=6, complete_epochs=0) is None
    assert is_complete(expected, np.array([True, False, True, False]), "validation")
    assert not is_complete(expected, np.array([True, False, True, False]), "train")


def test_a_list_of_names_is_cut() -> None:
    assert named(["a", "b"]) == "a, b"
    assert named([str(k) for k in range(12)]).endswith("9 and 2 more")


def test_a_patient_that_is_expected_in_two_splits_is_refused_by_name() -> None:
    refuse_split_patients([shard(0, 1, "train", 1, 1), shard(1, 1, "train", 1, 1)])
    with pytest.raises(InputError, match=r"patient_001 \(train and validation\)"):
        refuse_split_patients([shard(0, 1, "train", 1, 1), shard(1, 1, "validation", 1, 1)])


def test_the_list_says_what_the_shard_says_and_survives_the_file(tmp_path: Path) -> None:
    made = write_texture_shard(tmp_path / "sampled", TextureShard("patient_000", "validation", (1, -1, 0, 1)))
    path = made.path.relative_to(tmp_path).as_posix()
    one = expected_shard(tmp_path, path, size_bytes=made.path.stat().st_size, digest=made.digest)
    assert (one.split, one.patient, one.tumour_rows, one.normal_rows, one.rows) == (
        "validation",
        "patient_000",
        2,
        1,
        3,
    )
    expected = ExpectedShards(manifest_digest="sha256:a", manifest_file_digest="sha256:b", shards=(one,))
    write_expected(tmp_path / "expected.json", expected)
    assert read_expected(tmp_path / "expected.json") == expected
    assert read_expected(tmp_path / "none.json") is None
    (tmp_path / "expected.json").write_text("{}")
    with pytest.raises(InputError, match="is no list of expected shards"):
        read_expected(tmp_path / "expected.json")
    with pytest.raises(ValidationError, match="twice"):
        ExpectedShards(manifest_digest="a", manifest_file_digest="b", shards=(one, one))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stain": "macenko", "arrival": {"follow": True}}, "needs stain_reference"),
        ({"epochs": 2, "arrival": {"follow": True, "complete_epochs": 3}}, "must not be more than epochs"),
        ({"arrival": {"start_share": 0}}, "greater than 0"),
    ],
)
def test_an_arrival_that_cannot_be_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TrainConfig.model_validate(changes)

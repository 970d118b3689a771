from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks.errors import InputError, IntegrityError
from tasks.training.cohort import read_cohort
from tests.services.part_shards import cut_in_parts
from tests.services.texture_shards import TextureShard, write_texture_shard


def paths_of(folder: Path, *shards: TextureShard) -> list[Path]:
    return [write_texture_shard(folder, shard).path for shard in shards]


def test_only_rows_with_a_known_label_are_used(tmp_path: Path) -> None:
    cohort = read_cohort(
        paths_of(
            tmp_path,
            TextureShard("patient_000", "train", (1, -1, 0, 1)),
            TextureShard("patient_001", "validation", (0, 1)),
            TextureShard("patient_002", "train", (-1, 0)),
        )
    )
    rows = cohort.rows("train")
    assert rows.shard.tolist() == [0, 0, 0, 1]
    assert rows.row.tolist() == [0, 2, 3, 1]
    assert rows.label.tolist() == [1, 0, 1, 0]
    assert rows.patients.tolist() == ["patient_000"] * 3 + ["patient_002"]
    assert len(cohort.rows("validation")) == 2
    assert len(cohort.rows("test")) == 0
    assert cohort.patients("train") == ("patient_000", "patient_002")


def test_a_patient_in_two_splits_is_refused_by_name(tmp_path: Path) -> None:
    paths = paths_of(
        tmp_path,
        TextureShard("patient_000", "train", (1, 0)),
        TextureShard("patient_003", "train", (1, 0)),
        TextureShard("patient_003", "test", (1, 0)),
    )
    with pytest.raises(InputError, match=r"more than one split: patient_003 \(test and train\)") as raised:
        read_cohort(paths)
    assert "patient_000" not in str(raised.value)


@pytest.mark.parametrize(("labels", "missing"), [((0, 0, -1), "tumour"), ((1, 1, -1), "normal")])
def test_a_training_split_with_one_class_is_refused(tmp_path: Path, labels: tuple[int, ...], missing: str) -> None:
    paths = paths_of(
        tmp_path, TextureShard("patient_000", "train", labels), TextureShard("patient_001", "validation", (0, 1))
    )
    with pytest.raises(InputError, match=rf"no {missing} patches \(2 labelled.*Remedy: .*{missing}_patches"):
        read_cohort(paths)


def test_patches_of_two_sizes_are_refused(tmp_path: Path) -> None:
    paths = paths_of(
        tmp_path,
        TextureShard("patient_000", "train", (1, 0)),
        TextureShard("patient_001", "train", (1, 0), patch_px=64),
    )
    with pytest.raises(InputError, match=r"patient_001.*patches of 64 px at 0\.25 µm.*, but patient_000.* has 48"):
        read_cohort(paths)


def test_patches_of_two_magnifications_are_refused_and_those_of_two_scanners_are_not(tmp_path: Path) -> None:
    paths = paths_of(
        tmp_path,
        TextureShard("patient_000", "train", (1, 0, 1, 1)),
        TextureShard("patient_001", "train", (1, 0), mpp=0.226),
    )
    assert read_cohort(paths).mpp == pytest.approx((4 * 0.25 + 2 * 0.226) / 6)
    paths += paths_of(tmp_path, TextureShard("patient_002", "train", (1, 0), mpp=0.5))
    with pytest.raises(InputError, match=r"patient_002.* at 0\.5 µm per pixel, but .* at 0\.25 .*preprocess\.mpp"):
        read_cohort(paths)


def test_the_scale_of_slides_without_labels_does_not_matter(tmp_path: Path) -> None:
    paths = paths_of(
        tmp_path,
        TextureShard("patient_000", "train", (1, 0)),
        TextureShard("patient_001", "train", (-1, -1), mpp=0.5),
    )
    assert read_cohort(paths).mpp == 0.25


def test_a_cut_off_shard_is_found(tmp_path: Path) -> None:
    [path] = paths_of(tmp_path, TextureShard("patient_000", "train", (1, 0)))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(IntegrityError, match="patient_000"):
        read_cohort([path])


def test_no_shards_at_all_is_the_users_error() -> None:
    with pytest.raises(InputError, match="no shard to train on"):
        read_cohort([])


def test_rows_are_described_by_file_and_row(tmp_path: Path) -> None:
    cohort = read_cohort(paths_of(tmp_path, TextureShard("patient_000", "train", (1, 0) * 5)))
    name = "patient_000.train.patches.h5"
    assert cohort.rows("train").describe(np.array([0, 9])) == f"{name} row 0, {name} row 9"
    assert cohort.rows("train").describe(np.arange(6)).endswith("row 3 and 2 more")


def test_a_slide_in_several_shards_is_one_patient(tmp_path: Path) -> None:
    whole = write_texture_shard(tmp_path, TextureShard("patient_000", "train", (1, -1, 0, 1, 0))).path
    parts = cut_in_parts(whole, [2, 3])
    cohort = read_cohort([*parts, *paths_of(tmp_path, TextureShard("patient_001", "validation", (0, 1)))])
    rows = cohort.rows("train")
    assert rows.label.tolist() == [1, 0, 1, 0]
    assert rows.shard.tolist() == [0, 1, 2, 2]
    assert set(rows.patients.tolist()) == {"patient_000"}
    assert cohort.patients("train") == ("patient_000",)

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from tasks.errors import IntegrityError
from tasks.patches.shards.facts import shard_facts
from tasks.patches.shards.reading import batches
from tasks.patches.shards.verify import verify_shard
from tasks.patches.store import open_shard
from tests.services.exported_shards import coloured, write_coloured

LABELS = [1, 0, 0, -1, 1, 0]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write_coloured(tmp_path / "a.patches.h5", LABELS)


def changed(shard: Path, column: str, row: int, value: float) -> Path:
    with h5py.File(shard, "r+") as file:
        file[f"index/{column}"][row] = value
    return shard


def test_a_good_shard_is_read_to_its_last_row(shard: Path) -> None:
    assert verify_shard(shard) == len(LABELS)


def test_facts_are_those_of_the_shard(shard: Path) -> None:
    facts = shard_facts(shard)
    assert (facts.slide, facts.patient, facts.centre, facts.node) == ("patient_030_node_4", "patient_030", 1, 4)
    assert (facts.split, facts.sampling, facts.encoding) == ("train", "random", "raw")
    assert (facts.rows, facts.tumour, facts.normal, facts.unknown) == (6, 2, 3, 1)
    assert (facts.patch_px, facts.mpp, facts.bytes) == (16, 0.5, shard.stat().st_size)
    assert facts.bytes_per_patch == shard.stat().st_size / 6
    assert shard_facts(write_coloured(shard, [])).bytes_per_patch is None


def test_patches_on_the_edge_and_unknown_fractions_are_good(tmp_path: Path) -> None:
    shard = write_coloured(tmp_path / "a.h5", LABELS, slide_width_px=5 * 8 + 16, slide_height_px=10 * 8 + 16)
    assert verify_shard(shard) == len(LABELS)
    shard = write_coloured(
        tmp_path / "b.h5", [0, 0], level=1, level_downsample=2.5, slide_width_px=8 + 40, slide_height_px=16 + 40
    )
    assert verify_shard(shard) == 2


def test_where_the_size_of_the_slide_is_not_known_positions_are_only_not_negative(tmp_path: Path) -> None:
    unknown = {"slide_width_px": None, "slide_height_px": None, "seed": None, "sampling": "imported"}
    shard = write_coloured(tmp_path / "a.h5", LABELS, step_px=100_000, **unknown)
    assert verify_shard(shard) == len(LABELS)
    with pytest.raises(IntegrityError, match=r"y_level0_px out of the slide \(below 0 px\) in 1 of 6 rows"):
        verify_shard(changed(shard, "y_level0_px", 2, -1))
    half = write_coloured(tmp_path / "b.h5", LABELS, step_px=100_000, slide_height_px=None)
    with pytest.raises(IntegrityError, match=r"x_level0_px out of the slide \(0..1000 px\) in 5 of 6 rows") as caught:
        verify_shard(half)
    assert "y_level0_px" not in caught.value.cause


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("x_level0_px", -1, r"x_level0_px out of the slide \(0..1000 px\) in 1 of 6 rows, first in row 3"),
        ("x_level0_px", 985, "x_level0_px out of the slide"),
        ("y_level0_px", 2**62, "y_level0_px out of the slide"),
        ("tumour_fraction", 1.001, "tumour_fraction out of 0..1 in 1 of 6 rows"),
        ("tissue_fraction", -0.1, "tissue_fraction out of 0..1"),
        ("white_fraction", np.inf, "white_fraction out of 0..1"),
        ("label", 2, "labels other than"),
    ],
)
def test_values_that_make_no_sense_are_named(shard: Path, column: str, value: float, said: str) -> None:
    with pytest.raises(IntegrityError, match=said) as caught:
        verify_shard(changed(shard, column, 3, value))
    assert caught.value.subject == str(shard)


def test_all_problems_are_told_at_once(shard: Path) -> None:
    for column in ("x_level0_px", "y_level0_px", "tumour_fraction"):
        changed(shard, column, 2, -5)
    with pytest.raises(IntegrityError, match=r"x_level0_px.*; y_level0_px.*; tumour_fraction"):
        verify_shard(shard)


def test_a_negative_slide_has_no_tumour(tmp_path: Path) -> None:
    assert verify_shard(write_coloured(tmp_path / "a.h5", [0, -1], truth="negative")) == 2
    with pytest.raises(IntegrityError, match="a tumour label on a negative slide in 2 of 6 rows, first in row 0"):
        verify_shard(write_coloured(tmp_path / "a.h5", LABELS, truth="negative"))


def test_damage_of_the_pixels_is_found_in_the_last_row(tmp_path: Path) -> None:
    shard = write_coloured(tmp_path / "a.h5", LABELS, encoding="jpeg")
    assert verify_shard(shard) == len(LABELS)
    assert shard_facts(shard).encoding == "jpeg"
    with h5py.File(shard, "r+") as file:
        file["jpeg/data"][file["jpeg/offset_bytes"][-1] :] = 255
    with pytest.raises(IntegrityError, match="is damaged"):
        verify_shard(shard)


def test_batches_are_bounded_and_complete(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.patches.pixel_storage.BATCH_BYTES", 2 * 3 * 16 * 16 + 5)
    with open_shard(shard) as opened:
        found = list(batches(opened))
        some = list(batches(opened, np.array([4, 0, 2])))
    assert [rows.tolist() for rows, _ in found] == [[0, 1], [2, 3], [4, 5]]
    assert np.array_equal(np.concatenate([pixels for _, pixels in found]), coloured(6))
    assert [rows.tolist() for rows, _ in some] == [[4, 0], [2]]
    assert np.array_equal(np.concatenate([pixels for _, pixels in some]), coloured(6)[[4, 0, 2]])

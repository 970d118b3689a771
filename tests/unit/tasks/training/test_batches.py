from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.errors import IntegrityError
from tasks.patches.store import open_shard
from tasks.training import batches
from tasks.training.batches import read_batches
from tasks.training.cohort import LabelledRows, read_cohort
from tasks.training.epoch import train_epoch
from tests.services.texture_shards import TextureShard, balanced, write_texture_shard

PATCH_BYTES = 10 << 20  # pretended, so that windows have nine rows


@pytest.fixture
def rows(tmp_path: Path) -> LabelledRows:
    """Rows of three shards."""
    shards = [TextureShard(f"patient_00{k}", "train", balanced(size)) for k, size in enumerate((20, 31, 7))]
    return read_cohort([write_texture_shard(tmp_path, shard).path for shard in shards]).rows("train")


def test_batches_have_the_pixels_and_labels_of_their_rows(rows: LabelledRows) -> None:
    plan = train_epoch(rows, seed=0, epoch=1, rank=0, ranks=1, batch_size=8, patch_bytes=PATCH_BYTES)
    assert len(plan.windows) > 3
    pixels: dict[tuple[int, int], NDArray[np.uint8]] = {}
    for index, facts in enumerate(rows.shards):
        with open_shard(facts.path) as shard:
            everything = shard.read(np.arange(shard.rows))
        pixels |= {(index, row): patch for row, patch in enumerate(everything)}
    given = list(read_batches(rows, plan))
    assert [len(batch.rows) for batch in given] == plan.batch_rows.tolist()
    assert np.array_equal(np.concatenate([batch.rows for batch in given]), np.concatenate(plan.windows))
    for batch in given:
        assert np.array_equal(batch.label, rows.label[batch.rows])
        for patch, position in zip(batch.pixels, batch.rows, strict=True):
            assert np.array_equal(patch, pixels[int(rows.shard[position]), int(rows.row[position])])


def test_few_open_files_serve_many_shards(rows: LabelledRows, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = train_epoch(rows, seed=0, epoch=1, rank=0, ranks=1, batch_size=8, patch_bytes=PATCH_BYTES)
    expected = [batch.pixels for batch in read_batches(rows, plan)]
    monkeypatch.setattr(batches, "_OPEN_SHARDS", 1)
    for one, other in zip(read_batches(rows, plan), expected, strict=True):
        assert np.array_equal(one.pixels, other)


def test_leaving_early_ends_the_thread(rows: LabelledRows) -> None:
    plan = train_epoch(rows, seed=0, epoch=1, rank=0, ranks=1, batch_size=4, patch_bytes=PATCH_BYTES)
    reading = read_batches(rows, plan)
    next(reading)
    assert any(thread.name == "read-ahead" for thread in threading.enumerate())
    reading.close()
    assert not any(thread.name == "read-ahead" for thread in threading.enumerate())


def test_an_error_while_reading_reaches_the_training(rows: LabelledRows) -> None:
    broken = replace(rows.shards[1], path=rows.shards[1].path.with_name("gone.h5"))
    torn = replace(rows, shards=(rows.shards[0], broken, rows.shards[2]))
    plan = train_epoch(torn, seed=0, epoch=1, rank=0, ranks=1, batch_size=8, patch_bytes=PATCH_BYTES)
    with pytest.raises(IntegrityError, match=r"gone\.h5"):
        list(read_batches(torn, plan))

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.config import Encoding
from tasks.errors import IntegrityError
from tasks.patches.store import open_shard
from tasks.training import batches
from tasks.training.batches import read_batches
from tasks.training.cohort import LabelledRows, read_cohort
from tasks.training.epoch import RankEpoch, score_epoch, train_epoch
from tests.services.cut_shards import cut, on_a_grid
from tests.services.jpeg_slides import TILE_PX, picture, write_jpeg_slide
from tests.services.texture_shards import TextureShard, balanced, write_texture_shard

Pixels = dict[tuple[int, int], NDArray[np.uint8]]


def plan_of(rows: LabelledRows, batch_size: int = 8) -> RankEpoch:
    return train_epoch(rows, seed=0, epoch=1, rank=0, ranks=1, batch_size=batch_size, window_mb=1)


@pytest.fixture
def rows(tmp_path: Path) -> LabelledRows:
    """Rows of three shards."""
    shards = [TextureShard(f"patient_00{k}", "train", balanced(size)) for k, size in enumerate((20, 331, 7))]
    return read_cohort([write_texture_shard(tmp_path, shard).path for shard in shards]).rows("train")


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> dict[Encoding, LabelledRows]:
    """Rows of two shards in each encoding."""
    folder = tmp_path_factory.mktemp("encoded")
    slide = write_jpeg_slide(folder / "a.tif", picture(8 * TILE_PX, 8 * TILE_PX))
    encodings: tuple[Encoding, ...] = ("raw", "tiles", "jpeg")
    return {
        encoding: read_cohort(
            [cut(slide, folder / f"{stride}.{encoding}.h5", encoding, on_a_grid(stride)) for stride in (33, 48)]
        ).rows("train")
        for encoding in encodings
    }


def pixels_of(rows: LabelledRows) -> Pixels:
    found: Pixels = {}
    for index, facts in enumerate(rows.shards):
        with open_shard(facts.path) as shard:
            found |= {(index, row): patch for row, patch in enumerate(shard.read(np.arange(shard.rows)))}
    return found


@pytest.mark.parametrize("encoding", ["raw", "tiles", "jpeg"])
@pytest.mark.parametrize("threads", [1, 3])
def test_batches_have_the_pixels_and_labels_of_their_rows(
    encoded: dict[Encoding, LabelledRows], encoding: Encoding, threads: int
) -> None:
    rows = encoded[encoding]
    pixels = pixels_of(rows)
    plan = plan_of(rows)
    given = list(read_batches(rows, plan, threads=threads))
    assert [len(batch.rows) for batch in given] == plan.batch_rows.tolist()
    assert np.array_equal(np.concatenate([batch.rows for batch in given]), plan.rows)
    for batch in given:
        assert np.array_equal(batch.label, rows.label[batch.rows])
        for patch, position in zip(batch.pixels, batch.rows, strict=True):
            assert np.array_equal(patch, pixels[int(rows.shard[position]), int(rows.row[position])])


def test_the_rest_of_an_epoch_and_rows_in_their_order_are_read_as_well(rows: LabelledRows) -> None:
    pixels = pixels_of(rows)
    for plan in (plan_of(rows).from_step(17), score_epoch(rows, rank=1, ranks=2, batch_size=50)):
        given = list(read_batches(rows, plan))
        assert np.array_equal(np.concatenate([batch.rows for batch in given]), plan.rows)
        read = np.concatenate([batch.pixels for batch in given])
        expected = [pixels[int(rows.shard[place]), int(rows.row[place])] for place in plan.rows]
        assert np.array_equal(read, expected)
    assert list(read_batches(rows, plan_of(rows).from_step(plan_of(rows).steps))) == []


def test_few_open_files_serve_many_shards(rows: LabelledRows, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [batch.pixels for batch in read_batches(rows, plan_of(rows))]
    opened: list[Path] = []

    def counted(path: Path) -> object:
        opened.append(path)
        return open_shard(path)

    monkeypatch.setattr(batches, "open_shard", counted)
    monkeypatch.setattr(batches, "_MOST_OPEN_SHARDS", 1)
    for one, other in zip(read_batches(rows, plan_of(rows), threads=3), expected, strict=True):
        assert np.array_equal(one.pixels, other)
    assert len(opened) > len(rows.shards)


def test_memory_is_taken_for_a_window_and_little_more(rows: LabelledRows, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(rows, 4)
    held: list[int] = []
    begin = batches._Work.begin

    def watched(work: batches._Work, stretch: int) -> object:
        begun = begin(work, stretch)
        held.append(sum(pixels.nbytes for pixels in work._pixels.values()))
        return begun

    monkeypatch.setattr(batches._Work, "begin", watched)
    patch_bytes = 3 * rows.shards[0].patch_px ** 2
    for _ in read_batches(rows, plan, threads=1):
        pass
    stretches = 4 * batches.STRETCH_ROWS * patch_bytes
    assert max(held) < min(1_000_000 + stretches, len(rows) * patch_bytes)


def test_memory_is_used_again_only_when_nothing_of_a_batch_is_kept(rows: LabelledRows) -> None:
    plan = plan_of(rows, 4)
    expected = [batch.pixels.copy() for batch in read_batches(rows, plan)]
    kept: list[NDArray[np.uint8]] = []
    addresses: set[int] = set()
    for batch in read_batches(rows, plan):
        addresses.add(batch.pixels.ctypes.data)
        if len(kept) < 5:
            kept.append(batch.pixels[1:2])
    assert len(addresses) < plan.steps
    for one, whole in zip(kept, expected[:5], strict=True):
        assert np.array_equal(one, whole[1:2])


def test_leaving_early_ends_the_threads(rows: LabelledRows) -> None:
    reading = read_batches(rows, plan_of(rows, 4), threads=2)
    assert next(reading).waiting_s > 0
    assert any(thread.name.startswith("read-patches") for thread in threading.enumerate())
    reading.close()
    assert not any(thread.name.startswith("read-patches") for thread in threading.enumerate())


def test_an_error_while_reading_reaches_the_training(rows: LabelledRows) -> None:
    broken = replace(rows.shards[1], path=rows.shards[1].path.with_name("gone.h5"))
    torn = replace(rows, shards=(rows.shards[0], broken, rows.shards[2]))
    with pytest.raises(IntegrityError, match=r"gone\.h5"):
        list(read_batches(torn, plan_of(torn), threads=2))

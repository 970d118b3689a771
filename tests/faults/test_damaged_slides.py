"""Slide files that are damaged in ways that files are: the slide fails with a reason, and nothing else does."""

from __future__ import annotations

import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tasks.patches.outcome import SlideOutcome
from tasks.patches.preprocess import preprocess_slide
from tasks.patches.store import open_shard
from tests.services.cohort import small_cohort
from tests.services.slide_jobs import slide_jobs


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A negative slide of 1024 px with tissue."""
    cohort = small_cohort(tmp_path_factory.mktemp("cohort"), slides=2, side_px=1024)
    negative = next(truth.name for truth in cohort.slides if not truth.lesions)
    return cohort.folder / "images" / f"{negative}.tif"


def outcome_of(folder: Path, encoding: str) -> SlideOutcome:
    (job,) = slide_jobs(folder, folder.parent / "root", encoding=encoding).values()
    outcome = preprocess_slide(job)
    if outcome.state == "failed":
        assert outcome.reason
        assert outcome.remedy
        assert not list((folder.parent / "root").rglob("*.h5"))
    else:
        for file in outcome.files:
            if file.kind == "patches":
                with open_shard(file.artifact.under(job.root)) as shard:
                    assert len(shard.read(np.arange(shard.rows))) == file.rows
    return outcome


def copy_of(slide: Path, folder: Path) -> Path:
    (folder / "slides").mkdir()
    return Path(shutil.copy(slide, folder / "slides"))


@pytest.mark.parametrize("encoding", ["raw", "tiles"])
@pytest.mark.parametrize("tenths", range(10))
def test_a_file_that_is_cut_off_anywhere_fails_alone(slide: Path, tmp_path: Path, tenths: int, encoding: str) -> None:
    copy = copy_of(slide, tmp_path)
    with copy.open("r+b") as file:
        file.truncate(copy.stat().st_size * tenths // 10)
    outcome = outcome_of(copy.parent, encoding=encoding)
    # The levels are written from the largest to the smallest: without the last ones, the slide may still be whole.
    assert outcome.state == "failed" or tenths >= 7


def directories(path: Path) -> list[tuple[int, int]]:
    """Offset of each directory of a BigTIFF, and of the place that names the next one."""
    data = path.read_bytes()
    found, at = [], struct.unpack_from("<Q", data, 8)[0]
    while at:
        entries = struct.unpack_from("<Q", data, at)[0]
        following = at + 8 + entries * 20
        found.append((at, following))
        at = struct.unpack_from("<Q", data, following)[0]
    return found


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize("encoding", ["raw", "tiles"])
def test_a_directory_of_zeros_fails_the_slide(slide: Path, tmp_path: Path, encoding: str) -> None:
    copy = copy_of(slide, tmp_path)
    first, following = directories(copy)[0]
    overwrite(copy, first, bytes(following - first))
    assert outcome_of(copy.parent, encoding=encoding).state == "failed"


@pytest.mark.parametrize("encoding", ["raw", "tiles"])
def test_directories_in_a_circle_come_to_an_end(slide: Path, tmp_path: Path, encoding: str) -> None:
    copy = copy_of(slide, tmp_path)
    found = directories(copy)
    overwrite(copy, found[-1][1], struct.pack("<Q", found[0][0]))
    assert outcome_of(copy.parent, encoding=encoding).state in ("done", "failed")


@pytest.mark.parametrize("where", ["beyond the end", "in the header"])
@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_tiles_that_are_nowhere_fail_the_slide(slide: Path, tmp_path: Path, where: str, encoding: str) -> None:
    copy = copy_of(slide, tmp_path)
    with tifffile.TiffFile(copy) as file:
        tag = file.pages[0].tags["TileOffsets"]
        place, count = tag.valueoffset, tag.count
    offset = copy.stat().st_size + 1000 if where == "beyond the end" else 4
    overwrite(copy, place, struct.pack(f"<{count}Q", *[offset] * count))
    outcome = outcome_of(copy.parent, encoding=encoding)
    assert outcome.state == "failed"
    assert "decoded" in outcome.reason or "does not open" in outcome.reason


@pytest.mark.parametrize("where", ["beyond the end", "in the header"])
def test_tiles_that_are_nowhere_are_noticed_also_where_nothing_is_decoded(tmp_path: Path, where: str) -> None:
    # With a second level: the tissue is found there, and the tiles of the first would be copied unseen.
    cohort = small_cohort(tmp_path / "cohort", slides=1, side_px=2048)
    copy = copy_of(cohort.folder / "images" / f"{cohort.slides[0].name}.tif", tmp_path)
    with tifffile.TiffFile(copy) as file:
        tag = file.pages[0].tags["TileOffsets"]
        place, offsets = tag.valueoffset, list(tag.value)
    # The largest one stays: it is compared with what OpenSlide makes of it.
    largest = int(np.argmax(file.pages[0].databytecounts))
    nowhere = copy.stat().st_size + 1000 if where == "beyond the end" else 4
    moved = [offset if tile == largest else nowhere for tile, offset in enumerate(offsets)]
    overwrite(copy, place, struct.pack(f"<{len(moved)}Q", *moved))
    outcome = outcome_of(copy.parent, encoding="tiles")
    assert outcome.state == "failed"
    assert "cannot be decoded at" in outcome.reason


@pytest.fixture(scope="module")
def slide_with_levels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide of 2048 px, whose tissue is found on its second level."""
    cohort = small_cohort(tmp_path_factory.mktemp("levels"), slides=1, side_px=2048)
    return cohort.folder / "images" / f"{cohort.slides[0].name}.tif"


def spoil(copy: Path, damage: str) -> None:
    """Damage the second half of a tile with tissue, or all of it."""
    with tifffile.TiffFile(copy) as file:
        sizes, offsets = np.array(file.pages[0].databytecounts), file.pages[0].dataoffsets
    tile = int(np.argsort(sizes)[-2])
    size, start = int(sizes[tile]), 0 if damage == "all" else int(sizes[tile]) // 2
    noise = np.random.default_rng(3).bytes(size - start)
    overwrite(copy, offsets[tile] + start, noise if damage == "noise" else bytes(size - start))


@pytest.mark.parametrize("encoding", ["raw", "tiles"])
@pytest.mark.parametrize("damage", ["zeros", "noise", "all"])
def test_damage_inside_a_stream_is_no_silent_gray(
    slide_with_levels: Path, tmp_path: Path, damage: str, encoding: str
) -> None:
    # Most decoders make gray or smears of it and say nothing. The slide is small: one tile is more than 5 % of it.
    spoil(copy := copy_of(slide_with_levels, tmp_path), damage)
    (job,) = slide_jobs(copy.parent, tmp_path / "root", encoding=encoding).values()
    outcome = preprocess_slide(job)
    assert outcome.state == "failed"
    # Which of the two: `tiles` decodes only what is looked at.
    assert re.search(r"cannot be decoded at ([1-9] of \d\d positions|x=\d+, y=\d+, level 0)", outcome.reason or "")

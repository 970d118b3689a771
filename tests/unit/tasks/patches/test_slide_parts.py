"""A large slide in parts: the same patches, labels and rejections as in one task, however it is cut."""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.config import PreprocessConfig
from tasks.digests import file_digest
from tasks.errors import IntegrityError, PermanentFault
from tasks.patches import extract, preprocess, slide_in_work, slide_masks
from tasks.patches.bands import band
from tasks.patches.candidates import Candidates, Selection
from tasks.patches.cut import cut_patches
from tasks.patches.effort import Effort
from tasks.patches.make_part import make_part
from tasks.patches.outcome import SlideOutcome
from tasks.patches.pixel_storage import Ints, Rgb
from tasks.patches.preprocess import find_outcome, finish_slide, prepare_slide, preprocess_part, preprocess_slide
from tasks.patches.slide_in_work import SlideInWork
from tasks.patches.slide_job import SlideJob, SlidePart
from tasks.patches.slide_masks import read_known
from tasks.patches.slide_parts import count_parts, slide_parts
from tasks.patches.store import INDEX_DTYPES, open_shard
from tasks.slides.synthetic.cohort import CohortSummary
from tasks.slides.tile_grid import TileSource
from tests.services.slide_jobs import slide_jobs

WHOLE, PARTS = 10**6, {2: 520, 3: 350, 7: 150}
"""Positions a part, for so many parts of a slide of 1,024 positions."""


def job_of(cohort: CohortSummary, root: Path, positions: int, **changes: Any) -> SlideJob:  # noqa: ANN401  # fields of the configuration
    """Give the job of a slide with tumour."""
    jobs = slide_jobs(cohort.folder, root, grid_part_positions=positions, **changes)
    return next(job for job in jobs.values() if job.record.truth == "tumour")


def in_parts(job: SlideJob) -> SlideOutcome:
    """Do a slide as several workers would, in an odd order."""
    assert isinstance(prepare_slide(job), Effort)
    parts = slide_parts(job, count_parts(job))
    random.Random(1).shuffle(parts)
    outcomes = {part.number: preprocess_part(part) for part in parts}
    return finish_slide(job, [outcomes[number] for number in sorted(outcomes)])


def rows_of(job: SlideJob, outcome: SlideOutcome, folder: str) -> list[tuple[Any, ...]]:
    """Rows of all shards of a folder that the outcome names, with their pixels, sorted."""
    rows: list[tuple[Any, ...]] = []
    for file in outcome.files:
        path = file.artifact.under(job.root)
        if file.kind != "patches" or path.parent.name != folder:
            continue
        with open_shard(path) as shard:
            assert file.rows == shard.rows
            columns = [getattr(shard, name).tolist() for name in INDEX_DTYPES if name != "white_fraction"]
            white = [repr(value) for value in shard.white_fraction.tolist()]
            pixels = [patch.tobytes() for patch in shard.read(np.arange(shard.rows))]
            rows += zip(*columns, white, pixels, strict=True)
    return sorted(rows)


def facts(outcome: SlideOutcome) -> dict[str, Any]:
    return outcome.model_dump(exclude={"key", "files", "parts", "seconds", "effort", "reused"})


KINDS: dict[str, dict[str, Any]] = {
    "raw": {},
    "tiles": {"encoding": "tiles"},
    "jpeg": {"encoding": "jpeg"},
    "overlapping, white ones left out": {"grid_stride_px": 48, "max_white_fraction": 0.3},
    "jittered": {"grid_jitter": 1.0, "encoding": "tiles"},
    "window": {"window_percent": (20, 73.5)},
    "balanced": {"balanced": True, "tumour_patches": 400},
    "adaptive": {"max_white_fraction": 0.05, "white_fraction_step": 0.05, "white_fraction_patience": 3},
    "level 1": {"level": 1},
    "scaled": {"mpp": 0.7},
    "sharp": {"tissue": {"max_blur_um": 2.0}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_parts_together_are_the_whole(small_cohort: CohortSummary, tmp_path: Path, kind: str) -> None:
    whole = job_of(small_cohort, tmp_path / "whole", WHOLE, **KINDS[kind])
    made = preprocess_slide(whole)
    assert (made.state, made.parts) == ("done", 1)
    assert made.grid_patches > 20
    cuts = list(PARTS.values()) if kind == "raw" else [PARTS[7]]
    wanted = rows_of(whole, made, "sampled"), rows_of(whole, made, "grid")
    for positions in cuts:
        job = job_of(small_cohort, tmp_path / str(positions), positions, **KINDS[kind])
        done = in_parts(job)
        assert done.parts == count_parts(job) > 1
        assert facts(done) == facts(made)
        assert list(done.rejected) == list(made.rejected)
        assert (rows_of(job, done, "sampled"), rows_of(job, done, "grid")) == wanted
        others = [[f.artifact.path, f.kind] for f in done.files if "/grid/" not in f.artifact.path]
        assert others == [[f.artifact.path, f.kind] for f in made.files if "/grid/" not in f.artifact.path]


def test_one_process_makes_the_same_files_as_many(small_cohort: CohortSummary, tmp_path: Path) -> None:
    alone = preprocess_slide(job_of(small_cohort, tmp_path / "one", PARTS[3]))
    many = in_parts(job_of(small_cohort, tmp_path / "many", PARTS[3]))
    assert alone.parts == many.parts == 3
    assert alone.files == many.files
    assert facts(alone) == facts(many)


def test_every_part_is_a_shard_that_says_which_it_is(small_cohort: CohortSummary, tmp_path: Path) -> None:
    job = job_of(small_cohort, tmp_path, PARTS[3])
    outcome = in_parts(job)
    name = job.record.name
    grids = [file.artifact.under(job.root) for file in outcome.files if "/grid/" in file.artifact.path]
    assert [path.name for path in grids] == [f"{name}.part-000{n}-of-0003.patches.h5" for n in (1, 2, 3)]
    last = -1
    for number, path in enumerate(grids, 1):
        with open_shard(path) as shard:
            assert (shard.attributes.part, shard.attributes.parts) == (number, 3)
            # a band lies below the one before it, and borders are those of tiles
            assert shard.y_level0_px.min() // 256 > last // 256
            last = shard.y_level0_px.max()
    with open_shard(job.sampled_path) as shard:
        assert (shard.attributes.part, shard.attributes.parts) == (None, None)


def test_small_slides_and_slides_without_a_grid_are_not_cut(small_cohort: CohortSummary, tmp_path: Path) -> None:
    job = job_of(small_cohort, tmp_path, PARTS[3])
    assert count_parts(job) == 3
    assert count_parts(job_of(small_cohort, tmp_path, 1024)) == 1
    assert count_parts(job_of(small_cohort, tmp_path, 1023)) == 2
    assert count_parts(job_of(small_cohort, tmp_path, 1)) == 32, "no more than rows of the grid"
    assert count_parts(job.model_copy(update={"split": "train"})) == 1
    assert count_parts(job.model_copy(update={"config": PreprocessConfig()})) == 1
    assert count_parts(job.model_copy(update={"record": job.record.model_copy(update={"path": tmp_path / "no"})})) == 1


def test_more_parts_than_rows_of_tiles_leaves_some_empty(small_cohort: CohortSummary, tmp_path: Path) -> None:
    whole = job_of(small_cohort, tmp_path / "whole", WHOLE)
    job = job_of(small_cohort, tmp_path / "parts", 1)
    done = in_parts(job)
    assert done.parts == 32
    assert min(file.rows for file in done.files if file.rows is not None) == 0
    assert rows_of(job, done, "grid") == rows_of(whole, preprocess_slide(whole), "grid")


def test_masks_are_made_once_and_made_again_when_damaged(
    small_cohort: CohortSummary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def counted(*arguments: Any) -> Any:  # noqa: ANN401  # as those of make_masks
        made.append("masks")
        return slide_masks.make_masks(*arguments)

    monkeypatch.setattr(slide_in_work, "make_masks", counted)
    job = job_of(small_cohort, tmp_path, PARTS[3])
    first = in_parts(job)
    assert made == ["masks"]
    damaged = bytearray(job.masks_path.read_bytes())
    damaged[len(damaged) // 2] ^= 255
    for bad in (bytes(damaged), bytes(damaged[:-40]), b"", b"no archive", b"PK\x03\x04" + bytes(50)):
        job.masks_path.write_bytes(bad)
        assert read_known(job.masks_path, first.key) is None
    SlidePart(job=job, number=2, parts=3).outcome_path.unlink()
    job.outcome_path.unlink()
    assert preprocess_part(slide_parts(job, 3)[2]).files == first.files[2:3]
    assert made == ["masks"] * 2


def test_finished_parts_are_found_and_only_the_missing_one_is_made(
    small_cohort: CohortSummary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(small_cohort, tmp_path, PARTS[3])
    prepare_slide(job)
    parts = slide_parts(job, 3)
    early = [preprocess_part(part) for part in parts if part.number != 2]
    key = early[0].key
    assert find_outcome(job, key) is None
    before = {path: path.stat().st_mtime_ns for path in job.folder.rglob("*.h5")}
    numbers: list[int] = []

    def counted(slide: SlideInWork, number: int, parts: int) -> SlideOutcome:
        numbers.append(number)
        return make_part(slide, number, parts)

    monkeypatch.setattr(preprocess, "make_part", counted)
    outcomes = [preprocess_part(part) for part in parts]
    assert numbers == [2]
    assert [outcome.reused for outcome in outcomes] == [True, True, False, True]
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    found = find_outcome(job, key)  # joined from the records of its parts
    assert found is not None
    assert (found.state, found.reused, found.parts) == ("done", True, 3)
    again = find_outcome(job, key)
    assert again is not None
    assert facts(again) == facts(found)
    next(job.grid_path.parent.glob("*part-0002*")).unlink()
    assert find_outcome(job, key) is None
    assert preprocess_slide(job).files == found.files
    assert numbers == [2, 2], "one process, too, finds the parts that are there"


def test_parts_of_another_configuration_are_neither_taken_nor_left(small_cohort: CohortSummary, tmp_path: Path) -> None:
    for positions in (PARTS[3], WHOLE, PARTS[7], PARTS[2]):
        job = job_of(small_cohort, tmp_path, positions)
        done = in_parts(job) if count_parts(job) > 1 else preprocess_slide(job)
        assert not done.reused
        named = {file.artifact.under(job.root).name for file in done.files if "/grid/" in file.artifact.path}
        assert {path.name for path in job.grid_path.parent.iterdir()} == named
        assert len(named) == count_parts(job)


@pytest.mark.parametrize("positions", [WHOLE, PARTS[3]])
def test_a_run_that_was_killed_while_it_replaced_files_is_not_taken_for_the_one_before(
    small_cohort: CohortSummary, tmp_path: Path, positions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards of another seed have the same names and sizes."""
    job = job_of(small_cohort, tmp_path, positions)
    other = job.model_copy(update={"seed": 9})

    def do(job: SlideJob) -> SlideOutcome:
        return preprocess_slide(job) if positions == WHOLE else in_parts(job)

    first = do(job)

    def killed(outcome: SlideOutcome, path: Path) -> SlideOutcome:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(preprocess, "_recorded", killed)
        with pytest.raises(KeyboardInterrupt):
            preprocess_slide(other)
        with pytest.raises(KeyboardInterrupt):
            preprocess_part(SlidePart(job=other, number=0, parts=3))
    with open_shard(job.sampled_path) as shard:
        assert shard.attributes.seed == other.slide_seed, "it has come as far as that"
    again = do(job)
    assert again.files == first.files
    for file in again.files:
        assert file_digest(file.artifact.under(job.root)) == file.artifact.digest


def test_shards_of_slides_with_longer_names_stay(small_cohort: CohortSummary, tmp_path: Path) -> None:
    job = job_of(small_cohort, tmp_path, PARTS[3])
    job.grid_path.parent.mkdir(parents=True)
    others = [f"{job.record.name}{more}.patches.h5" for more in ("0", ".b", ".part-0001", ".part-0001-of-0002.x")]
    for name in others:
        (job.grid_path.parent / name).touch()
    in_parts(job)
    assert {path.name for path in job.grid_path.parent.iterdir()} > set(others)


def test_a_part_without_tissue_excludes_the_slide_once(small_cohort: CohortSummary, tmp_path: Path) -> None:
    job = job_of(small_cohort, tmp_path, PARTS[3], tissue={"min_region_um": 10**6})
    outcome = prepare_slide(job)
    if isinstance(outcome, Effort):
        pytest.fail("this configuration should find no tissue")
    assert outcome.state == "excluded"
    found = prepare_slide(job)
    assert isinstance(found, SlideOutcome)
    assert found.reused
    job.outcome_path.unlink()
    parts = [preprocess_part(part) for part in slide_parts(job, 3)]
    assert {part.state for part in parts} == {"excluded"}
    assert facts(finish_slide(job, parts)) == facts(outcome)


def test_a_failed_part_fails_its_slide_by_name_and_the_others_are_kept(
    small_cohort: CohortSummary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(small_cohort, tmp_path, PARTS[3])
    outcomes = [preprocess_part(part) for part in slide_parts(job, 3)]
    outcomes[2] = outcomes[2].model_copy(update={"state": "failed", "reason": "its worker died", "remedy": "memory"})
    failed = finish_slide(job, outcomes)
    assert (failed.state, failed.reason, failed.files) == ("failed", "part 2 of 3: its worker died", ())
    assert not job.outcome_path.exists()
    monkeypatch.setattr(preprocess, "make_part", lambda *arguments: pytest.fail("made again"))
    assert preprocess_part(slide_parts(job, 3)[1]).reused


@pytest.mark.parametrize(("bad_percent", "state"), [(4, "done"), (6, "failed")])
def test_a_broken_slide_is_judged_as_a_whole(
    small_cohort: CohortSummary, tmp_path: Path, bad_percent: int, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All damage lies in one part: much of it may be unreadable while little of its slide is."""
    changes: dict[str, Any] = {"tumour_patches": 0, "normal_patches": 0}
    good = preprocess_slide(job_of(small_cohort, tmp_path / "good", WHOLE, **changes))
    with open_shard(job_of(small_cohort, tmp_path / "good", WHOLE).grid_path) as shard:
        tried = shard.rows + sum(good.rejected.get(f"grid: {why}", 0) for why in ("too white", "too black"))
        bad = set(zip(shard.x_level0_px.tolist(), shard.y_level0_px.tolist(), strict=True))
    bad = set(sorted(bad, key=lambda corner: corner[::-1])[: tried * bad_percent // 100])

    def broken(source: TileSource, x_px: Ints, y_px: Ints, side_px: int) -> Iterator[tuple[int, Rgb | None]]:
        for place, pixels in cut_patches(source, x_px, y_px, side_px):
            yield place, None if (int(x_px[place]), int(y_px[place])) in bad else pixels

    monkeypatch.setattr(extract, "cut_patches", broken)
    whole = preprocess_slide(job_of(small_cohort, tmp_path / "whole", WHOLE, **changes))
    parts = in_parts(job_of(small_cohort, tmp_path / "parts", PARTS[7], **changes))
    assert whole.state == parts.state == state
    if state == "done":
        assert facts(whole) == facts(parts)
        assert parts.rejected["grid: unreadable"] == len(bad)
    else:
        assert "cannot be decoded" in parts.reason


def test_a_full_disk_is_a_fault_of_the_site(
    small_cohort: CohortSummary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(small_cohort, tmp_path, PARTS[3])

    def full(*arguments: object) -> None:
        raise PermanentFault("the disk is full", subject=tmp_path)

    monkeypatch.setattr(preprocess, "make_part", full)
    with pytest.raises(PermanentFault, match="disk is full"):
        preprocess_part(slide_parts(job, 3)[1])


@given(st.lists(st.integers(0, 12), max_size=60), st.integers(1, 20))
def test_bands_divide_candidates_by_rows_of_tiles(rows: list[int], parts: int) -> None:
    count = len(rows)
    column = np.arange(count)
    zeros = np.zeros(count, np.float32)
    selection = Selection(
        Candidates(column, column, zeros, zeros, zeros.astype(np.int8)), {}, Counter({"too little tissue": 7})
    )
    tile_row = np.array(rows, np.int64)
    bands = [band(selection, tile_row, part, parts) for part in range(1, parts + 1)]
    places = [one.candidates.x_level0_px.tolist() for one in bands]
    assert sorted(itertools.chain(*places)) == column.tolist()
    assert all(place == sorted(place) for place in places), "in the order of the selection"
    rows_of_bands = [{rows[place] for place in of} for of in places]
    for upper, lower in itertools.combinations([of for of in rows_of_bands if of], 2):
        assert max(upper) < min(lower)
    most_in_a_row = max(Counter(rows).values(), default=0)
    assert all(len(place) <= count / parts + most_in_a_row for place in places)
    assert sum((one.rejected for one in bands), Counter()) == selection.rejected
    assert {one.of_slide for one in bands} == {count}


def test_what_depends_on_all_candidates_is_not_divided() -> None:
    none = np.zeros(0, np.int64)
    floats = np.zeros(0, np.float32)
    selection = Selection(Candidates(none, none, floats, floats, none.astype(np.int8)), {1: 5}, Counter())
    with pytest.raises(ValueError, match="depends on all of them"):
        band(selection, none, 1, 2)


def test_a_shard_that_is_part_3_of_2_is_refused(small_cohort: CohortSummary, tmp_path: Path) -> None:
    job = job_of(small_cohort, tmp_path, PARTS[2])
    path = in_parts(job).files[1].artifact.under(job.root)
    with h5py.File(path, "r+") as file:
        file.attrs["part"] = 3
    with pytest.raises(IntegrityError, match="part 3 of 2"):
        open_shard(path)


class _Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, place: Path) -> None:
        self._place = str(place)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self._place,)


def test_arrays_that_would_have_to_be_unpickled_are_not_read(tmp_path: Path) -> None:
    path, sprung = tmp_path / "masks.npz", tmp_path / "sprung"
    np.savez(path, key=np.array([_Trap(sprung)], dtype=object))
    assert read_known(path, "key") is None
    assert not sprung.exists()
    with np.load(path, allow_pickle=True) as stored:
        assert stored["key"].shape == (1,)
    assert sprung.exists()  # the trap works

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tasks.digests import DigestIndex, file_digest
from tasks.errors import InputError, PermanentFault
from tasks.patches.outcome import SlideOutcome, failed_outcome
from tasks.patches.preprocess import find_outcome, preprocess_slide
from tasks.patches.slide_job import SlideJob
from tasks.patches.store import open_shard
from tasks.slides.geojson import from_geojson
from tasks.slides.synthetic.cohort import CohortSummary
from tasks.slides.synthetic.pyramid import write_pyramid
from tests.services.slide_jobs import slide_jobs
from tests.services.small_disk import needs_root, small_disk


@pytest.fixture
def job(small_cohort: CohortSummary, tmp_path: Path) -> SlideJob:
    """One slide with tumour, which the test may change."""
    slide = next(slide for slide in small_cohort.slides if slide.stage != "negative")
    folder = tmp_path / "cohort"
    folder.mkdir()
    shutil.copy(small_cohort.folder / "images" / f"{slide.name}.tif", folder)
    shutil.copy(small_cohort.folder / "annotations" / f"{slide.name}.xml", folder)
    return slide_jobs(folder, tmp_path / "site")[slide.name]


def files_of(outcome: SlideOutcome) -> dict[str, str]:
    return {file.artifact.path: file.artifact.digest for file in outcome.files}


def write_slide(path: Path, rgb: np.ndarray, mpp: float | None = 0.5) -> Path:
    resolution = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, rgb, tile=(64, 64), photometric="rgb", metadata=None, **resolution)
    return path


def break_tiles(slide: Path, tiles: list[int]) -> None:
    """Overwrite tiles of level 0 with zeros."""
    with tifffile.TiffFile(slide) as file:
        places = [(file.pages[0].dataoffsets[tile], file.pages[0].databytecounts[tile]) for tile in tiles]
    with slide.open("r+b") as raw:
        for offset, count in places:
            raw.seek(offset)
            raw.write(b"\0" * count)


def only_job(slide: Path, tmp_path: Path) -> SlideJob:
    (job,) = slide_jobs(slide, tmp_path / "site").values()
    return job


def test_a_slide_becomes_shards_pictures_and_an_annotation(job: SlideJob) -> None:
    outcome = preprocess_slide(job)
    assert (outcome.state, outcome.reason, outcome.reused) == ("done", "", False)
    assert [file.kind for file in outcome.files] == ["patches", "patches", "thumbnail", "thumbnail", "annotation"]
    for file in outcome.files:
        path = file.artifact.under(job.root)
        assert (path.stat().st_size, file_digest(path)) == (file.artifact.bytes, file.artifact.digest)
        assert file.artifact.key == outcome.key
    with open_shard(job.sampled_path) as sampled, open_shard(job.grid_path) as grid:
        assert (outcome.tumour_patches, outcome.normal_patches) == (40, 40)
        assert sampled.rows == outcome.files[0].rows == 80
        assert grid.rows == outcome.files[1].rows == outcome.grid_patches > 300
        assert sampled.attributes.slide_digest == file_digest(job.record.path)
        assert (grid.attributes.sampling, grid.attributes.stride_px) == ("grid", 64)
        assert grid.attributes.mpp == pytest.approx(0.5)
        assert grid.attributes.configuration == job.config.model_dump_json()
    with Image.open(job.thumbnail_path) as plain, Image.open(job.sampling_path) as drawn:
        assert plain.size == drawn.size == (1400, 1400)
        assert np.asarray(plain).tolist() != np.asarray(drawn).tolist()
    assert from_geojson(job.annotation_path.read_text()).of("tumour")
    assert not list(job.root.rglob("*.part"))


def test_the_same_slide_gives_the_same_files_anywhere(job: SlideJob, tmp_path: Path) -> None:
    first = preprocess_slide(job)
    other_root = tmp_path / "elsewhere"
    other = job.model_copy(update={"root": other_root, "folder": other_root / "run" / "patches"})
    time.sleep(1.1)
    assert files_of(preprocess_slide(other)) == files_of(first)


def test_a_finished_slide_is_found_without_being_read(job: SlideJob) -> None:
    first = preprocess_slide(job)
    assert job.known_key() == first.key
    found = preprocess_slide(job)
    assert found == first.model_copy(update={"reused": True})
    assert find_outcome(job, first.key) == found


def _other_config(job: SlideJob) -> SlideJob:
    return job.model_copy(update={"config": job.config.model_copy(update={"tumour_patches": 39})})


def _other_seed(job: SlideJob) -> SlideJob:
    return job.model_copy(update={"seed": 4})


def _other_split(job: SlideJob) -> SlideJob:
    return job.model_copy(update={"split": "train"})


def _other_resolution(job: SlideJob) -> SlideJob:
    return job.model_copy(update={"mpp": 0.4})


def _other_stage(job: SlideJob) -> SlideJob:
    return job.model_copy(update={"record": job.record.model_copy(update={"exhaustive": not job.record.exhaustive})})


def _other_annotation(job: SlideJob) -> SlideJob:
    assert job.record.annotation is not None
    text = job.record.annotation.read_text()
    job.record.annotation.write_text(text.replace("</ASAP_Annotations>", "<!-- seen --></ASAP_Annotations>"))
    return job


def _other_slide(job: SlideJob) -> SlideJob:
    with job.record.path.open("ab") as file:
        file.write(b"\0")
    return job


@pytest.mark.parametrize(
    "change",
    [_other_config, _other_seed, _other_split, _other_resolution, _other_stage, _other_annotation, _other_slide],
)
def test_a_change_of_anything_that_counts_makes_it_anew(job: SlideJob, change: Callable[[SlideJob], SlideJob]) -> None:
    first = preprocess_slide(job)
    changed = change(job)
    again = preprocess_slide(changed)
    assert (again.state, again.reused) == ("done", False)
    assert again.key != first.key
    assert preprocess_slide(changed).reused


def test_moving_the_slide_changes_nothing(job: SlideJob, tmp_path: Path) -> None:
    first = preprocess_slide(job)
    (tmp_path / "moved").mkdir()
    moved = {"path": tmp_path / "moved" / job.record.path.name, "annotation": tmp_path / "moved" / "a.xml"}
    assert job.record.annotation is not None
    job.record.path.rename(moved["path"])
    job.record.annotation.rename(moved["annotation"])
    again = preprocess_slide(job.model_copy(update={"record": job.record.model_copy(update=moved)}))
    assert again == first.model_copy(update={"reused": True})


@pytest.mark.parametrize("damage", ["deleted", "cut off"])
@pytest.mark.parametrize("index", range(5))
def test_a_file_that_is_gone_or_cut_off_is_made_again(job: SlideJob, index: int, damage: str) -> None:
    first = preprocess_slide(job)
    path = first.files[index].artifact.under(job.root)
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    again = preprocess_slide(job)
    assert not again.reused
    assert files_of(again) == files_of(first)
    assert file_digest(path) == first.files[index].artifact.digest


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"slide": "x"'])
def test_a_record_that_cannot_be_read_is_no_record(job: SlideJob, content: bytes) -> None:
    first = preprocess_slide(job)
    job.outcome_path.write_bytes(content)
    again = preprocess_slide(job)
    assert not again.reused
    assert files_of(again) == files_of(first)


def test_one_slide_says_nothing_about_another(small_cohort: CohortSummary, tmp_path: Path) -> None:
    names = [slide.name for slide in small_cohort.slides][:2]
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(small_cohort.folder / "images" / f"{names[1]}.tif", alone)
    shutil.copy(small_cohort.folder / "stages.csv", alone)
    together = slide_jobs(small_cohort.folder, tmp_path / "site")[names[1]]
    by_itself = slide_jobs(alone, tmp_path / "other")[names[1]]
    assert together.slide_seed == by_itself.slide_seed
    assert together.key(together.slide_digest()) == by_itself.key(by_itself.slide_digest())
    other = slide_jobs(small_cohort.folder, tmp_path / "site")[names[0]]
    assert other.slide_seed != together.slide_seed


def test_a_slide_without_tissue_is_excluded_and_remembered(tmp_path: Path) -> None:
    glass = np.full((512, 512, 3), 243, np.uint8) + np.random.default_rng(0).integers(0, 3, (512, 512, 3), np.uint8)
    job = only_job(write_slide(tmp_path / "glass.tif", glass), tmp_path)
    outcome = preprocess_slide(job)
    assert (outcome.state, outcome.reason, outcome.files) == ("excluded", "no tissue found", ())
    assert preprocess_slide(job).reused


def test_a_slide_that_is_all_tissue_has_every_patch(tmp_path: Path) -> None:
    pink = np.random.default_rng(0).integers(90, 180, (512, 512, 3), np.uint8)
    pink[..., 1] //= 2
    job = only_job(write_slide(tmp_path / "full.tif", pink), tmp_path)
    outcome = preprocess_slide(job)
    side = 1 + (512 - job.config.patch_px) // (job.config.grid_stride_px or job.config.patch_px)
    assert (outcome.state, outcome.grid_patches) == ("done", side**2)


@pytest.mark.parametrize("ink", [(28, 48, 150), (32, 30, 36)])
def test_a_slide_that_is_all_ink_is_excluded(tmp_path: Path, ink: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 3, (512, 512, 3), np.uint8)
    job = only_job(write_slide(tmp_path / "ink.tif", np.array(ink, np.uint8) + noise), tmp_path)
    outcome = preprocess_slide(job)
    assert (outcome.state, outcome.reason, outcome.files) == ("excluded", "no tissue found", ())


def test_a_slide_smaller_than_a_patch_ends_with_no_patches_and_says_why(tmp_path: Path) -> None:
    pink = np.random.default_rng(0).integers(90, 180, (48, 48, 3), np.uint8)
    pink[..., 1] //= 2
    job = only_job(write_slide(tmp_path / "small.tif", pink), tmp_path)
    job = job.model_copy(
        update={
            "config": job.config.model_copy(
                update={"tissue": job.config.tissue.model_copy(update={"min_region_um": 0})}
            )
        }
    )
    outcome = preprocess_slide(job)
    assert (outcome.state, outcome.unknown_patches, outcome.grid_patches) == ("done", 0, 0)
    assert set(outcome.rejected) == {"random: over the slide's edge"}
    with open_shard(job.sampled_path) as shard:
        assert shard.rows == 0


def failure(job: SlideJob) -> SlideOutcome:
    outcome = preprocess_slide(job)
    assert (outcome.state, outcome.slide, outcome.files) == ("failed", job.record.name, ())
    assert outcome.remedy
    assert not job.outcome_path.exists(), "a slide that failed is tried again"
    assert not list(job.folder.rglob("*.h5"))
    return outcome


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("unopenable.tiff", "does not open as a slide"),
        ("unreadable.svs", "tile cannot be decoded at x=0, y=0"),
        ("boxes.tiff", "outside 0.05 to 20"),
    ],
)
def test_real_broken_slides_fail_by_name(real_data: Path, tmp_path: Path, name: str, reason: str) -> None:
    assert reason in failure(only_job(real_data / "slides" / name, tmp_path)).reason


def test_a_slide_without_resolution_fails_with_the_way_out(tmp_path: Path) -> None:
    pink = np.full((128, 128, 3), (180, 90, 150), np.uint8)
    job = only_job(write_slide(tmp_path / "a.tif", pink, mpp=None), tmp_path)
    outcome = failure(job)
    assert outcome.reason == "does not state its resolution (µm per pixel)"
    assert "--mpp" in str(outcome.remedy)
    assert preprocess_slide(job.model_copy(update={"mpp": 0.5})).state in {"done", "excluded"}


def test_an_annotation_that_is_no_xml_fails_the_slide_and_is_named(job: SlideJob) -> None:
    assert job.record.annotation is not None
    job.record.annotation.write_text("this is no XML <")
    outcome = failure(job)
    assert outcome.reason.startswith(f"{job.record.annotation}: cannot be read as annotation XML")


@pytest.mark.parametrize("gone", ["path", "annotation"])
def test_a_file_that_has_gone_away_is_named(job: SlideJob, gone: str) -> None:
    path = getattr(job.record, gone)
    path.unlink()
    outcome = failure(job)
    named = f"{path}: " if gone == "annotation" else ""
    assert outcome.reason == f"{named}cannot be read (No such file or directory)"
    assert job.known_key() is None


def test_a_level_that_the_slide_lacks_fails_it(job: SlideJob) -> None:
    config = job.config.model_copy(update={"level": 9})
    assert "has no level 9" in failure(job.model_copy(update={"config": config})).reason


def test_corrupt_tiles_fail_the_slide_when_there_are_many(job: SlideJob) -> None:
    break_tiles(job.record.path, list(range(0, 16, 2)))
    assert "cannot be decoded at" in failure(job).reason


def test_one_corrupt_tile_costs_its_patches(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(90, 180, (512, 512, 3), np.uint8)
    noise[..., 1] //= 2
    slide = tmp_path / "slide.tif"
    # So large that mask and thumbnail come from lower levels, as on a real slide.
    write_pyramid(slide, lambda x, y, width, height: noise[:height, :width], 3072, 3072, 0.5)
    (job,) = slide_jobs(slide, tmp_path / "site", normal_patches=200).values()
    whole = preprocess_slide(job)
    break_tiles(slide, [14])
    broken = preprocess_slide(job)
    assert (whole.state, broken.state) == ("done", "done")
    assert not {name for name in whole.rejected if "unreadable" in name}
    assert 1 <= broken.rejected["random: unreadable"] <= 10
    assert broken.unknown_patches == 200, "others take their places"
    lost = whole.grid_patches - broken.grid_patches
    assert lost == broken.rejected["grid: unreadable"] == 64  # patches of 64 px in a tile of 512


@needs_root
def test_a_full_disk_is_the_sites_fault_and_not_the_slides(job: SlideJob, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 256) as disk:
        full = job.model_copy(update={"root": disk, "folder": disk / "run"})
        with pytest.raises(PermanentFault, match="No space left") as caught:
            preprocess_slide(full)
        assert caught.value.subject == str(full.sampled_path)
        assert not list(disk.rglob("*.part"))


def test_an_output_that_cannot_be_written_is_named_not_the_slide(job: SlideJob) -> None:
    job.folder.mkdir(parents=True)
    (job.folder / "sampled").write_bytes(b"in the way")
    outcome = failure(job)
    assert outcome.reason.startswith(f"{job.sampled_path}: cannot be written")


def test_an_odd_error_of_the_output_side_is_not_blamed_on_the_slide(
    job: SlideJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(*_: object) -> None:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr("tasks.patches.make_part.describe", lambda *_, **__: stale())
    with pytest.raises(OSError, match="Stale file handle"):
        preprocess_slide(job)


def test_a_failure_names_the_file_when_it_is_not_the_slide(job: SlideJob) -> None:
    own = failed_outcome(job, InputError("is cut off", subject=job.record.path, remedy="copy it"))
    other = failed_outcome(job, InputError("is cut off", subject="/x.xml"))
    none = failed_outcome(job, PermanentFault("its task ended"))
    assert (own.reason, own.remedy, other.reason, none.reason) == (
        "is cut off",
        "copy it",
        "/x.xml: is cut off",
        "its task ended",
    )


def test_the_digest_of_a_slide_is_remembered_at_the_site(job: SlideJob) -> None:
    assert job.known_key() is None
    digest = job.slide_digest()
    assert DigestIndex(job.root / ".digests").known(job.record.path) == digest
    assert job.known_key() == job.key(digest)

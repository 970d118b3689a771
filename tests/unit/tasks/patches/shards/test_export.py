from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import signal
import tarfile
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from PIL import Image

from tasks.errors import InputError, IntegrityError
from tasks.patches.shards.export import RECEIPTS, Exporter, Written, export_shard
from tasks.patches.shards.original_layout import OriginalLayout
from tasks.patches.shards.png_folders import PngFolders
from tasks.patches.shards.webdataset import WebDataset
from tasks.patches.store import Shard, open_shard
from tests.services.exported_shards import NODE, coloured, write_coloured

LABELS = [1, 0, -1, 0, 1, 0, 0, 1]
EXPORTERS: dict[str, Exporter] = {
    "png": PngFolders(),
    "original": OriginalLayout(),
    "webdataset": WebDataset(max_tar_bytes=10240),
}


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write_coloured(tmp_path / "a.patches.h5", LABELS)


def content(folder: Path) -> dict[str, str]:
    """Digests of all files of an export but its receipts."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and RECEIPTS not in path.parts
    }


@pytest.mark.parametrize("exporter", EXPORTERS.values(), ids=EXPORTERS)
def test_the_same_shard_gives_the_same_files_anywhere(shard: Path, tmp_path: Path, exporter: Exporter) -> None:
    written = export_shard(shard, tmp_path / "one", exporter).written
    export_shard(shard, tmp_path / "two", exporter)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert set(content(tmp_path / "one")) == {file.path for file in written.files}
    assert all((tmp_path / "one" / file.path).stat().st_size == file.bytes for file in written.files)
    assert written.patches + written.left_out == len(LABELS)


@pytest.mark.parametrize("exporter", EXPORTERS.values(), ids=EXPORTERS)
def test_what_is_finished_is_not_made_again(shard: Path, tmp_path: Path, exporter: Exporter) -> None:
    out = tmp_path / "out"
    first = export_shard(shard, out, exporter)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = export_shard(shard, out, exporter)
    assert (first.reused, again.reused) == (False, True)
    assert again.written == first.written
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == times


@pytest.mark.parametrize("exporter", EXPORTERS.values(), ids=EXPORTERS)
def test_a_file_that_is_lost_is_made_again(shard: Path, tmp_path: Path, exporter: Exporter) -> None:
    out = tmp_path / "out"
    written = export_shard(shard, out, exporter).written
    before = content(out)
    (out / written.files[-1].path).unlink()
    assert not export_shard(shard, out, exporter).reused
    assert content(out) == before


class _KilledAfter:
    """An exporter whose process dies when it has written so many files."""

    def __init__(self, exporter: Exporter, files: int) -> None:
        self._exporter, self._left = exporter, files
        self.format = exporter.format
        self.existing = exporter.existing

    def write(self, shard: Shard, folder: Path, stem: str) -> Written:
        replace = Path.replace

        def counted(source: Path, target: Path) -> Path:
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self._left -= 1
            return replace(source, target)

        Path.replace = counted  # type: ignore[method-assign, assignment]  # in the process that dies
        return self._exporter.write(shard, folder, stem)


@pytest.mark.parametrize("files", [0, 2])
@pytest.mark.parametrize("exporter", EXPORTERS.values(), ids=EXPORTERS)
def test_killed_anywhere_it_goes_on_and_ends_with_the_same_files(
    shard: Path, tmp_path: Path, exporter: Exporter, files: int
) -> None:
    process = multiprocessing.get_context("fork").Process(
        target=export_shard, args=(shard, tmp_path / "out", _KilledAfter(exporter, files))
    )
    process.start()
    process.join(60)
    done = [name for name in content(tmp_path / "out") if not name.rpartition("/")[2].startswith(".")]
    if process.exitcode == 0:
        assert (files, len(done)) == (2, 1), "only the single file of the original layout is finished before"
    else:
        assert process.exitcode == -signal.SIGKILL
        assert len(done) == files
    export_shard(shard, tmp_path / "out", exporter)
    export_shard(shard, tmp_path / "whole", exporter)
    kept = {name: digest for name, digest in content(tmp_path / "out").items() if "/." not in f"/{name}"}
    assert kept == content(tmp_path / "whole")


@pytest.mark.parametrize("exporter", EXPORTERS.values(), ids=EXPORTERS)
def test_files_of_another_shard_are_not_replaced(shard: Path, tmp_path: Path, exporter: Exporter) -> None:
    (tmp_path / "other").mkdir()
    out = tmp_path / "out"
    export_shard(shard, out, exporter)
    before = content(out)
    other = write_coloured(tmp_path / "other" / shard.name, LABELS[::-1])
    with pytest.raises(InputError, match="is there already"):
        export_shard(write_other_pixels(other), out, exporter)
    assert content(out) == before


def write_other_pixels(shard: Path) -> Path:
    with h5py.File(shard, "r+") as file:
        file["patches"][:] = file["patches"][:][::-1]
        file["index/label"][:] = LABELS
    return shard


def test_tars_with_other_options_are_not_mixed(shard: Path, tmp_path: Path) -> None:
    export_shard(shard, tmp_path / "out", WebDataset(max_tar_bytes=20480))
    with pytest.raises(InputError, match="with other options"):
        export_shard(shard, tmp_path / "out", WebDataset(max_tar_bytes=30720))


@pytest.mark.parametrize("exporter", EXPORTERS.values(), ids=EXPORTERS)
def test_a_damaged_shard_is_named_and_leaves_nothing(shard: Path, tmp_path: Path, exporter: Exporter) -> None:
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(IntegrityError) as caught:
        export_shard(shard, tmp_path / "out", exporter)
    assert caught.value.subject == str(shard)
    assert not (tmp_path / "out").exists()
    with pytest.raises(IntegrityError, match="cannot be read"):
        export_shard(tmp_path / "none.h5", tmp_path / "out", exporter)


# PNG folders


def test_png_files_hold_the_pixels_as_a_viewer_shows_them(shard: Path, tmp_path: Path) -> None:
    export_shard(shard, tmp_path / "out", PngFolders())
    folders = {1: "tumour", 0: "normal", -1: "unknown"}
    for row, label in enumerate(LABELS):
        with Image.open(tmp_path / "out" / folders[label] / f"{NODE}_{8 * row}_{16 * row}.png") as picture:
            assert picture.mode == "RGB"
            assert np.array_equal(np.asarray(picture), coloured(len(LABELS))[row])
    assert len(content(tmp_path / "out")) == len(LABELS)


def test_compressed_shards_are_exported_as_they_are_read(tmp_path: Path) -> None:
    shard = write_coloured(tmp_path / "a.patches.h5", LABELS, encoding="jpeg")
    export_shard(shard, tmp_path / "out", PngFolders())
    with open_shard(shard) as opened, Image.open(tmp_path / "out" / "tumour" / f"{NODE}_32_64.png") as picture:
        assert np.array_equal(np.asarray(picture), opened.read(np.array([4]))[0])


def test_shards_that_share_patches_may_go_into_one_folder(shard: Path, tmp_path: Path) -> None:
    export_shard(shard, tmp_path / "out", PngFolders())
    more = write_coloured(tmp_path / "more.patches.h5", [*LABELS, 0, 0])
    export_shard(more, tmp_path / "out", PngFolders())
    assert len(content(tmp_path / "out")) == len(LABELS) + 2


def test_a_slide_name_that_leads_elsewhere_stays_in_the_folder(tmp_path: Path) -> None:
    shard = write_coloured(tmp_path / "a.patches.h5", [1], slide="../../../etc/x")
    export_shard(shard, tmp_path / "deep" / "out", PngFolders())
    assert list(content(tmp_path / "deep")) == ["out/tumour/%2E.%2F..%2F..%2Fetc%2Fx_0_0.png"]


# WebDataset


def samples(tar: Path) -> dict[str, dict[str, bytes]]:
    """Samples of a tar as WebDataset groups them: a key ends at its first dot, equal neighbours belong together."""
    found: dict[str, dict[str, bytes]] = {}
    with tarfile.open(tar, "r:") as file:
        for member in file:
            assert (member.mtime, member.uid, member.gid, member.uname, member.mode) == (0, 0, 0, "", 0o644)
            key, _, extension = member.name.partition(".")
            data = file.extractfile(member)
            assert data is not None
            assert extension not in found.setdefault(key, {})
            assert list(found)[-1] == key
            found[key][extension] = data.read()
    return found


def test_tars_hold_every_row_in_order_with_its_label_and_facts(shard: Path, tmp_path: Path) -> None:
    written = export_shard(shard, tmp_path, WebDataset(max_tar_bytes=10240)).written
    assert [file.path for file in written.files] == [f"a-{number:06}.tar" for number in range(len(written.files))]
    assert len(written.files) > 2
    found = {key: sample for file in written.files for key, sample in samples(tmp_path / file.path).items()}
    assert list(found) == [f"{NODE}_{8 * row}_{16 * row}" for row in range(len(LABELS))]
    for row, (key, sample) in enumerate(found.items()):
        with Image.open(io.BytesIO(sample["png"])) as picture:
            assert np.array_equal(np.asarray(picture), coloured(len(LABELS))[row]), key
        assert int(sample["cls"]) == LABELS[row]
        assert json.loads(sample["json"]) == {
            "slide": NODE, "patient": "patient_030", "node": 4, "centre": 1, "split": "train", "level": 0,
            "mpp": 0.5, "patch_px": 16, "x_level0_px": 8 * row, "y_level0_px": 16 * row, "label": LABELS[row],
            "tumour_fraction": float(LABELS[row] == 1), "tissue_fraction": 1.0, "white_fraction": None,
        }  # fmt: skip


@pytest.mark.parametrize("most", [10240, 20480, 25000, 1 << 20])
def test_no_tar_is_larger_than_allowed(shard: Path, tmp_path: Path, most: int) -> None:
    written = export_shard(shard, tmp_path, WebDataset(max_tar_bytes=most)).written
    sizes = [file.bytes for file in written.files]
    assert max(sizes) <= most
    assert [(tmp_path / file.path).stat().st_size for file in written.files] == sizes
    assert sum(len(samples(tmp_path / file.path)) for file in written.files) == len(LABELS)


def test_a_patch_that_fits_no_tar_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0)
    shard = write_coloured(tmp_path / "a.patches.h5", [0])
    with h5py.File(shard, "r+") as file:
        file["patches"][0] = pixels.integers(0, 256, (16, 16, 3))
    exporter = WebDataset(max_tar_bytes=3000)
    with pytest.raises(InputError, match=r"takes 10240 bytes of a tar\. Remedy: allow more than 3000"):
        export_shard(shard, tmp_path / "out", exporter)
    assert content(tmp_path / "out") == {}


def test_keys_are_one_a_row_even_with_dots_and_repeats(tmp_path: Path) -> None:
    shard = write_coloured(tmp_path / "S 1.2.patches.h5", [0, 1, 0], step_px=0, slide="S 1.2")
    written = export_shard(shard, tmp_path, WebDataset()).written
    assert [file.path for file in written.files] == ["S%201.2-000000.tar"]
    assert list(samples(tmp_path / "S%201.2-000000.tar")) == [f"S%201%2E2_0_0{end}" for end in ("", "_2", "_3")]


def test_jpeg_is_near_the_pixels(shard: Path, tmp_path: Path) -> None:
    export_shard(shard, tmp_path, WebDataset(image="jpg"))
    for row, sample in enumerate(samples(tmp_path / "a-000000.tar").values()):
        decoded = cv2.imdecode(np.frombuffer(sample["jpg"], np.uint8), cv2.IMREAD_COLOR)
        assert decoded is not None
        assert np.abs(decoded[..., ::-1].astype(int) - coloured(len(LABELS))[row]).max() < 12


# The original tool's layout


def arrays(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[:]}) if isinstance(item, h5py.Dataset) else None)
    return found


def test_the_original_layout_is_bgr_by_tissue_with_rows_and_columns_of_the_mask(shard: Path, tmp_path: Path) -> None:
    written = export_shard(shard, tmp_path / "out", OriginalLayout(mask_level=3)).written
    assert (written.patches, written.left_out) == (7, 1)
    found = arrays(tmp_path / "out" / "a.h5")
    node = "level3/centre1/patient030/node4"
    assert set(found) == {
        f"{tissue}/{node}/{name}" for tissue in ("tumor", "normal") for name in ("patches", "locations")
    }
    for tissue, label in (("tumor", 1), ("normal", 0)):
        rows = np.flatnonzero(np.array(LABELS) == label)
        patches, locations = (found[f"{tissue}/{node}/{name}"] for name in ("patches", "locations"))
        assert np.array_equal(patches, coloured(len(LABELS))[rows][..., ::-1])
        assert (patches.dtype, locations.dtype) == (np.uint8, np.int64)
        assert locations.tolist() == [[2 * row, row] for row in rows], "row (y) first, in mask pixels of 8"


def test_a_location_is_the_nearest_mask_pixel(tmp_path: Path) -> None:
    shard = write_coloured(tmp_path / "a.patches.h5", [0] * 30, step_px=9)
    export_shard(shard, tmp_path / "out", OriginalLayout())
    (locations,) = (value for name, value in arrays(tmp_path / "out" / "a.h5").items() if name.endswith("locations"))
    with open_shard(shard) as opened:
        corners = np.stack([opened.y_level0_px, opened.x_level0_px], axis=1)
    assert np.abs(locations * 128 - corners).max() <= 64


@pytest.mark.parametrize(
    ("slide", "where"),
    [("tumor_042", "centre0/patient042_Mask.tif"), ("patient_099_node_0", "centre4/patient099/node0")],
)
def test_slides_have_the_names_that_the_original_gave_them(tmp_path: Path, slide: str, where: str) -> None:
    shard = write_coloured(tmp_path / "a.patches.h5", [1], slide=slide, centre=None, node=None)
    export_shard(shard, tmp_path / "out", OriginalLayout())
    assert set(arrays(tmp_path / "out" / "a.h5")) == {
        f"tumor/level7/{where}/{name}" for name in ("patches", "locations")
    }


@pytest.mark.parametrize("slide", ["normal_001", "patient_120_node_1", "my slide"])
def test_a_slide_that_the_original_has_no_name_for_is_refused(tmp_path: Path, slide: str) -> None:
    shard = write_coloured(tmp_path / "a.patches.h5", [1], slide=slide)
    with pytest.raises(InputError, match="export to png or webdataset"):
        export_shard(shard, tmp_path / "out", OriginalLayout())
    assert content(tmp_path / "out") == {}

"""``camnet shards`` as a user runs it."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from tasks.patches.slide_shards import open_slide_shards
from tests.services.camnet_cli import camnet
from tests.services.exported_shards import coloured, write_coloured
from tests.services.part_shards import cut_in_parts
from transfer.manifest import manifest_of, read_manifest, write_manifest

LABELS = [1, 1, 0, 0, -1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shards = tmp_path / "shards"
    shards.mkdir()
    for node in range(2):
        write_coloured(shards / f"{node}.patches.h5", LABELS, slide=f"patient_030_node_{node}", node=node, step_px=64)
    return shards


@pytest.fixture
def bad(folder: Path) -> Path:
    path = folder / "bad.patches.h5"
    path.write_bytes(b"no shard")
    return path


def test_info_is_a_line_a_shard(folder: Path) -> None:
    done = camnet("shards", "info", folder)
    head, *lines = [line.split()[:9] for line in done.output.splitlines()]
    assert " ".join(head) == "slide patient centre split encoding patches tumour normal unknown"
    assert lines == [
        [f"patient_030_node_{node}", "patient_030", "1", "train", "raw", "5", "2", "2", "1"] for node in range(2)
    ]
    assert (done.code, done.errors) == (0, "")


def test_info_names_what_is_no_shard_and_goes_on(folder: Path, bad: Path) -> None:
    done = camnet("shards", "info", folder, "--json")
    told = json.loads(done.output)
    assert [shard["rows"] for shard in told["shards"]] == [5, 5]
    assert [failure["subject"] for failure in told["failures"]] == [str(bad)]
    assert (done.code, done.error["error"]) == (3, "PartialResult")
    assert camnet("shards", "info", bad).code == 4
    assert camnet("shards", "info", folder / "none").code == 2


def test_verify_answers_with_its_exit_code(folder: Path) -> None:
    files = [(f"{node}.patches.h5", "patches", 5, None) for node in range(2)]
    write_manifest(folder / "manifest.json", manifest_of(folder, files, run="r", site="site-a"))  # type: ignore[arg-type]
    good = camnet("shards", "verify", "--manifest", folder / "manifest.json")
    assert (good.code, good.output) == (0, "2 good (10 patches), 0 bad\n")
    with h5py.File(folder / "0.patches.h5", "r+") as file:
        file["patches"][0, 0, 0, 0] += 1
    assert camnet("shards", "verify", folder).code == 0, "a shard alone cannot know"
    found = camnet("shards", "verify", folder, "--manifest", folder / "manifest.json", "--json")
    assert found.code == 4
    assert [file["rows"] for file in json.loads(found.output)["good"]] == [5]
    assert [failure["subject"] for failure in json.loads(found.output)["failures"]] == [str(folder / "0.patches.h5")]
    assert camnet("shards", "verify").code == 2


def test_convert_goes_on_after_a_bad_shard_and_finds_what_is_finished(folder: Path, bad: Path, tmp_path: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "1.patches.h5").rename(folder / "deep" / "0.patches.h5")
    done = camnet("shards", "convert", folder, tmp_path / "jpeg", "--to", "jpeg", "--json")
    told = json.loads(done.output)
    assert (done.code, done.error["error"]) == (3, "PartialResult")
    assert [failure["subject"] for failure in told["failures"]] == [str(bad)]
    names = ["0.patches.h5", "deep/0.patches.h5"]
    assert [shard["path"] for shard in told["converted"]] == [str(tmp_path / "jpeg" / name) for name in names]
    bad.unlink()
    again = camnet("shards", "convert", folder, tmp_path / "jpeg", "--to", "jpeg", "--json")
    assert (again.code, [shard["reused"] for shard in json.loads(again.output)["converted"]]) == (0, [True, True])
    assert camnet("shards", "convert", tmp_path / "jpeg", tmp_path / "raw", "--to", "raw").code == 0
    facts = json.loads(camnet("shards", "info", tmp_path / "raw", "--json").output)["shards"]
    assert [(shard["encoding"], shard["rows"]) for shard in facts] == [("raw", 5), ("raw", 5)]
    assert camnet("shards", "verify", tmp_path / "jpeg", tmp_path / "raw").code == 0


def list_in_manifest(folder: Path, *names: str, site: str = "site-a") -> None:
    files = [(name, "patches", 5, None) for name in names]
    write_manifest(folder / "manifest.json", manifest_of(folder, files, run="r", site=site))  # type: ignore[arg-type]


def test_converted_shards_have_a_manifest_of_the_same_run_and_site(folder: Path, tmp_path: Path) -> None:
    (folder / "sampled").mkdir()
    (folder / "1.patches.h5").rename(folder / "sampled" / "1.patches.h5")
    list_in_manifest(folder, "0.patches.h5", "sampled/1.patches.h5")
    out = tmp_path / "jpeg"
    done = camnet("shards", "convert", folder, out, "--to", "jpeg", "--json")
    assert (done.code, json.loads(done.output)["manifest"]) == (0, str(out / "manifest.json"))
    manifest = read_manifest(out / "manifest.json")
    assert (manifest.run, manifest.site) == ("r", "site-a")
    entries = [(entry.path, entry.kind, entry.rows) for entry in manifest.entries]
    assert entries == [("0.patches.h5", "patches", 5), ("sampled/1.patches.h5", "patches", 5)]
    assert camnet("shards", "verify", "--manifest", out / "manifest.json").code == 0
    assert camnet("shards", "convert", folder, out, "--to", "jpeg").code == 0
    assert read_manifest(out / "manifest.json") == manifest


def test_a_manifest_keeps_what_earlier_conversions_made(folder: Path, tmp_path: Path) -> None:
    list_in_manifest(folder, "0.patches.h5", "1.patches.h5")
    for name in ("0.patches.h5", "1.patches.h5"):
        assert camnet("shards", "convert", folder / name, tmp_path / "out", "--to", "jpeg").code == 0
    listed = read_manifest(tmp_path / "out" / "manifest.json").entries
    assert [entry.path for entry in listed] == ["0.patches.h5", "1.patches.h5"]
    with (tmp_path / "out" / "0.patches.h5").open("ab") as file:
        file.write(b"more")
    changed = camnet("shards", "convert", folder / "1.patches.h5", tmp_path / "out", "--to", "jpeg")
    assert (changed.code, changed.error["subject"]) == (2, str(tmp_path / "out" / "0.patches.h5"))
    assert read_manifest(tmp_path / "out" / "manifest.json").entries == listed
    (tmp_path / "out" / "0.patches.h5").unlink()
    assert camnet("shards", "convert", folder / "1.patches.h5", tmp_path / "out", "--to", "jpeg").code == 2


def test_a_manifest_is_written_only_when_all_is_finished_and_its_origin_known(
    folder: Path, bad: Path, tmp_path: Path
) -> None:
    origin = ("--run", "r", "--site", "site-b")
    assert camnet("shards", "convert", folder, tmp_path / "out", "--to", "jpeg", *origin).code == 3
    assert not (tmp_path / "out" / "manifest.json").exists()
    bad.unlink()
    unknown = camnet("shards", "convert", folder, tmp_path / "out", "--to", "jpeg", "--json")
    assert (unknown.code, json.loads(unknown.output)["manifest"]) == (0, None)
    assert camnet("shards", "convert", folder, tmp_path / "out", "--to", "jpeg", *origin).code == 0
    assert read_manifest(tmp_path / "out" / "manifest.json").site == "site-b"
    other = camnet("shards", "convert", folder, tmp_path / "out", "--to", "jpeg", "--run", "r", "--site", "site-c")
    assert (other.code, other.error["subject"]) == (2, str(tmp_path / "out" / "manifest.json"))
    assert camnet("shards", "convert", folder, tmp_path / "out", "--to", "jpeg", "--run", "r").code == 2
    list_in_manifest(folder, "0.patches.h5")
    mixed = camnet("shards", "convert", folder, tmp_path / "mixed", "--to", "jpeg")
    assert (mixed.code, "several runs or sites" in mixed.error["cause"]) == (2, True)
    assert not (tmp_path / "mixed").exists()


def test_only_a_slide_has_tiles(folder: Path, tmp_path: Path) -> None:
    done = camnet("shards", "convert", folder, tmp_path / "out", "--to", "tiles")
    assert (done.code, "only a slide has tiles" in done.error["cause"]) == (2, True)
    assert "preprocess.encoding" in done.error["remedy"]
    assert not (tmp_path / "out").exists()
    inside = camnet("shards", "convert", folder, folder / "raw", "--to", "raw")
    assert (inside.code, inside.error["subject"]) == (2, str(folder / "raw"))


def test_export_in_each_format(folder: Path, bad: Path, tmp_path: Path) -> None:
    png = camnet("shards", "export", folder, tmp_path / "png", "--to", "png")
    assert (png.code, png.error["error"]) == (3, "PartialResult")
    counts = {name: len(list((tmp_path / "png" / name).glob("*.png"))) for name in ("tumour", "normal", "unknown")}
    assert counts == {"tumour": 4, "normal": 4, "unknown": 2}
    bad.unlink()
    again = camnet("shards", "export", folder, tmp_path / "png", "--to", "png", "--json")
    assert (again.code, [done["reused"] for done in json.loads(again.output)["exported"]]) == (0, [True, True])
    tars = camnet(
        "shards", "export", folder, tmp_path / "tar", "--to", "webdataset", "--image", "jpg", "--max-tar-bytes", "20480"
    )
    assert tars.code == 0
    names = []
    for path in (tmp_path / "tar").glob("*.tar"):
        with tarfile.open(path) as tar:
            names += tar.getnames()
    assert len(names) == 3 * 10
    assert {Path(name).suffix for name in names} == {".jpg", ".cls", ".json"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("out", "--to", "png", "--max-tar-bytes", "20480"), "--max-tar-bytes"),
        (("out", "--to", "original", "--image", "jpg"), "--image"),
        (("shards/0.patches.h5", "--to", "png"), "shards/0.patches.h5"),
    ],
)
def test_an_export_that_makes_no_sense_is_refused(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    name, *options = arguments
    done = camnet("shards", "export", folder, folder.parent / name, *options)
    assert done.code == 2
    assert str(done.error["subject"]).endswith(said)


def test_export_to_the_original_layout_and_import_of_it(folder: Path, tmp_path: Path) -> None:
    assert camnet("shards", "export", folder, tmp_path / "old", "--to", "original", "--mask-level", "6").code == 0
    done = camnet(
        "shards",
        "import",
        tmp_path / "old" / "1.h5",
        "--to",
        tmp_path / "back",
        "--mpp",
        "0.5",
        "--split",
        "validation",
    )
    assert done.code == 0, done.errors
    told = json.loads(camnet("shards", "info", tmp_path / "back", "--json").output)
    (facts,) = told["shards"]
    assert (facts["slide"], facts["split"], facts["rows"], facts["mpp"]) == ("patient_030_node_1", "validation", 4, 0.5)
    wrong = camnet("shards", "import", tmp_path / "old" / "1.h5", "--to", tmp_path, "--mpp", "-1", "--split", "test")
    assert (wrong.code, "mpp" in wrong.error["cause"]) == (2, True)


def test_link_shows_shards_as_one(folder: Path) -> None:
    done = camnet("shards", "link", folder, "--to", folder / "all.h5")
    assert done.code == 0, done.errors
    with h5py.File(folder / "all.h5") as file:
        assert np.array_equal(file["patches"][5:], coloured(5))
    refused = camnet("shards", "info", folder / "all.h5")
    assert (refused.code, refused.error["error"]) == (4, "IntegrityError")


@pytest.fixture
def parts(folder: Path) -> list[Path]:
    """The first slide in parts, the second of which is empty."""
    return cut_in_parts(folder / "0.patches.h5", [2, 2])


def test_parts_of_a_large_slide_are_looked_at_and_converted_as_they_are(folder: Path, parts: list[Path]) -> None:
    head, *lines = [line.split()[:7] for line in camnet("shards", "info", folder).output.splitlines()]
    assert head == ["slide", "part", "patient", "centre", "split", "encoding", "patches"]
    assert [(line[0], line[1], line[6]) for line in lines] == [
        *(("patient_030_node_0", f"{part}/3", rows) for part, rows in ((1, "2"), (2, "0"), (3, "3"))),
        ("patient_030_node_1", "-", "5"),
    ]
    told = json.loads(camnet("shards", "info", folder, "--json").output)["shards"]
    assert [(one["part"], one["parts"]) for one in told] == [(1, 3), (2, 3), (3, 3), (None, None)]
    assert camnet("shards", "verify", folder).output == "4 good (10 patches), 0 bad\n"
    out = folder.parent / "jpeg"
    assert camnet("shards", "convert", folder, out, "--to", "jpeg").code == 0
    with open_slide_shards([out / path.name for path in parts]) as slide:
        assert (slide.rows, slide.label.tolist(), slide.attributes.encoding) == (5, LABELS, "jpeg")


def test_parts_of_a_large_slide_are_exported_and_linked_beside_each_other(folder: Path, parts: list[Path]) -> None:
    out = folder.parent / "out"
    for to in ("png", "webdataset", "original"):
        done = camnet("shards", "export", folder, out / to, "--to", to, "--json")
        assert done.code == 0, done.errors
        written = [one["written"] for one in json.loads(done.output)["exported"]]
        assert sum(one["patches"] + one["left_out"] for one in written) == 10
    names = {path.name for path in (out / "png").rglob("*.png")}
    assert len(names) == 10
    assert {f"patient_030_node_0_{64 * row}_{128 * row}.png" for row in range(5)} < names
    keys = []
    for path in (out / "webdataset").glob("*.tar"):
        with tarfile.open(path) as tar:
            keys += [name.removesuffix(".cls") for name in tar.getnames() if name.endswith(".cls")]
    assert sorted(keys) == sorted(name.removesuffix(".png") for name in names)
    found = 0
    for path in (out / "original").glob("0.part-*.h5"):
        with h5py.File(path) as file:
            found += sum(len(file[f"{kind}/level7/centre1/patient030/node0/patches"]) for kind in file)
    assert found == 4, "all with a label"

    linked = camnet("shards", "link", folder, "--to", folder.parent / "all.h5")
    assert linked.output.endswith("10 patches of 4 shards\n")
    with h5py.File(folder.parent / "all.h5") as file:
        assert file["shards/slide"].asstr()[:].tolist() == ["patient_030_node_0"] * 3 + ["patient_030_node_1"]
        assert np.array_equal(file["patches"][:5], coloured(5))
        assert file["index/label"][:5].tolist() == LABELS

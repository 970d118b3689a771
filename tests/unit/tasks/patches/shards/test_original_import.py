from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.digests import file_digest
from tasks.errors import InputError
from tasks.patches.candidates import NORMAL, TUMOUR
from tasks.patches.filters import white_and_black_fraction
from tasks.patches.shards.export import export_shard
from tasks.patches.shards.original_import import Import, ImportOptions, import_original
from tasks.patches.shards.original_layout import OriginalLayout
from tasks.patches.shards.verify import verify_shard
from tasks.patches.store import open_shard
from tests.services.exported_shards import coloured, write_coloured

OPTIONS = ImportOptions(mpp=0.243, split="train")
OLD = "{tissue}/level7/centre1/patient030/node4"
NEW = "{tissue}/l5/c1/p030/n4/{batch}"
CAMELYON16 = "{tissue}/level7/centre0/patient042_Mask.tif"


def add(file: h5py.File, group: str, patches: NDArray[np.uint8], *, first: int = 0) -> None:
    """Add patches (RGB) as that tool stored them; locations are (first, 2 first), one more for each row."""
    rows = first + np.arange(len(patches))
    file[f"{group}/patches"] = patches[..., ::-1]
    file[f"{group}/locations"] = np.stack([rows, 2 * rows], axis=1)


def layout(path: Path, pattern: str = OLD) -> Path:
    with h5py.File(path, "w") as file:
        add(file, pattern.format(tissue="tumor", batch=0), coloured(3), first=5)
        add(file, pattern.format(tissue="normal", batch=0), coloured(7)[3:], first=50)
    return path


def imported(path: Path, folder: Path, options: ImportOptions = OPTIONS) -> Import:
    done = import_original(path, folder, options)
    for shard in done.shards:
        assert verify_shard(shard.path) == shard.rows
    return done


@pytest.mark.parametrize(
    ("pattern", "slide", "patient", "node", "centre", "downsample"),
    [
        (OLD, "patient_030_node_4", "patient_030", 4, 1, 128),
        (NEW, "patient_030_node_4", "patient_030", 4, 1, 32),
        (CAMELYON16, "tumor_042", "tumor_042", None, None, 128),
    ],
)
def test_each_layout_becomes_a_shard_of_rgb_patches_in_level0_pixels(
    tmp_path: Path, pattern: str, slide: str, patient: str, node: int | None, centre: int | None, downsample: int
) -> None:
    path = layout(tmp_path / "patches.hdf5", pattern)
    (made,) = imported(path, tmp_path / "out").shards
    assert (made.path, made.rows) == (tmp_path / "out" / f"{slide}.patches.h5", 7)
    with open_shard(made.path) as shard:
        stated = shard.attributes
        assert (stated.slide, stated.patient, stated.node, stated.centre) == (slide, patient, node, centre)
        assert (stated.mpp, stated.split, stated.truth, stated.patch_px) == (0.243, "train", "tumour", 16)
        assert np.array_equal(shard.read(np.arange(7)), coloured(7))
        assert shard.label.tolist() == [TUMOUR] * 3 + [NORMAL] * 4
        rows = [5, 6, 7, 50, 51, 52, 53]
        assert shard.y_level0_px.tolist() == [row * downsample for row in rows]
        assert shard.x_level0_px.tolist() == [2 * row * downsample for row in rows]
        assert np.isnan(shard.tumour_fraction).all()
        assert np.isnan(shard.tissue_fraction).all()
        assert shard.white_fraction.tolist() == [
            np.float32(white_and_black_fraction(patch, 200)[0]) for patch in coloured(7)
        ]


def test_what_is_not_known_is_not_made_up(tmp_path: Path) -> None:
    path = layout(tmp_path / "patches.hdf5")
    (made,) = imported(path, tmp_path / "out").shards
    with open_shard(made.path) as shard:
        stated = shard.attributes
    origin = json.loads(stated.configuration)
    assert origin["imported"] == "patches.hdf5"
    assert origin["digest"] == file_digest(path)
    assert stated.slide_digest == "unknown"
    assert (stated.slide_width_px, stated.slide_height_px, stated.seed) == (None, None, None)
    assert (stated.sampling, stated.stride_px) == ("imported", 0)


def test_batches_are_joined_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for batch in (10, 2, 0):
            add(file, NEW.format(tissue="normal", batch=batch), coloured(12)[batch : batch + 1], first=batch)
    (made,) = imported(tmp_path / "a.h5", tmp_path / "out").shards
    with open_shard(made.path) as shard:
        assert (shard.y_level0_px // 32).tolist() == [0, 2, 10]
        assert np.array_equal(shard.read(np.arange(3)), coloured(12)[[0, 2, 10]])
        assert shard.attributes.truth == "unknown", "normal patches alone do not make a negative slide"


def test_the_downsample_of_a_slide_can_be_given(tmp_path: Path) -> None:
    options = ImportOptions(mpp=0.25, split="test", downsample=128.04)
    (made,) = imported(layout(tmp_path / "a.h5"), tmp_path / "out", options).shards
    with open_shard(made.path) as shard:
        assert shard.y_level0_px.tolist() == [round(row * 128.04) for row in (5, 6, 7, 50, 51, 52, 53)]


def test_a_wrong_centre_of_that_tool_is_set_right(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        add(file, "normal/l5/c0/p085/n1/0", coloured(1))
    (made,) = imported(tmp_path / "a.h5", tmp_path / "out").shards
    with open_shard(made.path) as shard:
        assert shard.attributes.centre == 4


def test_the_same_import_is_found_and_another_one_refused(tmp_path: Path) -> None:
    path, out = layout(tmp_path / "a.h5"), tmp_path / "out"
    assert [shard.reused for shard in imported(path, out).shards] == [False]
    before = (out / "patient_030_node_4.patches.h5").read_bytes()
    assert [shard.reused for shard in imported(path, out).shards] == [True]
    done = imported(path, out, ImportOptions(mpp=0.5, split="train"))
    assert done.shards == []
    assert [error.cause for error in done.errors] == ["is there already, made of something else"]
    assert (out / "patient_030_node_4.patches.h5").read_bytes() == before


def test_export_and_import_are_inverse(tmp_path: Path) -> None:
    labels = [1, 1, 0, 0, 0]
    shard = write_coloured(tmp_path / "a.patches.h5", labels, step_px=128)
    export_shard(shard, tmp_path / "original", OriginalLayout())
    (made,) = imported(tmp_path / "original" / "a.h5", tmp_path / "back", ImportOptions(mpp=0.5, split="train")).shards
    with open_shard(shard) as first, open_shard(made.path) as back:
        assert np.array_equal(first.read(np.arange(5)), back.read(np.arange(5)))
        for column in ("x_level0_px", "y_level0_px", "label"):
            assert np.array_equal(getattr(first, column), getattr(back, column))


def test_the_published_file_is_imported(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "camelyon" / "process_l1" / "cam17_patches.hdf5"
    done = imported(path, tmp_path)
    assert (done.errors, done.others) == ([], [])
    assert [(shard.slide, shard.rows) for shard in done.shards] == [
        ("patient_010_node_4", 10),
        ("patient_030_node_4", 10),
    ]
    with open_shard(done.shards[0].path) as shard, h5py.File(path) as file:
        pixels = shard.read(np.arange(10))
        stored = file["tumor/level7/centre0/patient010/node4/patches"][:]
        assert np.array_equal(pixels[:5], stored[..., ::-1])
        assert shard.label.tolist() == [TUMOUR] * 5 + [NORMAL] * 5
        assert (shard.y_level0_px[0], shard.x_level0_px[0]) == (781 * 128, 518 * 128)
        assert shard.attributes.centre == 0
    # Haematoxylin and eosin take up green most, and eosin leaves more red than blue: as BGR, tissue would be blue.
    red, green, blue = pixels.reshape(-1, 3).mean(axis=0)
    assert red > blue > green


def test_a_database_of_concepts_holds_no_patches(real_data: Path, tmp_path: Path) -> None:
    done = import_original(real_data / "camelyon" / "l2_demo" / "demo_concept_measures.h5py", tmp_path, OPTIONS)
    assert done.shards == []
    assert [error.cause for error in done.errors] == ["holds no patches of the original tool"]
    assert "all500" in done.others


GROUP = OLD.format(tissue="tumor")


def _links(file: h5py.File, link: object) -> None:
    del file[GROUP]
    file[GROUP] = link


def _external(file: h5py.File) -> None:
    with h5py.File(Path(file.filename).with_name("other.h5"), "w") as other:
        add(other, "x", coloured(2))
    _links(file, h5py.ExternalLink("other.h5", "/x"))


def _external_dataset(file: h5py.File) -> None:
    with h5py.File(Path(file.filename).with_name("other.h5"), "w") as other:
        add(other, "x", coloured(3))
    del file[f"{GROUP}/patches"]
    file[f"{GROUP}/patches"] = h5py.ExternalLink("other.h5", "/x/patches")


def _virtual(file: h5py.File) -> None:
    with h5py.File(Path(file.filename).with_name("other.h5"), "w") as other:
        add(other, "x", coloured(3))
    source = h5py.VirtualLayout((3, 16, 16, 3), np.uint8)
    source[:] = h5py.VirtualSource("other.h5", "x/patches", (3, 16, 16, 3))
    del file[f"{GROUP}/patches"]
    file.create_virtual_dataset(f"{GROUP}/patches", source)


def _external_storage(file: h5py.File) -> None:
    secret = Path(file.filename).with_name("secret")
    secret.write_bytes(b"s" * 3 * 16 * 16 * 3)
    del file[f"{GROUP}/patches"]
    file.create_dataset(f"{GROUP}/patches", (3, 16, 16, 3), "uint8", external=[(str(secret), 0, secret.stat().st_size)])


def _replaced(name: str, **options: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[f"{GROUP}/{name}"]
        file.create_dataset(f"{GROUP}/{name}", **options)

    return change


HOSTILE: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "soft link": (lambda file: _links(file, h5py.SoftLink("/normal")), f"has no groups of its own at {GROUP}"),
    "soft link to nothing": (lambda file: _links(file, h5py.SoftLink("/none")), f"at {GROUP}"),
    "external link": (_external, f"has no groups of its own at {GROUP}"),
    "hard link upwards": (lambda file: _links(file, file["tumor/level7"]), f"at {GROUP}"),
    "external dataset": (_external_dataset, "has no .*/patches of its own"),
    "virtual dataset": (_virtual, "behind a filter or in other files"),
    "external storage": (_external_storage, "behind a filter or in other files"),
    "gzip": (_replaced("patches", data=coloured(3), compression="gzip"), "behind a filter or in other files"),
    "bomb": (_replaced("patches", shape=(2**40, 16, 16, 3), dtype="u1", chunks=(1, 16, 16, 3)), "and holds 0"),
    "floats": (_replaced("patches", data=coloured(3) / 255), "has no .*/patches of type uint8"),
    "grey": (_replaced("patches", data=coloured(3)[..., 0]), r"has patches \(3, 16, 16\) with locations \(3, 2\)"),
    "oblong": (_replaced("patches", data=coloured(3)[:, :8]), r"has patches \(3, 8, 16, 3\) with"),
    "scalar": (_replaced("patches", data=np.uint8(1)), r"has patches \(\) with"),
    "fewer locations": (_replaced("locations", data=np.zeros((2, 2), np.int64)), r"with locations \(2, 2\)"),
    "locations in three dimensions": (
        _replaced("locations", data=np.zeros((3, 3), np.int64)),
        r"with locations \(3, 3\)",
    ),
    "strings": (_replaced("locations", data=[[b"1", b"2"]] * 3), "has no .*/locations of type int64"),
    "negative location": (_replaced("locations", data=np.full((3, 2), -1)), "has impossible locations"),
    "far location": (_replaced("locations", data=np.full((3, 2), 2**62)), "has impossible locations"),
    "a group for patches": (
        lambda file: (file.__delitem__(f"{GROUP}/patches"), file.create_group(f"{GROUP}/patches"))[0],
        "has no .*/patches of type uint8",
    ),
    "a dataset for a group": (
        lambda file: (file.__delitem__(GROUP), file.create_dataset(GROUP, data=1))[0],
        f"has no groups of its own at {GROUP}",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_not_stored_plainly_is_named_and_the_other_slides_are_imported(tmp_path: Path, name: str) -> None:
    change, said = HOSTILE[name]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        add(file, OLD.format(tissue="tumor"), coloured(3))
        add(file, CAMELYON16.format(tissue="normal"), coloured(2))
        change(file)
    done = imported(tmp_path / "a.h5", tmp_path / "out")
    assert [shard.slide for shard in done.shards] == ["tumor_042"]
    (error,) = done.errors
    with pytest.raises(InputError, match=said):
        raise error
    assert error.subject == str(tmp_path / "a.h5")


def test_one_group_with_many_names_is_read_once(tmp_path: Path) -> None:
    # Six steps of a hundred names each would be a million million slides in a file of some kilobytes.
    with h5py.File(tmp_path / "a.h5", "w") as file:
        add(file, "tumor/l5/c0/p000/n0/0", coloured(1))
        for step, name in (
            ("tumor", "l{}"),
            ("tumor/l5", "c{}"),
            ("tumor/l5/c0", "p{:03}"),
            ("tumor/l5/c0/p000", "n{}"),
        ):
            first = next(iter(file[step].values()))
            for number in range(50):
                if (again := name.format(number)) not in file[step]:
                    file[step][again] = first
    done = imported(tmp_path / "a.h5", tmp_path / "out")
    assert len(done.shards) == 1
    assert len(done.errors) == 1


def test_patches_that_two_groups_share_are_read_once(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        add(file, "tumor/l5/c0/p000/n0/0", coloured(1))
        for name in ("patches", "locations"):
            file[f"tumor/l5/c0/p001/n0/0/{name}"] = file[f"tumor/l5/c0/p000/n0/0/{name}"]
    done = imported(tmp_path / "a.h5", tmp_path / "out")
    assert [shard.slide for shard in done.shards] == ["patient_000_node_0"]
    assert len(done.errors) == 1


def test_other_things_in_the_file_are_named(tmp_path: Path) -> None:
    path = layout(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["notes"] = "text"
        file["tumor/level7/centre1/patient030/node4/extra"] = 1
        file["normal/level7/hospital/x"] = 1
    done = imported(path, tmp_path / "out")
    assert (len(done.shards), done.errors) == (1, [])
    assert done.others == ["normal/level7/hospital", "notes", "tumor/level7/centre1/patient030/node4/extra"]


def test_patches_of_two_sizes_make_no_shard(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        add(file, NEW.format(tissue="normal", batch=0), coloured(1))
        add(file, NEW.format(tissue="normal", batch=1), coloured(1)[:, :8, :8])
    (error,) = imported(tmp_path / "a.h5", tmp_path / "out").errors
    assert error.cause == "has patches of [8, 16] px for patient_030_node_4"


@pytest.mark.parametrize("tenths", range(10))
def test_a_file_that_is_cut_off_is_named(tmp_path: Path, tenths: int) -> None:
    path = layout(tmp_path / "a.h5")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * tenths // 10])
    with pytest.raises(InputError, match="is no complete HDF5 file") as caught:
        import_original(path, tmp_path / "out", OPTIONS)
    assert caught.value.subject == str(path)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there"):
        import_original(tmp_path / "none.h5", tmp_path / "out", OPTIONS)


def test_flipped_bits_are_errors_or_harmless(tmp_path: Path) -> None:
    data = layout(tmp_path / "a.h5").read_bytes()
    refused = 0
    for at in range(0, min(len(data), 4096), 11):
        if not data[at]:
            continue
        path = tmp_path / f"{at}.h5"
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x04]) + data[at + 1 :])
        try:
            refused += bool(import_original(path, tmp_path / f"out{at}", OPTIONS).errors)
        except InputError:
            refused += 1
        path.unlink()
    assert refused > 5

from __future__ import annotations

from pathlib import Path

from flows.infer import grid_entries, slide_inputs
from transfer.manifest import Entry, Manifest

DIGESTS = [f"sha256:{number:064x}" for number in range(20)]


def manifest(**rows: int | None) -> Manifest:
    entries = [
        Entry(path=path, kind="report" if count is None else "patches", bytes=1, rows=count, digest=DIGESTS[place])
        for place, (path, count) in enumerate(sorted(rows.items()))
    ]
    return Manifest(run="r", site="s", entries=tuple(entries))


FILES: dict[str, int | None] = {
    "annotations/b.geojson": None,
    "grid/a.patches.h5": 3,
    "grid/b.part-0001-of-0003.patches.h5": 0,
    "grid/b.part-0002-of-0003.patches.h5": 4,
    "grid/b.part-0003-of-0003.patches.h5": 0,
    "grid/c.part-0001-of-0002.patches.h5": 0,
    "grid/c.part-0002-of-0002.patches.h5": 0,
    "grid/d.patches.h5": 0,
    "sampled/a.patches.h5": 9,
    "sampled/b.patches.h5": 9,
    "thumbnails/a.jpg": None,
    "thumbnails/b.jpg": None,
}


def test_shards_are_gathered_by_slide_with_all_parts_and_slides_without_a_patch_are_left_out() -> None:
    found = grid_entries(manifest(**FILES))
    assert {name: [entry.path for entry in entries] for name, entries in found.items()} == {
        "a": ["grid/a.patches.h5"],
        "b": [f"grid/b.part-000{part}-of-0003.patches.h5" for part in (1, 2, 3)],
    }


def test_each_slide_is_scored_once_with_its_own_thumbnail_and_annotation() -> None:
    folder = Path("/site/run")
    a, b = slide_inputs(manifest(**FILES), folder)
    assert a.shards == (folder / "grid/a.patches.h5",)
    assert a.annotation is None
    assert [path.name[:11] for path in b.shards] == ["b.part-0001", "b.part-0002", "b.part-0003"]
    assert b.shard_digests == tuple(DIGESTS[2:5])
    assert b.thumbnail == folder / "thumbnails/b.jpg"
    assert b.annotation == folder / "annotations/b.geojson"

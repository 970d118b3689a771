from __future__ import annotations

from pathlib import Path

import h5py
import pytest

from flows.shard_batch import each, verify_files
from tasks.errors import CamNetError, InputError, IntegrityError, PartialResult, PermanentFault
from tests.services.exported_shards import write_coloured
from transfer.manifest import manifest_of, write_manifest


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Two shards and a thumbnail with their manifest."""
    folder = tmp_path / "patches"
    (folder / "sampled").mkdir(parents=True)
    for name, labels in (("a", [1, 0, 0]), ("b", [0, 0])):
        write_coloured(folder / "sampled" / f"{name}.patches.h5", labels)
    (folder / "a.jpg").write_bytes(b"picture")
    manifest = manifest_of(
        folder,
        [
            ("sampled/a.patches.h5", "patches", 3, None),
            ("sampled/b.patches.h5", "patches", 2, None),
            ("a.jpg", "thumbnail", None, None),
        ],
        run="test",
        site="site-a",
    )
    write_manifest(folder / "manifest.json", manifest)
    return folder


def causes(errors: list[CamNetError]) -> dict[str, str]:
    return {Path(str(error.subject)).name: error.cause for error in errors}


def test_all_files_of_a_manifest_are_verified(site: Path) -> None:
    batch = verify_files([], site / "manifest.json")
    assert {path.name: rows for path, rows in batch.results} == {"a.jpg": 0, "a.patches.h5": 3, "b.patches.h5": 2}
    assert batch.errors == []
    batch.raise_if_bad()


def test_named_shards_are_compared_with_their_entries(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site)
    for path in (
        site / "sampled" / "a.patches.h5",
        Path("sampled/a.patches.h5"),
        Path("sampled/../sampled/a.patches.h5"),
    ):
        batch = verify_files([path], Path("manifest.json"))
        assert (batch.results, batch.errors) == ([(path, 3)], [])


def test_every_bad_file_is_named(site: Path) -> None:
    shard = site / "sampled" / "a.patches.h5"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\xff")
    (site / "sampled" / "b.patches.h5").write_bytes(b"short")
    (site / "a.jpg").unlink()
    batch = verify_files([], site / "manifest.json")
    assert batch.results == []
    said = causes(batch.errors)
    assert said["a.patches.h5"] == "has other bytes than its digest says"
    assert said["b.patches.h5"].startswith("has 5 bytes, not ")
    assert said["a.jpg"].startswith("cannot be read")
    with pytest.raises(IntegrityError, match="3 of 3 are not what they should be"):
        batch.raise_if_bad()


def test_a_shard_that_the_manifest_does_not_know_is_bad(site: Path) -> None:
    more = write_coloured(site / "more.patches.h5", [0])
    batch = verify_files([more, site / "sampled" / "b.patches.h5"], site / "manifest.json")
    assert [path.name for path, _ in batch.results] == ["b.patches.h5"]
    with pytest.raises(IntegrityError, match="is not in"):
        batch.raise_if_bad()


def test_a_digest_does_not_excuse_values_that_make_no_sense(site: Path) -> None:
    with h5py.File(site / "sampled" / "a.patches.h5", "r+") as file:
        file["index/x_level0_px"][0] = -1
    entries = [("sampled/a.patches.h5", "patches", 3, None), ("sampled/b.patches.h5", "patches", 4, None)]
    write_manifest(site / "manifest.json", manifest_of(site, entries, run="test", site="site-a"))  # type: ignore[arg-type]
    said = causes(verify_files([], site / "manifest.json").errors)
    assert said["a.patches.h5"].startswith("has x_level0_px out of the slide")
    assert said["b.patches.h5"] == "has 2 rows, not 4"


def test_a_manifest_that_was_changed_is_refused(site: Path) -> None:
    path = site / "manifest.json"
    path.write_text(path.read_text().replace('"rows": 3', '"rows": 4'))
    with pytest.raises(IntegrityError, match="was changed after it was written"):
        verify_files([], path)


PATHS = [Path(name) for name in "abc"]


@pytest.mark.parametrize(
    ("bad", "raised"), [("", None), ("b", PartialResult), ("abc", InputError)], ids=["none", "one", "all"]
)
def test_one_bad_file_does_not_stop_the_others(bad: str, raised: type[CamNetError] | None) -> None:
    def work(path: Path) -> str:
        if path.name in bad:
            raise InputError("is bad", subject=path, remedy="leave it")
        return path.name

    batch = each(PATHS, work)
    assert batch.results == [name for name in "abc" if name not in bad]
    assert batch.failures() == [{"subject": name, "cause": "is bad", "remedy": "leave it"} for name in bad]
    if raised is None:
        batch.raise_if_partial()
        return
    with pytest.raises(raised, match=f"{bad[0]}") as caught:
        batch.raise_if_partial()
    assert type(caught.value) is raised


def test_a_full_disk_stops_at_once() -> None:
    tried = []

    def work(path: Path) -> None:
        tried.append(path)
        raise PermanentFault("cannot be written", subject=path)

    with pytest.raises(PermanentFault):
        each(PATHS, work)
    assert tried == PATHS[:1]

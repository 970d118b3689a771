from __future__ import annotations

import json
import os
import string
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.errors import InputError, IntegrityError
from transfer import manifest as module
from transfer.manifest import Entry, Manifest, manifest_of, read_manifest, write_manifest

DIGEST = "sha256:" + "ab" * 32
names = st.text(st.sampled_from(string.ascii_letters + string.digits + " -_.é切"), min_size=1, max_size=8).filter(
    lambda name: name.strip(".") != ""
)
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


def entry(path: str, **changes: object) -> Entry:
    return Entry.model_validate({"path": path, "kind": "scores", "bytes": 3, "digest": DIGEST, **changes})


def manifest(*entries: Entry) -> Manifest:
    return Manifest(run="run-1", site="site-a", entries=entries)


def written(folder: Path, **changes: object) -> Path:
    """A manifest file whose JSON was edited afterwards."""
    path = folder / "manifest.json"
    write_manifest(path, manifest(entry("a"), entry("b")))
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


@given(st.lists(paths, max_size=6), st.integers(0, 1 << 62), st.none() | st.integers(0, 9))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, some: list[str], size: int, rows: int | None
) -> None:
    try:
        original = manifest(*(entry(path, bytes=size, rows=rows) for path in sorted(set(some))))
    except ValidationError as error:
        assert "same name" in str(error) or "is a file and a folder" in str(error)  # noqa: PT017 - the other cases go on
        return
    path = tmp_path_factory.mktemp("m") / "manifest.json"
    write_manifest(path, original)
    again = read_manifest(path)
    assert again == original
    assert again.digest == original.digest
    assert again.total_bytes == size * len(set(some))


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "/",
        "/etc/passwd",
        "../a",
        "a/../b",
        "a/..",
        "./a",
        "a//b",
        "a/",
        "a\\b",
        "a\0b",
        "a\nb",
        "\ud800",
    ],
)
def test_paths_that_are_no_plain_relative_paths_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValidationError):
        entry(path)
    raw = {"path": path, "kind": "scores", "bytes": 3, "rows": None, "digest": DIGEST}
    with pytest.raises(InputError, match="is not a manifest"):
        read_manifest(written(tmp_path, entries=[raw]))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bytes", -1), ("bytes", (1 << 62) + 1), ("bytes", 1 << 63), ("bytes", 10**30),
        ("bytes", 1.0), ("bytes", "3"), ("bytes", True),
        ("bytes", None), ("rows", -1), ("kind", "slide"), ("digest", "ab" * 32), ("digest", "md5:" + "ab" * 16),
        ("digest", "sha256:" + "AB" * 32), ("digest", DIGEST + "\n"), ("other", 1), ("path", 7), ("path", None),
    ],
)  # fmt: skip
def test_entries_that_make_no_sense_are_refused(tmp_path: Path, field: str, value: object) -> None:
    raw = {"path": "a", "kind": "scores", "bytes": 3, "rows": None, "digest": DIGEST, field: value}
    with pytest.raises(InputError, match=r"is not a manifest: entries\.0") as error:
        read_manifest(written(tmp_path, entries=[raw]))
    assert error.value.remedy == "make the manifest again with the stage that wrote the files"


@pytest.mark.parametrize(
    ("some", "words"),
    [
        (["a", "a"], "same name"),
        (["A", "a"], "same name"),
        (["STRASSE", "straße"], "same name"),
        (["e\u0301", "\u00e9"], "same name"),
        (["a", "a/b"], "file and a folder"),
        (["A/b", "a"], "file and a folder"),
        (["b", "a"], "not sorted"),
    ],
)
def test_entries_that_cannot_lie_side_by_side_are_refused(some: list[str], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        manifest(*(entry(path) for path in some))


@given(data=st.data())
def test_any_change_of_the_file_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("m") / "manifest.json"
    original = manifest(entry("a/b.h5", rows=7), entry("c.h5", kind="patches"))
    write_manifest(path, original)
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        assert read_manifest(path) == original  # white space, or an escape of the same character
    except (InputError, IntegrityError) as error:
        assert str(path) in str(error)  # noqa: PT017 - both outcomes are right


@pytest.mark.parametrize(
    "changes",
    [{"run": "run-2"}, {"site": "site-b"}, {"entries": []}, {"digest": DIGEST}],
    ids=lambda change: str(change),
)
def test_an_edited_manifest_is_an_integrity_error(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(IntegrityError, match="was changed after it was written"):
        read_manifest(written(tmp_path, **changes))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe{",
        b"[" * 100_000,
        b'{"schema": "camnet-manifest/2"}',
        b'{"a": 1' + b"0" * 9000,
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a manifest"):
        read_manifest(path)


def test_missing_and_oversized_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_manifest(tmp_path / "missing.json")
    path = written(tmp_path)
    (tmp_path / "line.json").write_bytes(b'{"a": "')
    os.truncate(tmp_path / "line.json", 1 << 30)  # one line of 1 GiB
    tracemalloc.start()
    with pytest.raises(InputError, match="has more than 256 MiB"):
        read_manifest(tmp_path / "line.json")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    monkeypatch.setattr(module, "MAX_MANIFEST_BYTES", 100)
    with pytest.raises(InputError, match="has more than"):
        read_manifest(path)


def test_manifest_of_files(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/x").write_bytes(b"abc")
    (tmp_path / "a").write_bytes(b"")
    made = manifest_of(tmp_path, [("b/x", "scores", 3, None), ("a", "log", None, DIGEST)], run="r", site="s")
    abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert [(one.path, one.bytes, one.rows, one.digest) for one in made.entries] == [
        ("a", 0, None, DIGEST),
        ("b/x", 3, 3, abc),
    ]


def test_manifest_of_refuses_what_is_not_below_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside").write_bytes(b"secret")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "folder").symlink_to(tmp_path)
    for path in ("link", "folder/outside", "missing", "../outside", "."):
        with pytest.raises(InputError, match="not a plain file"):
            manifest_of(root, [(path, "scores", None, None)], run="r", site="s")


def test_the_file_says_its_schema_and_digest(tmp_path: Path) -> None:
    content = json.loads(written(tmp_path).read_text())
    assert content["schema"] == "camnet-manifest/1"
    assert content["digest"] == manifest(entry("a"), entry("b")).digest

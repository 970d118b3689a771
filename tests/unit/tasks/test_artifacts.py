from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.artifacts import Artifact, all_present, describe, read_record, safe_relative_path
from tasks.digests import bytes_digest

PARTS = st.sampled_from(["..", ".", "", "a", "b c", "/", "\\", "~", "...", "..a", "C:", "\0", "\n", "é", "$HOME", "-x"])
PATHS = st.one_of(st.text(), st.lists(PARTS).map("/".join), st.lists(PARTS).map("".join))
ROOT = "/site/root"


def artifact(path: str = "a/b.h5", size_bytes: int = 3) -> Artifact:
    return Artifact(path=path, bytes=size_bytes, digest="sha256:00", made_by="test/1", key="k")


@given(PATHS)
def test_no_accepted_path_leaves_the_root(path: str) -> None:
    try:
        safe_relative_path(path)
    except ValueError:
        return
    joined = os.path.normpath(os.path.join(ROOT, path))  # noqa: PTH118  # pathlib must not judge itself
    assert joined.startswith(ROOT + "/")
    assert joined == f"{ROOT}/{path}", "one file has one path"
    assert not any(ord(character) < 32 for character in path)


@given(st.lists(st.text(st.characters(categories=["L", "N"], include_characters=" .-_'$~"), min_size=1), min_size=1))
def test_every_plain_path_is_accepted(parts: list[str]) -> None:
    parts = [part if part.strip(".") else "x" + part for part in parts]
    assert safe_relative_path("/".join(parts)) == "/".join(parts)


@pytest.mark.parametrize(
    "path",
    [
        *("", ".", "/", "/etc/passwd", "..", "../x", "a/../../x", "a/..", "a//b", "./a", "a/", "a/./b"),
        *("..\\x", "a\0b", "a\nb", "a\x7f"),
    ],
)
def test_paths_that_are_not_plain_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"plain relative path|control characters|the root itself"):
        safe_relative_path(path)
    with pytest.raises(ValidationError):
        artifact(path)


@given(
    st.one_of(st.binary(), st.text().map(str.encode), st.recursive(st.none(), st.lists).map(lambda x: str(x).encode()))
)
def test_garbage_is_no_record(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder, "record.json")
        record.write_bytes(data)
        assert read_record(record, Artifact) is None


def test_a_record_comes_back_as_it_was_left(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(artifact().model_dump_json())
    assert read_record(tmp_path / "record.json", Artifact) == artifact()


def test_a_record_of_another_version_or_none_is_none(tmp_path: Path) -> None:
    (tmp_path / "newer.json").write_text(artifact().model_dump_json()[:-1] + ', "colour": "blue"}')
    (tmp_path / "cut.json").write_text(artifact().model_dump_json()[:-1])
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for name in ("newer.json", "cut.json", "deep.json", "missing.json", "cut.json/below.json"):
        assert read_record(tmp_path / name, Artifact) is None


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        artifact().bytes = 5  # type: ignore[misc]  # what mypy refuses must also fail when it runs


def test_a_file_is_described_by_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.h5").write_bytes(b"abc")
    made = describe(tmp_path, tmp_path / "a" / "b.h5", made_by="test/1", key="k")
    assert made == artifact().model_copy(update={"digest": bytes_digest(b"abc")})
    assert made.under(tmp_path) == tmp_path / "a" / "b.h5"
    with pytest.raises(ValueError, match="is not in the subpath"):
        describe(tmp_path / "a", tmp_path / "c", made_by="test/1", key="k")


def test_files_are_present_when_all_are_there_with_their_sizes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"abc")
    both = [artifact("a"), artifact("b")]
    assert all_present(tmp_path, both)
    (tmp_path / "b").write_bytes(b"ab")
    assert not all_present(tmp_path, both)
    (tmp_path / "b").unlink()
    assert not all_present(tmp_path, both)
    assert not all_present(tmp_path, [artifact("a"), artifact("a/below")])

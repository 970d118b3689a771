from __future__ import annotations

import random
from pathlib import Path

import h5py
import numpy as np
import pytest

from tasks.errors import InputError, IntegrityError
from tasks.patches.shard_names import is_like_a_part, shard_name, slide_of
from tasks.patches.slide_shards import open_slide_shards
from tasks.patches.store import open_shard
from tests.services.exported_shards import write_coloured
from tests.services.part_shards import cut_in_parts

LABELS = [1, 1, 0, 0, -1, 0, 1, 0, 0]
BORDERS = [4, 4, 8]
"""The second of four parts is empty."""


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    return cut_in_parts(write_coloured(tmp_path / "a.patches.h5", LABELS), BORDERS)


def test_parts_are_read_as_one_shard_in_whatever_order_they_are_named(tmp_path: Path, parts: list[Path]) -> None:
    whole = write_coloured(tmp_path / "whole.patches.h5", LABELS)
    shuffled = parts.copy()
    random.Random(3).shuffle(shuffled)
    with open_shard(whole) as shard, open_slide_shards(shuffled) as slide:
        assert slide.rows == shard.rows == len(LABELS)
        for name in ("x_level0_px", "y_level0_px", "label", "tumour_fraction"):
            assert np.array_equal(getattr(slide, name), getattr(shard, name))
        for rows in ([], [0], [8, 0, 3, 4, 4, 7], list(range(9)), [5, 4]):
            assert np.array_equal(slide.read(np.array(rows, np.int64)), shard.read(np.array(rows, np.int64)))
        for rows in ([9], [-1]):
            with pytest.raises(IndexError):
                slide.read(np.array(rows))


def test_a_whole_shard_is_a_slide(tmp_path: Path) -> None:
    whole = write_coloured(tmp_path / "whole.patches.h5", LABELS)
    with open_slide_shards([whole]) as slide:
        assert (slide.path, slide.rows) == (whole, 9)


def test_a_missing_part_is_named(parts: list[Path]) -> None:
    for chosen in (parts[:1], parts[:2], [parts[0], parts[3]]):
        numbers = {parts.index(path) + 1 for path in chosen}
        missing = ", ".join(str(number) for number in (1, 2, 3, 4) if number not in numbers)
        with (
            pytest.raises(InputError, match=f"one of 4 parts .* missing: {missing}"),
            open_slide_shards(chosen),
        ):
            pass
    parts[2].unlink()
    with pytest.raises(IntegrityError, match="is not there"), open_slide_shards(parts):
        pass


def test_what_does_not_belong_together_is_refused(tmp_path: Path, parts: list[Path]) -> None:
    with pytest.raises(InputError, match="two shards of one part"), open_slide_shards([*parts, parts[1]]):
        pass
    whole = write_coloured(tmp_path / "whole.patches.h5", LABELS)
    with pytest.raises(InputError, match="not parts of one slide, cut in one way"), open_slide_shards([whole, *parts]):
        pass
    with h5py.File(parts[3], "r+") as file:
        file.attrs["code_version"], file.attrs["converted_from"] = "99", "sha256:own"
    with open_slide_shards(parts) as slide:
        assert slide.rows == 9, "what differs from part to part anyway"
    with h5py.File(parts[3], "r+") as file:
        file.attrs["slide_digest"] = "sha256:other"
    with pytest.raises(InputError, match="not parts of one slide") as caught, open_slide_shards(parts):
        pass
    assert caught.value.subject == str(parts[3])


def test_names_lead_back_to_the_slide() -> None:
    for slide in ("a", "a.b", "a.part-1-of-2", "part-0001-of-0002", "ä b"):
        assert slide_of(shard_name(slide)) == slide
        assert slide_of(shard_name(slide, 3, 12)) == slide
        assert not is_like_a_part(slide)
    assert shard_name("a", 3, 12) == "a.part-0003-of-0012.patches.h5"
    assert is_like_a_part("a.part-0003-of-0012")
    names = [shard_name("a", part, 9999) for part in (1, 2, 10, 100, 9999)]
    assert names == sorted(names)

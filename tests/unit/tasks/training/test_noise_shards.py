from __future__ import annotations

from pathlib import Path

from tasks.training.cohort import read_cohort
from tasks.training.noise_shards import write_noise_shards


def test_the_first_shards_have_each_of_the_totals(tmp_path: Path) -> None:
    paths = write_noise_shards(tmp_path, [24, 10, 3000], patch_px=32)
    assert [path.name for path in paths] == sorted(path.name for path in tmp_path.iterdir())
    sums = [len(read_cohort(paths[:count]).rows("train")) for count in range(1, len(paths) + 1)]
    assert sums == [10, 24, 24 + 2048, 3000]
    rows = read_cohort(paths).rows("train")
    assert set(rows.label.tolist()) == {0, 1}
    assert len(set(rows.patients.tolist())) == len(paths)

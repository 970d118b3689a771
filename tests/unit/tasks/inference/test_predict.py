import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.errors import InputError
from tasks.inference.predict import check_fit, score_patches
from tasks.patches.store import Shard, open_shard
from tasks.training.models import LOGIT_NAME, build
from tests.services.scored_slide import ARCHITECTURE, MPP, PATCH_PX, write_slide


@pytest.fixture(scope="module")
def shard_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("slide")).shard


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return build(ARCHITECTURE, PATCH_PX, seed=2)


class WatchedShard(Shard):
    """A shard that remembers who read what."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.batches: list[int] = []
        self.readers: set[int] = set()

    def read(self, rows: NDArray[np.integer[Any]], pixels: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        self.batches.append(len(rows))
        self.readers.add(threading.get_ident())
        return super().read(rows, pixels)


def test_probabilities_are_the_sigmoid_of_the_logit_in_the_order_of_the_shard(
    shard_path: Path, model: keras.Model
) -> None:
    with open_shard(shard_path) as shard:
        pixels = shard.read(np.arange(shard.rows))
        scores = score_patches(model, shard, batch_size=64)
    logit = model(pixels.astype(np.float32), training=False).numpy()[:, 0].astype(np.float64)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logit)), atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_scores_do_not_depend_on_the_batch_size(shard_path: Path, model: keras.Model, batch_size: int) -> None:
    with open_shard(shard_path) as shard:
        np.testing.assert_allclose(score_patches(model, shard, batch_size), score_patches(model, shard, 64), atol=1e-5)


def test_batches_are_read_by_another_thread_and_never_whole(shard_path: Path, model: keras.Model) -> None:
    with closing(WatchedShard(shard_path)) as shard:
        score_patches(model, shard, batch_size=50)
        assert sum(shard.batches) == shard.rows
        assert max(shard.batches) == 50
        assert len(shard.readers) == 1
        assert threading.get_ident() not in shard.readers


def test_a_model_that_has_overflowed_is_named(shard_path: Path) -> None:
    broken = build(ARCHITECTURE, PATCH_PX)
    head = broken.get_layer(LOGIT_NAME)
    head.set_weights([np.full_like(head.get_weights()[0], np.nan), np.zeros(1)])
    with open_shard(shard_path) as shard, pytest.raises(InputError, match="gives no number"):
        score_patches(broken, shard, batch_size=64)


@pytest.mark.parametrize(
    ("patch_px", "mpp", "cause"),
    [
        (PATCH_PX * 2, MPP, "has patches of 32 px, the model was trained on 64 px"),
        (PATCH_PX, MPP * 2, "0.5 µm per pixel, the model was trained on 1 µm per pixel"),
        (PATCH_PX, MPP * 0.85, "µm per pixel"),
    ],
)
def test_a_shard_of_another_size_or_resolution_is_refused(
    shard_path: Path, patch_px: int, mpp: float, cause: str
) -> None:
    with open_shard(shard_path) as shard, pytest.raises(InputError, match=cause) as refused:
        check_fit(shard, patch_px=patch_px, mpp=mpp)
    assert refused.value.remedy is not None


@pytest.mark.parametrize("mpp", [MPP, MPP * 0.9, MPP * 1.14, None])
def test_scanners_may_differ_by_a_tenth(shard_path: Path, mpp: float | None) -> None:
    with open_shard(shard_path) as shard:
        check_fit(shard, patch_px=PATCH_PX, mpp=mpp)
        assert shard.rows > 0

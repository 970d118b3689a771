"""One measurement of `benchmarks/training.py`: imports and preparation first, then the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from benchmarks.memory import peak_mb
from tasks.patches.store import open_shard
from tasks.training.batches import read_batches
from tasks.training.cohort import LabelledRows, read_cohort
from tasks.training.epoch import RankEpoch, train_epoch

BATCH = 64
TRAIN_BATCH, TRAIN_STEPS, WARM_STEPS = 32, 16, 3
RANDOM_BATCHES, H5PY_BATCHES = 400, {"h5py-rows": 60, "h5py-list": 6}
Pair = tuple[NDArray[np.uint8], NDArray[np.float32]]


def measure(method: str, folder: Path, threads: int) -> dict[str, float]:
    """Run one method; give images, seconds and memory."""
    kind, _, rest = method.partition("-")
    if kind == "reader":
        encoding, _, run = rest.partition("-")
        return _reader(_rows(folder, encoding), threads, int(run) if run else None)
    if kind == "random":
        return _random(sorted(folder.glob("*.raw.h5"))[0])
    if kind == "h5py":
        batches = _h5py_batches(folder, BATCH, by_list=rest == "list")
        return _clocked(lambda: sum(len(label) for _, label in islice(batches, H5PY_BATCHES[method])))
    return _train(folder, threads) if rest == "ours" else _fit(folder, jit="auto" if rest == "fit" else False)


def _rows(folder: Path, encoding: str) -> LabelledRows:
    return read_cohort(sorted(folder.glob(f"*.{encoding}.h5"))).rows("train")


def _plan(rows: LabelledRows, batch_size: int, run_rows: int | None = None) -> RankEpoch:
    return train_epoch(rows, seed=0, epoch=1, rank=0, ranks=1, batch_size=batch_size, run_rows=run_rows)


def _clocked(run: Callable[[], int]) -> dict[str, float]:
    before_mb = peak_mb()
    cpu_s, wall_s = time.process_time(), time.monotonic()
    images = run()
    cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - wall_s
    return {
        "images": images,
        "cpu_s": cpu_s,
        "wall_s": wall_s,
        "peak_mb": peak_mb() - before_mb,
        "waiting_s": 0.0,
    }


def _reader(rows: LabelledRows, threads: int, run_rows: int | None) -> dict[str, float]:
    plan = _plan(rows, BATCH, run_rows)

    def read() -> int:
        return sum(len(batch.rows) for batch in read_batches(rows, plan, threads=threads))

    before_mb = peak_mb()
    read()
    measured = _clocked(read)
    return measured | {"peak_mb": peak_mb() - before_mb}


def _random(path: Path) -> dict[str, float]:
    memory = np.empty((BATCH, 224, 224, 3), np.uint8)
    with open_shard(path) as shard:
        batches = np.random.default_rng(0).integers(0, shard.rows, (RANDOM_BATCHES, BATCH))
        return _clocked(lambda: sum(len(shard.read(rows, memory)) for rows in batches))


def _h5py_batches(folder: Path, batch_size: int, *, by_list: bool = False) -> Iterator[Pair]:
    """Give batches of a permutation of all rows, from open files."""
    files = [h5py.File(path) for path in sorted(folder.glob("*.raw.h5"))]
    labels = [file["index/label"][:] for file in files]
    places = [(number, row) for number, label in enumerate(labels) for row in range(len(label))]
    order = np.random.default_rng(0).permutation(len(places))
    for start in range(0, len(order) - batch_size + 1, batch_size):
        chosen = sorted(places[place] for place in order[start : start + batch_size])
        if by_list:
            in_files = [[row for number, row in chosen if number == wanted] for wanted in range(len(files))]
            pixels = np.concatenate([file["patches"][rows] for file, rows in zip(files, in_files, strict=True) if rows])
        else:
            pixels = np.stack([files[number]["patches"][row] for number, row in chosen])
        yield pixels, np.array([labels[number][row] for number, row in chosen], np.float32)


def _train(folder: Path, threads: int) -> dict[str, float]:
    import horovod.tensorflow as hvd
    import tensorflow as tf

    from tasks.train_config import TrainConfig
    from tasks.training.augment import no_changes
    from tasks.training.models import build
    from tasks.training.step import make_optimizer, make_train_step

    hvd.init()
    rows = _rows(folder, "raw")
    config = TrainConfig(architecture="MobileNetV2", loss="binary-cross-entropy", augment=False)
    model = build(config.architecture, 224, seed=0)
    step = make_train_step(config, model, make_optimizer(config, model))
    batches = read_batches(rows, _plan(rows, TRAIN_BATCH), threads=threads)
    ones, plain, scale = np.ones(TRAIN_BATCH, np.float32), no_changes(TRAIN_BATCH), tf.constant(1 / TRAIN_BATCH)
    waited = 0.0

    def run(steps: int) -> int:
        nonlocal waited
        images = 0
        for batch in islice(batches, steps):
            count = len(batch.rows)
            waited += batch.waiting_s
            losses, _ = step(batch.pixels, batch.label.astype(np.float32), ones[:count], plain[:count], scale)
            np.asarray(losses)
            images += count
        return images

    run(WARM_STEPS)
    waited = 0.0
    measured = _clocked(lambda: run(TRAIN_STEPS))
    batches.close()
    return measured | {"waiting_s": waited}


def _fit(folder: Path, *, jit: bool | str) -> dict[str, float]:
    import keras

    from tasks.training.models import build

    model = build("MobileNetV2", 224, seed=0)
    model.compile(
        keras.optimizers.SGD(1e-3, momentum=0.9, nesterov=True),
        keras.losses.BinaryCrossentropy(from_logits=True),
        jit_compile=jit,
    )
    batches = _h5py_batches(folder, TRAIN_BATCH)
    model.fit(batches, steps_per_epoch=WARM_STEPS, epochs=1, verbose=0)

    def run() -> int:
        model.fit(batches, steps_per_epoch=TRAIN_STEPS, epochs=1, verbose=0)
        return TRAIN_STEPS * TRAIN_BATCH

    return _clocked(run)

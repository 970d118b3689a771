"""Prediction: the tumour probability of every patch of a shard, with bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasks.errors import InputError
from tasks.patches.slide_shards import Patches
from tasks.patches.slide_stain import slide_stain_change
from tasks.stain.change import ColourChange, change_colours
from tasks.stain.reference import StainReference

MPP_TOLERANCE = 0.15


def score_patches(
    model: keras.Model, shard: Patches, batch_size: int, *, stain: StainReference | None = None
) -> NDArray[np.float32]:
    """Score all patches of `shard` in their order.

    The next batch is read by a thread while the network works on the present one, so that at most two
    batches of pixels are in memory.

    Parameters
    ----------
    model
        Keras model: RGB patches (n, H, W, 3) of 0..255 in, one logit (n, 1) out.
    stain
        What the slide's stain is changed to (the model's card); None: nothing.

    Returns
    -------
    NDArray[np.float32]
        Probabilities in [0, 1], (rows,).

    Raises
    ------
    InputError
        The model gives a value that is no number.
    """
    side = shard.attributes.patch_px
    dtype = model.inputs[0].dtype

    @tf.function(input_signature=[tf.TensorSpec((None, side, side, 3), tf.uint8)])
    def probability(pixels: tf.Tensor) -> tf.Tensor:
        logit = model(tf.cast(pixels, dtype), training=False)
        return tf.sigmoid(tf.cast(logit[:, 0], tf.float32))

    change = slide_stain_change(shard, stain) if stain else None
    scores = [probability(pixels).numpy() for pixels in _batches(shard, batch_size, change)]
    probabilities = np.concatenate([np.empty(0, np.float32), *scores])
    if not np.isfinite(probabilities).all():
        raise InputError(
            f"has {np.count_nonzero(~np.isfinite(probabilities))} patches for which the model gives no number",
            subject=shard.path,
            remedy="train the model again with a lower learning rate; its weights have overflowed",
        )
    return probabilities


def check_fit(shard: Patches, *, patch_px: int, mpp: float | None) -> None:
    """Refuse a shard whose patches are not of the size and resolution that a model was trained on.

    Raises
    ------
    InputError
        `patch_px` differs, or the µm per pixel (when the model states them) differ by more than 15 % (scanners do
        by a tenth).
    """
    attributes = shard.attributes
    if attributes.patch_px != patch_px:
        raise InputError(
            f"has patches of {attributes.patch_px} px, the model was trained on {patch_px} px",
            subject=shard.path,
            remedy=f"cut the slide with preprocess.patch_px = {patch_px}, or choose another model",
        )
    if mpp is not None and abs(attributes.mpp / mpp - 1) > MPP_TOLERANCE:
        raise InputError(
            f"has {attributes.mpp:.4g} µm per pixel, the model was trained on {mpp:.4g} µm per pixel",
            subject=shard.path,
            remedy=f"cut the slide with preprocess.mpp = {mpp:.4g}",
        )


def _batches(shard: Patches, batch_size: int, change: ColourChange | None) -> Iterator[NDArray[np.uint8]]:
    blocks = [np.arange(start, min(start + batch_size, shard.rows)) for start in range(0, shard.rows, batch_size)]
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-patches") as reader:
        coming = reader.submit(_read, shard, blocks[0], change) if blocks else None
        for following in [*blocks[1:], None]:
            if coming is None:
                return
            pixels = coming.result()
            coming = reader.submit(_read, shard, following, change) if following is not None else None
            yield pixels


def _read(shard: Patches, rows: NDArray[np.int64], change: ColourChange | None) -> NDArray[np.uint8]:
    pixels = shard.read(rows)
    change_colours(pixels, change)
    return pixels

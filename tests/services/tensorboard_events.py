"""Reads TensorBoard's event files without TensorBoard."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf


def read_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Step and value of each scalar, as TensorBoard's plugin of that name finds them."""
    found: dict[str, list[tuple[int, float]]] = {}
    for file in sorted(folder.iterdir()):
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                plugin = value.metadata.plugin_data.plugin_name
                assert plugin == "scalars", f"{value.tag} would be drawn by {plugin!r}"
                found.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
    return found

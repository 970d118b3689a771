"""The epochs of a training as events that TensorBoard draws while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

# What tf.summary.scalar says of a tensor; that function itself needs TensorBoard, which only a viewer needs.
_SCALAR = tf.compat.v1.SummaryMetadata(
    plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"), data_class="DATA_CLASS_SCALAR"
)
_NOT_DRAWN = {"epoch", "epochs"}


class TensorBoardEvents:
    """Writes each number of each epoch as a scalar ``epoch/NAME``, with the epoch as its step.

    Parameters
    ----------
    folder
        Receives an event file; what earlier attempts left in it stays.
    """

    def __init__(self, folder: Path) -> None:
        self._writer = tf.summary.create_file_writer(str(folder))

    def __call__(self, event: str, values: dict[str, Any]) -> None:
        """Write one event of the training's log; those of other kinds than ``epoch`` are passed over."""
        if event != "epoch":
            return
        with self._writer.as_default(step=int(values["epoch"])):
            for name, value in values.items():
                if isinstance(value, int | float) and not isinstance(value, bool) and name not in _NOT_DRAWN:
                    tf.summary.write(f"epoch/{name}", tf.constant(value, tf.float32), metadata=_SCALAR)
        self._writer.flush()

"""LARS (You et al. 2017, "Large batch training of convolutional networks"): a rate for each layer."""

from __future__ import annotations

import keras
from keras import ops

_TRUST = 0.001


class Lars(keras.optimizers.SGD):
    """Descent with momentum whose rate is, for each kernel, in proportion to the length of the kernel's weights.

    The rate of a kernel w with gradient g is multiplied by ``0.001 |w| / (|g| + decay |w|)``. Biases, and what batch
    normalisation learns, are trained as by plain descent and without decay.

    Parameters
    ----------
    learning_rate
        Global rate; large batches take some units (the paper's: 1 to 30).
    momentum
        Share of the last step that is kept.
    decay
        Share of the weights that is added to the gradient.
    """

    def __init__(self, learning_rate: float, *, momentum: float, decay: float) -> None:
        super().__init__(learning_rate, momentum=momentum)
        self._decay = decay

    def update_step(
        self, gradient: keras.KerasTensor, variable: keras.Variable, learning_rate: keras.KerasTensor
    ) -> None:
        """Update one variable; called by Keras."""
        if len(variable.shape) > 1:
            weights = ops.convert_to_tensor(variable)
            length, slope = ops.norm(weights), ops.norm(gradient)
            trust = _TRUST * length / (slope + self._decay * length)
            # Weights that are all zero could never leave it.
            trust = ops.where(ops.logical_and(length > 0, slope > 0), trust, 1.0)
            gradient = trust * (gradient + self._decay * weights)
        super().update_step(gradient, variable, learning_rate)

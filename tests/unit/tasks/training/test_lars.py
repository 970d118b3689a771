from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tasks.train_config import TrainConfig
from tasks.training.lars import Lars
from tasks.training.step import make_optimizer


def test_each_kernel_moves_in_proportion_to_its_length_and_biases_as_usual() -> None:
    generator = np.random.default_rng(1)
    kernel, bias = generator.normal(size=(5, 3)), generator.normal(size=3)
    slope, bias_slope = generator.normal(size=(5, 3)), generator.normal(size=3)
    variables = [keras.Variable(kernel, dtype="float64"), keras.Variable(bias, dtype="float64")]
    optimizer = Lars(2.0, momentum=0.9, decay=0.01)
    gradients = [tf.constant(slope), tf.constant(bias_slope)]
    step, bias_step = np.zeros((5, 3)), np.zeros(3)
    for _ in range(3):
        length = np.linalg.norm(kernel)
        rate = 2.0 * 0.001 * length / (np.linalg.norm(slope) + 0.01 * length)
        step = 0.9 * step + rate * (slope + 0.01 * kernel)
        bias_step = 0.9 * bias_step + 2.0 * bias_slope
        kernel, bias = kernel - step, bias - bias_step
        optimizer.apply(gradients, variables)
        np.testing.assert_allclose(variables[0].numpy(), kernel, rtol=1e-6)
        np.testing.assert_allclose(variables[1].numpy(), bias, rtol=1e-6)


def test_weights_that_are_zero_still_learn() -> None:
    variable = keras.Variable(np.zeros((2, 2)), dtype="float32")
    Lars(1.0, momentum=0.0, decay=0.0).apply([tf.ones((2, 2))], [variable])
    np.testing.assert_allclose(variable.numpy(), -1.0)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_configuration_makes_it(precision: str) -> None:
    patch = keras.Input((4,))
    model = keras.Model(patch, keras.layers.Dense(1)(patch))
    config = TrainConfig.model_validate({"optimizer": "lars", "weight_decay": 1e-4, "precision": precision})
    optimizer = make_optimizer(config, model)
    inner = optimizer.inner_optimizer if precision == "float16" else optimizer
    assert isinstance(inner, Lars)

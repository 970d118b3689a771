"""Two real ranks under both controllers: what they share must be exact."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from tasks.train_config import TrainConfig
from tasks.training.job import TrainingJob
from tasks.training.launcher import rank_environment, ranks_command
from tests.services.horovod_ranks import BATCH_ROWS, RATE, WAYS, batch_of, plain_network

WORKER = Path(__file__).parents[1] / "services" / "horovod_ranks.py"
Found = tuple[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]]


@pytest.fixture(scope="module", params=["gloo", "mpi"])
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What each of two ranks measured."""
    controller: Literal["gloo", "mpi"] = request.param
    folder = tmp_path_factory.mktemp(controller)
    job = TrainingJob(config=TrainConfig(controller=controller), shards=(), work=folder, ranks=2, seed=0, key="k")
    command = ranks_command(controller, 2, [sys.executable, str(WORKER), str(folder)])
    done = subprocess.run(
        command, env=rank_environment(job), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout.decode()[-3000:]
    return np.load(folder / "rank-0.npz"), np.load(folder / "rank-1.npz")


def single_process(steps: int) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Weights and last gradient of one process that trains on the joined batch, without Horovod."""
    model = plain_network(seed=10)
    pixels = np.concatenate([batch_of(rank)[0] for rank in range(len(BATCH_ROWS))]).astype(np.float32)
    label = np.concatenate([batch_of(rank)[1] for rank in range(len(BATCH_ROWS))])
    optimizer = keras.optimizers.SGD(RATE)
    for _ in range(steps):
        with tf.GradientTape() as tape:
            logit = model(pixels, training=True)[:, 0]
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(label, logit))
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        optimizer.apply(gradients, model.trainable_variables)
    return model.get_weights(), [gradient.numpy() for gradient in gradients]


def arrays(found: Mapping[str, NDArray[Any]], prefix: str) -> list[NDArray[Any]]:
    return [found[name] for name in sorted(found) if name.startswith(prefix)]


@pytest.mark.parametrize("way", WAYS)
def test_the_gradient_is_that_of_the_joined_batch_on_both_ranks(ranks: Found, way: str) -> None:
    _, joined = single_process(steps=1)
    for found in ranks:
        for own, expected in zip(arrays(found, f"gradient_{way}_"), joined, strict=True):
            np.testing.assert_allclose(own, expected, atol=2e-6)
    assert max(float(np.abs(gradient).max()) for gradient in joined) > 1e-3


def test_ranks_that_started_differently_hold_equal_weights_after_three_steps(ranks: Found) -> None:
    weights, _ = single_process(steps=3)
    for first, second, expected in zip(*(arrays(found, "weights_") for found in ranks), weights, strict=True):
        assert np.array_equal(first, second)
        np.testing.assert_allclose(first, expected, atol=1e-6)


def test_a_step_that_is_not_finite_on_one_rank_changes_nothing_on_any(ranks: Found) -> None:
    for found in ranks:
        assert found["skip_used"].tolist() == [False, True]
        assert found["skip_changed"].tolist() == [False, True]
        assert found["skip_finite"]


def test_keras_fit_with_the_distributed_optimizer_averages(ranks: Found) -> None:
    untrained = plain_network(seed=3).get_weights()
    for first, second, before in zip(*(arrays(found, "fit_") for found in ranks), untrained, strict=True):
        assert np.array_equal(first, second)
        assert not np.array_equal(first, before)


def test_moving_statistics_become_the_mean_of_the_ranks(ranks: Found) -> None:
    first, second = ranks
    assert not np.allclose(first["own_mean"], second["own_mean"])
    for found in ranks:
        np.testing.assert_allclose(found["joint_mean"], (first["own_mean"] + second["own_mean"]) / 2, rtol=1e-6)


def test_the_auc_is_that_of_all_scores_and_not_the_mean_of_the_ranks(ranks: Found) -> None:
    logit = np.concatenate([found["own_logit"] for found in ranks])
    label = np.concatenate([found["own_label"] for found in ranks])
    each = [roc_auc_score(found["own_label"], found["own_logit"]) for found in ranks]
    expected = roc_auc_score(label, logit)
    assert abs(expected - np.mean(each)) > 1e-3
    assert [float(found["auc"]) for found in ranks] == [pytest.approx(expected, abs=1e-12)] * 2


def test_gathering_and_totals_take_ranks_of_any_size(ranks: Found) -> None:
    for found in ranks:
        assert np.array_equal(found["one_sided"], ranks[1]["own_logit"])
        assert found["total"].tolist() == [3.0, 1.0]


def test_a_difference_in_the_last_bit_of_one_weight_is_seen_by_all_ranks(ranks: Found) -> None:
    for found in ranks:
        assert found["unequal_before"].tolist() == []
        assert found["unequal_after"].tolist() == [1]

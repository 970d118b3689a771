"""What ranks do together, over Horovod. All ranks must call each of these in the same order."""

from __future__ import annotations

import hashlib
from typing import TypeVar

import horovod.tensorflow as hvd
import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

N = TypeVar("N", bound=np.generic)


def broadcast_state(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    """Give all ranks the weights and the optimizer's state of rank 0 (the optimizer must be built)."""
    hvd.broadcast_variables(tensors(model.variables), root_rank=0)
    hvd.broadcast_variables(tensors(optimizer.variables), root_rank=0)


def average_gradients(gradients: list[tf.Tensor], compression: type[hvd.Compression.none]) -> list[tf.Tensor]:
    """Average each gradient over the ranks, inside a compiled step.

    As Horovod's ``DistributedGradientTape`` does, which could not average sums of the gradients of several tapes.
    """
    count = len(gradients)
    if hvd.size() == 1:
        return gradients
    return [
        # The same on all ranks, and another one when other layers train.
        hvd.allreduce(gradient, op=hvd.Average, compression=compression, name=f"gradient.{index}.of.{count}")
        for index, gradient in enumerate(gradients)
    ]


def average_statistics(model: keras.Model) -> None:
    """Average the moving means and variances of batch normalisation over the ranks.

    Each rank saw other patches, so without this the ranks would keep different networks.
    """
    for variable in tensors(model.non_trainable_variables):
        if variable.dtype.is_floating:
            variable.assign(hvd.allreduce(variable.value(), op=hvd.Average, name=f"average.{variable.name}"))


def statistics(model: keras.Model) -> NDArray[np.float32]:
    """Join the moving means and variances of this rank: (n,)."""
    return np.concatenate([np.empty(0, np.float32), *(np.ravel(one.numpy()) for one in _statistics(model))])


def set_statistics(model: keras.Model, values: NDArray[np.float32]) -> None:
    """Give back what `statistics` joined."""
    for variable in _statistics(model):
        size = int(np.prod(variable.shape))
        variable.assign(values[:size].reshape(variable.shape))
        values = values[size:]


def _statistics(model: keras.Model) -> list[keras.Variable]:
    return [one for one in model.non_trainable_variables if one.name in ("moving_mean", "moving_variance")]


def any_rank(told: bool) -> bool:
    """Whether any rank says so; each rank gets the same answer."""
    return told if hvd.size() == 1 else bool(total([float(told)])[0])


def total(values: list[float]) -> NDArray[np.float64]:
    """Sum each of `values` over all ranks."""
    return np.asarray(hvd.allreduce(tf.constant(values, tf.float64), op=hvd.Sum))


def total_counts(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum whole numbers, of any shape, over all ranks."""
    return values.copy() if hvd.size() == 1 else np.asarray(hvd.allreduce(tf.constant(values), op=hvd.Sum))


def gather(values: NDArray[N]) -> NDArray[N]:
    """Join one-dimensional arrays, of any lengths, of all ranks in the order of the ranks."""
    return np.asarray(hvd.allgather(tf.constant(values)))


def gather_rows(values: NDArray[N]) -> NDArray[N]:
    """Stack one-dimensional arrays of the same length: (ranks, length)."""
    return gather(values).reshape(hvd.size(), len(values)) if len(values) else np.empty((hvd.size(), 0), values.dtype)


def values_digest(model: keras.Model) -> str:
    """Digest of all weights in memory: names, shapes and bits."""
    digest = hashlib.sha256()
    for variable in model.variables:
        value = np.ascontiguousarray(variable.numpy())
        digest.update(f"{variable.path} {value.dtype.str} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return f"sha256:{digest.hexdigest()}"


def unequal_ranks(model: keras.Model) -> list[int]:
    """Compare the weights of all ranks, bit by bit; give the ranks that differ from rank 0."""
    own = bytes.fromhex(values_digest(model).split(":")[1])
    digests = gather(np.frombuffer(own, np.uint8)).reshape(hvd.size(), len(own))
    return [int(rank) for rank in np.flatnonzero(np.any(digests != digests[0], axis=1))]


def tensors(variables: list[keras.Variable]) -> list[tf.Variable]:
    """Give the tf.Variables inside Keras variables: what Horovod knows, patched or not."""
    return [variable.value for variable in variables]

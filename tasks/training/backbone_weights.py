"""Weights of a backbone from a local HDF5 file; nothing in the file is executed or followed."""

from __future__ import annotations

from pathlib import Path

import h5py
import keras
import numpy as np

from tasks.digests import file_digest
from tasks.errors import InputError, IntegrityError


def load_backbone_weights(backbone: keras.Model, path: Path, *, architecture: str, digest: str | None = None) -> None:
    """Load weights into the layers of `backbone`.

    Parameters
    ----------
    backbone
        The convolutional part of a network; it shares its layers with the whole network.
    path
        File that Keras wrote: ``NAME.weights.h5`` (Keras 3) or ``NAME.h5`` (older layout).
    architecture
        Its name, for messages.
    digest
        ``sha256:…`` that the file must have; None to take any file that fits.

    Raises
    ------
    IntegrityError
        The file has another digest.
    InputError
        The file is missing, is no HDF5 file, holds links, or belongs to another network.
    """
    if not path.is_file():
        raise InputError("is no file", subject=path, remedy="check train.weights")
    if digest is not None and file_digest(path) != digest:
        raise IntegrityError(
            f"has not the digest {digest}",
            subject=path,
            remedy="fetch the weights again or correct train.weights_digest",
        )
    problem = _misfit(backbone, path, architecture) or _load(backbone, path)
    if problem is not None:
        raise InputError(problem, subject=path, remedy=f"give weights of {architecture} without its classifier")


def _misfit(backbone: keras.Model, path: Path, architecture: str) -> str | None:
    # Keras compares layer by layer and takes a longer network's file when the first layers fit.
    expected = sorted(tuple(weight.shape) for weight in backbone.weights)
    found = sorted(weight_shapes(path))
    if len(found) != len(expected):
        return f"has {len(found)} arrays, {architecture} has {len(expected)}"
    return None if found == expected else f"has arrays of other shapes than {architecture}"


def weight_shapes(path: Path) -> list[tuple[int, ...]]:
    """Shapes of all arrays in a weights file, refusing files that point outside themselves.

    Raises
    ------
    InputError
        The file is no HDF5 file, or has links or external storage.
    """
    try:
        with h5py.File(path, "r") as file:
            return _shapes(file, path)
    except OSError as error:
        raise InputError(f"is no readable HDF5 file ({error})", subject=path, remedy="fetch the file again") from error


def _shapes(group: h5py.Group, path: Path) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = []
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise InputError(f"has a link at {group.name}/{name}", subject=path, remedy="use a file without links")
        item = group[name]
        if isinstance(item, h5py.Group):
            shapes += _shapes(item, path)
        elif item.external or item.is_virtual:
            raise InputError(f"keeps {item.name} in another file", subject=path, remedy="use a file that is whole")
        elif np.issubdtype(item.dtype, np.number):
            shapes.append(tuple(item.shape))
    return shapes


def _load(backbone: keras.Model, path: Path) -> str | None:
    try:
        backbone.load_weights(path)
    except (ValueError, KeyError, OSError) as error:
        return f"does not fit ({' '.join(str(error).split())[:200]})"
    return None

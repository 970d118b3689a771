"""Weights that Keras publishes for its networks, trained on ImageNet; needs a way to the internet once.

Run as ``python -m tasks.training.imagenet NAME FILE``, so that the process that asks needs no TensorFlow.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tasks.errors import InputError
from tasks.training.architectures import architecture_named

_WITHOUT = ("GoogLeNet", "CamNetSmall")


def fetch_imagenet_weights(architecture: str, folder: Path) -> Path:
    """Return the file of the published weights in `folder`, fetched unless it is there.

    Raises
    ------
    InputError
        Nobody publishes weights of this network in Keras, or they cannot be fetched from here.
    """
    name = architecture_named(architecture).name
    if name in _WITHOUT:
        raise InputError(
            f"there are no published weights of {name}", remedy="leave train.weights out or name a file of your own"
        )
    path = folder / f"{name}_imagenet_notop.weights.h5"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tasks.training.imagenet", name, str(path)]
        fetched = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if fetched.returncode:
            words = (fetched.stderr.strip().splitlines() or ["no message"])[-1][-300:]
            raise InputError(
                f"the published weights of {name} cannot be fetched ({words})",
                remedy="run the same where there is internet, or copy such a file from there and set train.weights",
            )
    return path


def _write(name: str, path: Path) -> None:
    import keras

    unfinished = path.with_name(f".{path.name.removesuffix('.weights.h5')}.part.weights.h5")
    getattr(keras.applications, name)(include_top=False, weights="imagenet").save_weights(unfinished)
    unfinished.replace(path)


if __name__ == "__main__":
    _write(sys.argv[1], Path(sys.argv[2]))

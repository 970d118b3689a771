"""Keras without what it imports for people at a keyboard."""

from __future__ import annotations

import importlib
import sys

_NOT_NEEDED = ("sklearn", "matplotlib.pyplot")


def load_keras() -> None:
    """Import Keras, and TensorFlow with it, but neither scikit-learn nor pyplot.

    Keras imports both where they are installed, for wrappers and pictures that CamNet has no use for; that takes
    a quarter of the start of each process. They can be imported afterwards as ever.
    """
    if "keras" in sys.modules:
        return
    # None is how the import system is told that there is no such module.
    hidden = {name: None for name in _NOT_NEEDED if name not in sys.modules}
    sys.modules.update(hidden)  # type: ignore[arg-type]  # typeshed knows modules only
    try:
        importlib.import_module("keras")
    finally:
        for name in hidden:
            del sys.modules[name]

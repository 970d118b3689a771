from __future__ import annotations

import subprocess
import sys

_LOADED = """
import sys
from tasks.load_keras import load_keras
load_keras()
load_keras()
print(*(name in sys.modules for name in ("keras", "tensorflow", "sklearn", "matplotlib.pyplot")))
import matplotlib.pyplot, sklearn
print(matplotlib.pyplot.figure is not None, sklearn.__version__ is not None)
"""


def test_keras_comes_alone_and_what_was_kept_away_can_still_be_had() -> None:
    said = subprocess.run([sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True, timeout=120)
    assert said.stdout.split("\n")[:2] == ["True True False False", "True True"]

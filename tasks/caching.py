"""Content keys: the same inputs, configuration and code give the same key.

Prefect's own keys do not serve here: ``TASK_SOURCE`` sees only the few lines of a wrapper, and the default
policy contains the run's id, so that it never hits across runs.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from functools import cache
from pathlib import Path

from pydantic import BaseModel

from tasks.digests import bytes_digest


def content_key(stage: str, *, inputs: list[str], config: BaseModel | None, code: list[str]) -> str:
    """Key of what a stage makes.

    Parameters
    ----------
    stage
        Name of the stage and its schema, for example ``camnet-patches/1``.
    inputs
        Digests (or keys) of all inputs, in an order that the caller fixes.
    config
        The part of the configuration that the result depends on.
    code
        Names of the packages or modules whose source the result depends on.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    parts = {
        "stage": stage,
        "inputs": inputs,
        "config": json.loads(config.model_dump_json()) if config is not None else None,
        "code": [code_digest(name) for name in code],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


@cache
def code_digest(name: str) -> str:
    """Digest of the source of a module, or of all pure modules of a package (its ``task.py`` left out)."""
    # The source is found without importing it: TensorFlow would take seconds to say that nothing has changed.
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(name)
    if spec.submodule_search_locations is None:
        return bytes_digest(Path(spec.origin).read_bytes())
    digest = hashlib.sha256()
    for source in sorted(Path(spec.origin).parent.glob("*.py")):
        if source.name != "task.py":
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return f"sha256:{digest.hexdigest()}"

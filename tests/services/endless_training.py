"""A training that goes on until it is stopped, as the parameters of the flow ``train``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil

from deployments.sites import Site
from flows.context import RunContext
from tasks.artifacts import describe
from tasks.config import RunConfig
from tests.services.texture_shards import texture_cohort
from transfer.manifest import manifest_of, write_manifest


def endless_training(folder: Path, horovod: dict[str, Any]) -> dict[str, Any]:
    """Lay shards at site-b below `folder`, with this table [horovod]; give the parameters of the flow as JSON."""
    site = Site.model_validate({"name": "site-b", "root": str(folder / "site-b"), "horovod": horovod})
    config = RunConfig.model_validate(
        {
            "name": "endless",
            "cohort": {"slides": str(folder)},
            "stages": {"preprocess": "site-b", "train": "site-b"},
            "train": {"architecture": "CamNetSmall", "epochs": 10_000, "learning_rate": 1e-4, "silence_s": 300},
        }
    )
    patches = folder / "site-b" / "endless" / "patches"
    shards = texture_cohort(patches / "sampled", rows=32)
    manifest = manifest_of(
        patches,
        [(f"sampled/{shard.path.name}", "patches", 32, shard.digest) for shard in shards],
        run="x",
        site="site-b",
    )
    write_manifest(patches / "manifest.json", manifest)
    context = RunContext(config=config, sites={"site-b": site}, workspace=folder, execution="deployed")
    described = describe(site.root, patches / "manifest.json", made_by="camnet-manifest/1", key="k")
    return {"context": context.model_dump(mode="json"), "manifest": described.model_dump(mode="json")}


def ranks_of(folder: Path) -> list[int]:
    """Processes that were started for a training below `folder`, by whomever: ranks and what started them."""
    found = []
    for process in psutil.process_iter():
        try:
            line = process.cmdline()
        except psutil.Error:
            continue
        if any(str(folder) in word for word in line) and any("tasks.training" in word for word in line):
            found.append(process.pid)
    return [pid for pid in found if pid != os.getpid()]

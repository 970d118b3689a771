"""A model goes to the slides, learns there, and goes back; the slides stay (paper, end of section 6)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.context import make_context
from flows.return_model import return_model
from flows.run_state import RunState
from flows.stage import StageResult, staged_batch
from flows.train import TrainResult
from tasks.artifacts import describe
from tasks.config import load_config
from tasks.errors import ExitCode, IntegrityError, PolicyRefusal
from tasks.train_config import TrainConfig
from tasks.training.card import write_card
from tasks.training.model_folder import read_model
from tasks.training.train import train
from tests.services.camnet_cli import camnet
from tests.services.texture_shards import texture_cohort
from transfer.manifest import manifest_of, write_manifest
from transfer.policy import refuse_forbidden

pytestmark = pytest.mark.slow
RUN = """
name = "tuning"
seed = 5
sites = "sites"
[cohort]
slides = "slides"
[stages]
preprocess = "hospital"
train = "hospital"
[train]
architecture = "CamNetSmall"
start_from = "start"
epochs = 1
learning_rate = 1e-6
"""


def lay_out(folder: Path) -> Path:
    """Write a resident and an open site, and a run whose shards already lie at the resident one; give its file."""
    (folder / "sites").mkdir()
    (folder / "sites" / "hospital.toml").write_text(
        'name = "hospital"\nroot = "hospital"\npolicy = "resident"\n[horovod]\nslots = 2\n'
    )
    (folder / "sites" / "clinic.toml").write_text('name = "clinic"\nroot = "clinic"\n')
    (folder / "run.toml").write_text(RUN)
    context = make_context(load_config(folder / "run.toml"), folder / "ws", "embedded")
    hospital = context.trainer
    patches = context.folder_at(hospital) / "patches"
    shards = texture_cohort(patches / "sampled", rows=64)
    files = [f"sampled/{shard.path.name}" for shard in shards]
    write_manifest(
        patches / "manifest.json",
        manifest_of(patches, [(file, "patches", 64, None) for file in files], run="tuning", site="hospital"),
    )
    manifest = describe(hospital.root, patches / "manifest.json", made_by="camnet-manifest/1", key="k")
    staged = StageResult(
        manifest=manifest, destination="hospital", files=6, bytes=0, routes=(), seconds=0.0, reused=True
    )
    RunState(context=context, staged=staged).save()
    return folder / "run.toml"


def test_a_model_is_tuned_at_a_resident_site_and_only_the_model_leaves(tmp_path: Path, prefect_url: str) -> None:
    config = TrainConfig(architecture="CamNetSmall", epochs=3, learning_rate=0.02, silence_s=120)
    start = train(config, texture_cohort(tmp_path / "public"), tmp_path / "start", ranks=1, seed=4, key="start")
    run, workspace = lay_out(tmp_path), tmp_path / "ws"

    done = camnet(
        "train", "-c", run, "-w", workspace, "--return-to", "clinic", environment={"PREFECT_API_URL": prefect_url}
    )
    assert done.code == ExitCode.DONE, done.errors
    came = sorted(path for path in (workspace / "clinic").rglob("*") if path.is_file())
    assert [path.name for path in came] == [
        "card.json",
        "curves.png",
        "log.jsonl",
        "model.weights.h5",
        "reliability.png",
        "roc.png",
    ]
    _, card = read_model(came[0].parent)
    assert card.started_from == start.weights_digest != card.weights_digest
    # Such a small rate teaches nothing in one epoch: what it knows, it has brought along.
    assert card.metrics[0].auc is not None
    assert card.metrics[0].auc.value > 0.9
    assert card.split_patients["validation"] == ("patient-00005", "patient-00006")
    for path in came:
        assert b"patient_0" not in path.read_bytes(), path
        assert str(tmp_path).encode() not in path.read_bytes(), path

    context = make_context(load_config(run), workspace, "embedded")
    state = json.loads((workspace / "runs" / "tuning" / "run.json").read_text())
    manifest = StageResult.model_validate(state["staged"]).manifest
    with pytest.raises(PolicyRefusal, match="may not leave hospital for clinic, as 6 of the 6 files"):
        refuse_forbidden(staged_batch(context, manifest, "clinic"))
    trained = TrainResult.model_validate(state["trained"])
    smuggled = manifest.model_copy(update={"path": f"{trained.folder}/patient_000.patches.h5"})
    with pytest.raises(PolicyRefusal, match="is no part of a model"):
        return_model.fn(context, trained.model_copy(update={"files": (*trained.files, smuggled)}), "clinic")
    write_card(workspace / "hospital" / trained.folder / "card.json", start)
    with pytest.raises(IntegrityError, match="has not the digest"):
        return_model.fn(context, trained, "clinic")
    write_card(
        workspace / "hospital" / trained.folder / "card.json",
        start.model_copy(update={"weights_digest": card.weights_digest}),
    )
    with pytest.raises(PolicyRefusal, match="has a card that names patients"):
        return_model.fn(context, trained, "clinic")

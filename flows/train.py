"""Layer 2 as a flow: verified shards to a model, on the Horovod ranks of the site."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact

from deployments.sites import HorovodSlots
from flows.called_off import refuse_when_called_off
from flows.context import RunContext
from flows.expected_shards import sampled_entries, wait_for_expected
from flows.site_flow import site_flow
from flows.slurm_ranks import SlurmRanks
from tasks.artifacts import Artifact, Record, describe
from tasks.caching import content_key
from tasks.digests import file_digest
from tasks.errors import InputError, IntegrityError
from tasks.report.formats import score
from tasks.report.quality import quality_rows, threshold_line
from tasks.training.card import SCHEMA, ModelCard, read_card
from tasks.training.expected import ExpectedShard
from tasks.training.folder import CARD_NAME, CURVES_NAME, LOG_NAME, RELIABILITY_NAME, ROC_NAME, WEIGHTS_NAME
from tasks.training.job import ShardOfJob
from tasks.training.launcher import Launch, Progress, launch
from tasks.training.start_model import start_card
from tasks.training.task import train_task
from transfer.manifest import read_manifest

_FILES = (WEIGHTS_NAME, CARD_NAME, LOG_NAME, CURVES_NAME, ROC_NAME, RELIABILITY_NAME)


class TrainResult(Record):
    """The model and what it is worth. `files` are below the root of the site that trained."""

    card: ModelCard
    files: tuple[Artifact, ...]
    seconds: float
    reused: bool

    @property
    def folder(self) -> str:
        """The model folder, relative to the site's root."""
        return self.files[0].path.rsplit("/", 1)[0]


@site_flow
def train(context: RunContext, manifest: Artifact) -> TrainResult:
    """Train on the sampled shards of `manifest` (a path at the training site).

    With ``train.arrival.follow`` the manifest and some of its shards may still be on their way; the list of those that
    are expected must come first (`flows.stage`).
    """
    started = time.monotonic()
    site = context.trainer
    if site.horovod is None:
        raise InputError(
            f"site {site.name} has no [horovod] section", remedy="add it to the site file, or train at another site"
        )
    shards, expected, manifest_digest = _shards(context, manifest)
    ranks = context.config.train.ranks or site.horovod.most_ranks
    key = training_key(context, [shard.digest for shard in shards], ranks)
    model = context.folder_at(site) / "models" / key
    reused = _finished(context, key)
    if not reused:
        train_task(
            context.config.train,
            shards,
            model,
            expected=expected,
            ranks=ranks,
            threads=site.horovod.threads,
            seed=context.config.seed,
            key=key,
            manifest_digest=manifest_digest,
            start=unless_called_off(launcher_of(site.name, site.horovod)),
            unnamed=site.policy == "resident",
            gpu=site.horovod.needs_gpu,
        )
    card = read_card(model / "card.json")
    create_markdown_artifact(card_markdown(card), key="model", description=f"Model {key}")
    files = tuple(describe(site.root, model / name, made_by=SCHEMA, key=key) for name in _FILES)
    return TrainResult(card=card, files=files, seconds=time.monotonic() - started, reused=reused)


def _shards(context: RunContext, manifest: Artifact) -> tuple[list[ShardOfJob], list[ExpectedShard], str]:
    """List the shards, what is expected of them if they may still be on their way, and the manifest's digest."""
    path, arrival = manifest.under(context.trainer.root), context.config.train.arrival
    if not arrival.follow:
        named = read_manifest(path)
        there = [ShardOfJob(path=path.parent / entry.path, digest=entry.digest) for entry in sampled_entries(named)]
        return there, [], named.digest
    listed = wait_for_expected(path.parent, manifest.digest, patience_s=arrival.patience_s)
    shards = [ShardOfJob(path=path.parent / shard.path, digest=shard.digest) for shard in listed.shards]
    return shards, list(listed.shards), listed.manifest_digest


def launcher_of(site: str, slots: HorovodSlots) -> Launch:
    """Give what starts the ranks of a site."""
    if slots.launcher == "slurm" and slots.slurm is not None:
        return SlurmRanks(site, slots.slurm)
    return launch


def unless_called_off(start: Launch) -> Launch:
    """Give a start that ends its ranks, after a checkpoint, when this stage is called off."""

    def started(job_path: Path, *, log_path: Path, silence_s: float, on_progress: Progress | None = None) -> None:
        def told(event: dict[str, Any]) -> None:
            refuse_when_called_off()
            if on_progress is not None:
                on_progress(event)

        refuse_when_called_off()
        start(job_path, log_path=log_path, silence_s=silence_s, on_progress=told)

    return started


def training_key(context: RunContext, digests: list[str], ranks: int) -> str:
    """Content key of the training: of the shards' digests, the configuration, the ranks and the code."""
    config, site = context.config.train, context.trainer
    weights, start, picture = config.weights, config.start_from, config.stain_reference
    return content_key(
        SCHEMA,
        inputs=[
            *digests,
            file_digest(weights) if isinstance(weights, Path) and weights.is_file() else str(weights or "no weights"),
            *([file_digest(picture)] if picture and picture.is_file() else []),
            f"seed {context.config.seed}",
            f"{ranks} ranks",
            *([start_card(start, config).weights_digest] if start else []),
            *(["unnamed"] if site.policy == "resident" else []),
        ],
        config=config.model_copy(update={"weights": None, "start_from": None, "stain_reference": None}),
        code=["tasks.training", "tasks.stain", "tasks.patches.store", "tasks.auc"],
    )


def card_markdown(card: ModelCard) -> str:
    """Tell the essence of a model card."""
    lines = [f"# {card.architecture}, best epoch {card.best_epoch} of {card.epochs_run}", ""]
    for row in quality_rows(card):
        where = row.split_told if row.centre == "all" else f"{row.split_told}, centre {row.centre}"
        lines.append(f"- {where}: patch AUC {score(row.auc)} over {row.rows} patches of {row.patients} patients")
    lines.append(f"- {threshold_line(card)}")
    late = [shard for shard in card.shards if shard.first_epoch != 1]
    if late:
        never = sum(shard.first_epoch is None for shard in late)
        lines.append(f"- {len(late)} of {len(card.shards)} shards came after the first epoch; {never} of them never")
    lines += [f"- {reset.sentence()}" for reset in card.resets]
    lines.append(f"- weights equal over {card.ranks} ranks: {card.equal_weights_over_ranks}")
    return "\n".join(lines)


def _finished(context: RunContext, key: str) -> bool:
    site = context.trainer
    model = context.folder_at(site) / "models" / key
    try:
        return read_card(model / "card.json").key == key and all((model / name).is_file() for name in _FILES)
    except IntegrityError:
        return False

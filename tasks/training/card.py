"""What a trained model says about itself."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from tasks import atomic
from tasks.artifacts import Record
from tasks.config import Split
from tasks.errors import IntegrityError
from tasks.train_config import TrainConfig

SCHEMA: Literal["camnet-model/1"] = "camnet-model/1"


class Estimate(Record):
    """A number with its 95 % confidence interval.

    Attributes
    ----------
    low, high
        Percentile bootstrap over patients; None when the split has too few patients for it.
    """

    value: float
    low: float | None = None
    high: float | None = None


class SplitMetrics(Record):
    """How well the model does on one split.

    Attributes
    ----------
    auc
        Area under the ROC curve of the patches; None when the split has one class only.
    accuracy
        Share of patches right at `threshold`.
    log_loss
        Mean cross-entropy in nats a patch, unweighted.
    """

    split: Split
    rows: int = Field(ge=1)
    tumour_rows: int = Field(ge=0)
    patients: int = Field(ge=1)
    threshold: float
    auc: Estimate | None
    accuracy: Estimate
    log_loss: Estimate


class ShardOfModel(Record):
    """A shard that the model was trained or validated with."""

    name: str
    digest: str
    split: Split
    patient: str
    rows: int = Field(ge=0, description="labelled rows, the ones that were used")


class ModelCard(Record):
    """All that is needed to use a model rightly and to know where it comes from.

    Attributes
    ----------
    patch_px
        Side of the patches.
    mpp
        µm per pixel of the training patches, mean over their shards (scanners differ slightly).
    normalisation
        What is done to RGB 0..255 before the first convolution.
    labels
        Meaning of the output: probability of ``labels[1]`` is the sigmoid of the logit.
    metrics
        Of the weights in the folder, one entry a split that was measured.
    best_epoch
        Epoch (from 1) whose weights are in the folder.
    weights_digest
        ``sha256:…`` of the weights file.
    started_from
        The same of the model that the training started from; None when it did not start from one.
    equal_weights_over_ranks
        Digests of the weights of all ranks were gathered and compared at the end of the training.
    """

    made_by: Literal["camnet-model/1"] = SCHEMA
    key: str = Field(description="content key of the training")
    architecture: str
    patch_px: int
    mpp: float
    colour_order: Literal["RGB"] = "RGB"
    normalisation: str
    labels: tuple[str, str] = ("normal", "tumour")
    parameters: int
    config: TrainConfig
    seed: int
    manifest_digest: str | None
    shards: tuple[ShardOfModel, ...]
    split_patients: dict[Split, tuple[str, ...]]
    metrics: tuple[SplitMetrics, ...]
    epochs_run: int
    best_epoch: int
    ranks: int
    controller: Literal["gloo", "mpi"]
    equal_weights_over_ranks: bool
    versions: dict[str, str]
    weights_digest: str
    started_from: str | None = None


def write_card(path: Path, card: ModelCard) -> None:
    """Write `card` as JSON (floats in full precision)."""
    atomic.write_text(path, card.model_dump_json(indent=1) + "\n")


def read_card(path: Path) -> ModelCard:
    """Read a model card.

    Raises
    ------
    IntegrityError
        The file is missing, is not JSON or is no card of this schema.
    """
    try:
        return ModelCard.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise IntegrityError("is missing", subject=path, remedy="name the folder of a finished training") from error
    except ValidationError as error:
        raise IntegrityError(
            f"is no model card of {SCHEMA} ({error.error_count()} problems, first: {error.errors()[0]['msg']})",
            subject=path,
            remedy="copy the model folder again or train anew",
        ) from error

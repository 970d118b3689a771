"""What a trained model says about itself."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from tasks import atomic
from tasks.artifacts import Record
from tasks.config import Split
from tasks.errors import IntegrityError
from tasks.stain.reference import StainReference
from tasks.train_config import TrainConfig
from tasks.training.reset import Reset

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


class Threshold(Record):
    """From which probability a patch is called tumour, and why.

    Attributes
    ----------
    rule
        ``youden``: highest sensitivity + specificity on the validation split, whose own figures at it are
        therefore optimistic. ``stated``: by the configuration. ``default``: 0.5, because there is no
        validation split with both classes.
    """

    value: float = Field(ge=0, le=1)
    rule: Literal["youden", "stated", "default"]


class Confusion(Record):
    """What became of the patches at the threshold; tumour is positive.

    Attributes
    ----------
    sensitivity
        Share of the tumour patches that are called tumour; None when there are none.
    specificity
        Share of the normal patches that are not; None when there are none.
    """

    true_positive: int = Field(ge=0)
    false_positive: int = Field(ge=0)
    true_negative: int = Field(ge=0)
    false_negative: int = Field(ge=0)
    sensitivity: Estimate | None
    specificity: Estimate | None


class ReliabilityBin(Record):
    """Patches whose probability is in [low, high) ([low, 1] in the last bin).

    Attributes
    ----------
    probability
        Their mean probability of tumour.
    tumour_share
        How many of them are tumour.
    """

    low: float
    high: float
    rows: int = Field(ge=1)
    probability: float
    tumour_share: float


class Calibration(Record):
    """Whether probabilities are what they say, for the share of tumour that the split has.

    Patches are sampled by class, so a slide has far less tumour than a split: probabilities that fit here
    are too high there.

    Attributes
    ----------
    bins
        Of equal width; empty ones are left out.
    expected_calibration_error
        Mean distance of probability and share of tumour over the bins, weighted by their rows.
    brier
        Mean squared distance of probability and truth.
    """

    bins: tuple[ReliabilityBin, ...]
    expected_calibration_error: float
    brier: Estimate


class RocCurve(Record):
    """Corners of the ROC curve, from (0, 0) to (1, 1).

    Attributes
    ----------
    threshold
        Probability at each corner, and from which up patches are called tumour there; None at (0, 0).
    corners
        How many corners the whole curve has.
    area_error
        How much the area under these corners differs from that under all.
    """

    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]
    threshold: tuple[float | None, ...]
    corners: int
    area_error: float


class CentreMetrics(Record):
    """How well the model does on the patches of one centre.

    Attributes
    ----------
    centre
        None: those whose centre is not known.
    """

    centre: int | None
    rows: int = Field(ge=1)
    tumour_rows: int = Field(ge=0)
    patients: int = Field(ge=1)
    auc: Estimate | None
    accuracy: Estimate
    log_loss: Estimate


class SplitMetrics(Record):
    """How well the model does on one split. What older cards do not have is None or empty.

    Attributes
    ----------
    held_out
        The split was measured once, after the training, with the weights in the folder, and nothing was
        chosen by it. The validation split chose the epoch and mostly the threshold.
    complete
        All shards of the split had arrived when it was measured.
    auc
        Area under the ROC curve of the patches; None when the split has one class only.
    accuracy
        Share of patches right at `threshold`.
    log_loss
        Mean cross-entropy in nats a patch, unweighted.
    centres
        The same by medical centre; empty where no centre is known.
    """

    split: Split
    held_out: bool = False
    complete: bool = True
    rows: int = Field(ge=1)
    tumour_rows: int = Field(ge=0)
    patients: int = Field(ge=1)
    threshold: float
    auc: Estimate | None
    accuracy: Estimate
    log_loss: Estimate
    confusion: Confusion | None = None
    calibration: Calibration | None = None
    roc: RocCurve | None = None
    centres: tuple[CentreMetrics, ...] = ()


class ShardOfModel(Record):
    """A shard that the model was trained or validated with."""

    name: str
    digest: str
    split: Split
    patient: str
    rows: int = Field(ge=0, description="labelled rows, the ones that were used")
    first_epoch: int | None = Field(1, ge=1, description="from which it was used; None: it never arrived")


class ResetOfModel(Reset):
    """A change of the number of ranks while the model was trained, and when it was (UTC)."""

    time: str


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
    stain
        What the stain of each slide is changed to before that (see `tasks.patches.slide_stain`); None: nothing.
    labels
        Meaning of the output: probability of ``labels[1]`` is the sigmoid of the logit.
    metrics
        Of the weights in the folder, one entry a split that was measured.
    threshold
        For the metrics, and for whoever needs a yes or no; None in older cards, which have it in `metrics`.
    best_epoch
        Epoch (from 1) whose weights are in the folder.
    weights_digest
        ``sha256:…`` of the weights file.
    started_from
        The same of the model that the training started from; None when it did not start from one.
    ranks
        Of the end of the training.
    resets
        How often, and where, it went on with another number of ranks; empty in older cards.
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
    stain: StainReference | None = None
    labels: tuple[str, str] = ("normal", "tumour")
    parameters: int
    config: TrainConfig
    seed: int
    manifest_digest: str | None
    shards: tuple[ShardOfModel, ...]
    split_patients: dict[Split, tuple[str, ...]]
    metrics: tuple[SplitMetrics, ...]
    threshold: Threshold | None = None
    epochs_run: int
    best_epoch: int
    ranks: int
    resets: tuple[ResetOfModel, ...] = ()
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

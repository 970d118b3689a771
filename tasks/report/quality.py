"""The figures of a model card as the rows of a table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tasks.artifacts import Record
from tasks.errors import InputError
from tasks.report.data import QualityRow, Score
from tasks.training.card import CentreMetrics, Estimate, ModelCard, SplitMetrics, read_card
from tasks.training.folder import CARD_NAME


class ModelQuality(Record):
    """What is compared of several models."""

    folder: Path
    architecture: str
    epochs_run: int
    best_epoch: int
    threshold: float | None
    weights_digest: str
    quality: tuple[QualityRow, ...]


def find_models(folders: Iterable[Path]) -> list[Path]:
    """List model folders: each of `folders` that is one, and of the others those below it, sorted.

    Raises
    ------
    InputError
        A folder neither is nor holds a model.
    """
    found: list[Path] = []
    for folder in folders:
        below = [folder] if (folder / CARD_NAME).is_file() else _below(folder)
        if not below:
            raise InputError("has no finished model", subject=folder, remedy="name folders that a training wrote")
        found += below
    return list(dict.fromkeys(found))


def _below(folder: Path) -> list[Path]:
    models = [card.parent for card in folder.rglob(CARD_NAME)]
    # Trainings that go on work in hidden folders.
    return sorted(
        model for model in models if not any(part.startswith(".") for part in model.relative_to(folder).parts)
    )


def model_quality(folder: Path) -> ModelQuality:
    """Read what the card of a model says of its quality; an `IntegrityError` names a card that is damaged."""
    card = read_card(folder / CARD_NAME)
    return ModelQuality(
        folder=folder,
        architecture=card.architecture,
        epochs_run=card.epochs_run,
        best_epoch=card.best_epoch,
        threshold=card.threshold.value if card.threshold else None,
        weights_digest=card.weights_digest,
        quality=quality_rows(card),
    )


def quality_rows(card: ModelCard) -> tuple[QualityRow, ...]:
    """Give one row a split, and below it one row a centre where centres are known."""
    rows: list[QualityRow] = []
    for metrics in card.metrics:
        rows.append(_split(metrics))
        rows += [_centre(metrics, centre) for centre in metrics.centres]
    return tuple(rows)


def threshold_line(card: ModelCard) -> str:
    """Tell the threshold of a card and where it comes from."""
    if card.threshold is None:
        return "not stated"
    reason = {
        "youden": "highest sensitivity + specificity on the validation split",
        "stated": "stated by the configuration",
        "default": "there is no validation split with both classes to choose it by",
    }[card.threshold.rule]
    return f"tumour from {card.threshold.value:.3f} up ({reason})"


def _split(metrics: SplitMetrics) -> QualityRow:
    confusion, calibration = metrics.confusion, metrics.calibration
    return QualityRow(
        split=metrics.split,
        centre="all",
        held_out=metrics.held_out,
        complete=metrics.complete,
        patients=metrics.patients,
        rows=metrics.rows,
        tumour_rows=metrics.tumour_rows,
        auc=_score(metrics.auc, "one class only"),
        accuracy=_score(metrics.accuracy),
        sensitivity=_score(confusion.sensitivity, "no tumour") if confusion else None,
        specificity=_score(confusion.specificity, "tumour only") if confusion else None,
        log_loss=_score(metrics.log_loss),
        brier=_score(calibration.brier) if calibration else None,
        calibration_error=calibration.expected_calibration_error if calibration else None,
    )


def _centre(metrics: SplitMetrics, centre: CentreMetrics) -> QualityRow:
    return QualityRow(
        split=metrics.split,
        centre="not known" if centre.centre is None else str(centre.centre),
        held_out=metrics.held_out,
        complete=metrics.complete,
        patients=centre.patients,
        rows=centre.rows,
        tumour_rows=centre.tumour_rows,
        auc=_score(centre.auc, "one class only"),
        accuracy=_score(centre.accuracy),
        sensitivity=None,
        specificity=None,
        log_loss=_score(centre.log_loss),
        brier=None,
        calibration_error=None,
    )


def _score(estimate: Estimate | None, absent: str = "") -> Score:
    if estimate is None:
        return Score(value=None, low=None, high=None, note=absent)
    return Score(value=estimate.value, low=estimate.low, high=estimate.high, note="")

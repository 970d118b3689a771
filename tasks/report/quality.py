"""The figures of a model card as the rows of a table."""

from __future__ import annotations

from tasks.report.data import QualityRow, Score
from tasks.training.card import CentreMetrics, Estimate, ModelCard, SplitMetrics


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

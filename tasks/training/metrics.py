"""How good patch scores are, with confidence intervals by patient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from tasks.config import Split
from tasks.training.card import Estimate, SplitMetrics

THRESHOLD = 0.5
REPLICATES = 1000


@dataclass(frozen=True)
class Scores:
    """Logits of labelled patches.

    Attributes
    ----------
    logit
        (N,) float64, of "tumour".
    label
        (N,) 1 tumour, 0 normal.
    patient
        (N,) patient of each patch.
    """

    logit: NDArray[np.float64]
    label: NDArray[np.int8]
    patient: NDArray[np.str_]


def area_under_curve(scores: Scores) -> float | None:
    """Area under the ROC curve; None when there is one class only."""
    if len(np.unique(scores.label)) < 2:
        return None
    return float(roc_auc_score(scores.label, scores.logit))


def log_loss(scores: Scores) -> float:
    """Mean cross-entropy in nats a patch."""
    return float(np.mean(_cross_entropy(scores)))


def split_metrics(scores: Scores, *, split: Split, seed: int) -> SplitMetrics:
    """AUC, accuracy and cross-entropy of a split with 95 % intervals.

    Patches of one patient are alike, so whole patients are drawn with replacement (cluster bootstrap,
    `REPLICATES` times, percentiles 2.5 and 97.5). With fewer than two patients there is no interval.
    """
    codes = np.unique(scores.patient, return_inverse=True)[1]
    patients = int(codes.max()) + 1
    right = ((scores.logit > np.log(THRESHOLD / (1 - THRESHOLD))) == (scores.label == 1)).astype(np.float64)
    loss = _cross_entropy(scores)
    auc = area_under_curve(scores)
    draws = _draws(patients, seed)
    return SplitMetrics(
        split=split,
        rows=len(scores.label),
        tumour_rows=int(np.sum(scores.label == 1)),
        patients=patients,
        threshold=THRESHOLD,
        auc=None if auc is None else _estimate(auc, _weighted_auc(scores), codes, draws),
        accuracy=_estimate(float(right.mean()), lambda weight: float(np.average(right, weights=weight)), codes, draws),
        log_loss=_estimate(float(loss.mean()), lambda weight: float(np.average(loss, weights=weight)), codes, draws),
    )


def _draws(patients: int, seed: int) -> NDArray[np.int64]:
    """How often each patient is in each replicate, (REPLICATES, patients)."""
    generator = np.random.default_rng([seed, patients])
    return generator.multinomial(patients, np.full(patients, 1 / patients), size=REPLICATES)


def _estimate(
    value: float,
    statistic: Callable[[NDArray[np.int64]], float],
    codes: NDArray[np.intp],
    draws: NDArray[np.int64],
) -> Estimate:
    if draws.shape[1] < 2:
        return Estimate(value=value)
    replicates = np.array([statistic(draw[codes]) for draw in draws])
    defined = replicates[np.isfinite(replicates)]
    # Replicates that drew one class only have no AUC; from a handful of the others no interval follows.
    if len(defined) < len(draws) // 2:
        return Estimate(value=value)
    low, high = np.percentile(defined, [2.5, 97.5])
    return Estimate(value=value, low=float(low), high=float(high))


def _weighted_auc(scores: Scores) -> Callable[[NDArray[np.int64]], float]:
    """AUC for integer weights of the rows, in linear time a call (the sorting is done once)."""
    order = np.argsort(scores.logit, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(scores.logit[order]) > 0))
    tumour = scores.label[order] == 1

    def auc(weight: NDArray[np.int64]) -> float:
        ordered = weight[order]
        positive = np.add.reduceat(np.where(tumour, ordered, 0), starts)
        negative = np.add.reduceat(np.where(tumour, 0, ordered), starts)
        pairs = float(positive.sum()) * float(negative.sum())
        below = np.cumsum(negative) - negative
        return float(np.sum(positive * (below + 0.5 * negative))) / pairs if pairs else float("nan")

    return auc


def _cross_entropy(scores: Scores) -> NDArray[np.float64]:
    return np.logaddexp(0.0, scores.logit) - scores.logit * scores.label

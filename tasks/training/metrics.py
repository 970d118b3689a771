"""How good patch scores are, with confidence intervals by patient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks import auc
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
    return auc.area_under_curve(scores.label, scores.logit)


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
    draws = _draws(patients, seed)
    return SplitMetrics(
        split=split,
        rows=len(scores.label),
        tumour_rows=int(np.sum(scores.label == 1)),
        patients=patients,
        threshold=THRESHOLD,
        auc=_auc(scores, seed),
        accuracy=_estimate(float(right.mean()), lambda weight: float(np.average(right, weights=weight)), codes, draws),
        log_loss=_estimate(float(loss.mean()), lambda weight: float(np.average(loss, weights=weight)), codes, draws),
    )


def _auc(scores: Scores, seed: int) -> Estimate | None:
    measure = auc.auc_with_interval(
        scores.label, scores.logit, scores.patient, what="patches", seed=seed, resamples=REPLICATES
    )
    return None if measure.value is None else Estimate(value=measure.value, low=measure.low, high=measure.high)


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
    low, high = np.percentile(replicates, [2.5, 97.5])
    return Estimate(value=value, low=float(low), high=float(high))


def _cross_entropy(scores: Scores) -> NDArray[np.float64]:
    return np.logaddexp(0.0, scores.logit) - scores.logit * scores.label

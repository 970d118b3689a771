"""How good patch scores are, with confidence intervals by patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks import auc
from tasks.config import Split
from tasks.training.calibration import calibration
from tasks.training.card import CentreMetrics, Confusion, Estimate, SplitMetrics, Threshold
from tasks.training.resampling import REPLICATES, PatientBootstrap
from tasks.training.roc import roc_curve, sigmoid, youden_threshold

UNKNOWN_CENTRE = -1
_NO_THRESHOLD = 0.5


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
    centre
        (N,) medical centre of each patch, `UNKNOWN_CENTRE` where it is not known; None: of none.
    """

    logit: NDArray[np.float64]
    label: NDArray[np.int8]
    patient: NDArray[np.str_]
    centre: NDArray[np.int64] | None = None

    @property
    def probability(self) -> NDArray[np.float64]:
        """(N,) probability of "tumour"."""
        return sigmoid(self.logit)

    def of_centre(self, centre: int) -> Scores:
        """Give the patches of one centre."""
        own = self.centre == centre
        return Scores(self.logit[own], self.label[own], self.patient[own])


def area_under_curve(scores: Scores) -> float | None:
    """Area under the ROC curve; None when there is one class only."""
    return auc.area_under_curve(scores.label, scores.logit)


def log_loss(scores: Scores) -> float:
    """Mean cross-entropy in nats a patch."""
    return float(np.mean(_cross_entropy(scores)))


def choose_threshold(validation: Scores | None, wanted: str | float) -> Threshold:
    """Give the probability from which a patch is called tumour.

    Parameters
    ----------
    validation
        Scores that it is chosen by; None without a validation split.
    wanted
        A number is taken as it is; ``youden`` is the highest sensitivity + specificity on the validation
        split, and 0.5 where that has not both classes.
    """
    if not isinstance(wanted, str):
        return Threshold(value=wanted, rule="stated")
    found = None if validation is None else youden_threshold(validation.label, validation.probability)
    if found is None:
        return Threshold(value=_NO_THRESHOLD, rule="default")
    return Threshold(value=found, rule="youden")


def split_metrics(
    scores: Scores, *, split: Split, seed: int, threshold: float = _NO_THRESHOLD, held_out: bool = False
) -> SplitMetrics:
    """Measure a split, and each centre in it, with 95 % intervals.

    Patches of one patient are alike, so whole patients are drawn with replacement (`PatientBootstrap`). With
    fewer than two patients there is no interval.

    Parameters
    ----------
    threshold
        Probability from which a patch is called tumour.
    held_out
        Nothing of the model was chosen by this split.
    """
    bootstrap = PatientBootstrap.of(scores.patient, seed=seed)
    return SplitMetrics(
        split=split,
        held_out=held_out,
        rows=len(scores.label),
        tumour_rows=int(np.sum(scores.label == 1)),
        patients=bootstrap.patients,
        threshold=threshold,
        auc=_auc(scores, seed),
        accuracy=_accuracy(scores, bootstrap, threshold),
        log_loss=bootstrap.mean(_cross_entropy(scores)),
        confusion=_confusion(scores, bootstrap, threshold),
        calibration=calibration(scores.label, scores.probability, bootstrap),
        roc=roc_curve(scores.label, scores.logit),
        centres=_centres(scores, seed, threshold),
    )


def _centres(scores: Scores, seed: int, threshold: float) -> tuple[CentreMetrics, ...]:
    """Measure each centre; nothing where no centre is known."""
    if scores.centre is None or np.all(scores.centre == UNKNOWN_CENTRE):
        return ()
    return tuple(_centre(scores.of_centre(centre), int(centre), seed, threshold) for centre in np.unique(scores.centre))


def _centre(scores: Scores, centre: int, seed: int, threshold: float) -> CentreMetrics:
    bootstrap = PatientBootstrap.of(scores.patient, seed=seed)
    return CentreMetrics(
        centre=None if centre == UNKNOWN_CENTRE else centre,
        rows=len(scores.label),
        tumour_rows=int(np.sum(scores.label == 1)),
        patients=bootstrap.patients,
        auc=_auc(scores, seed),
        accuracy=_accuracy(scores, bootstrap, threshold),
        log_loss=bootstrap.mean(_cross_entropy(scores)),
    )


def _auc(scores: Scores, seed: int) -> Estimate | None:
    measure = auc.auc_with_interval(
        scores.label, scores.logit, scores.patient, what="patches", seed=seed, resamples=REPLICATES
    )
    return None if measure.value is None else Estimate(value=measure.value, low=measure.low, high=measure.high)


def _accuracy(scores: Scores, bootstrap: PatientBootstrap, threshold: float) -> Estimate:
    return bootstrap.mean((_called(scores, threshold) == (scores.label == 1)).astype(np.float64))


def _confusion(scores: Scores, bootstrap: PatientBootstrap, threshold: float) -> Confusion:
    called, tumour = _called(scores, threshold), scores.label == 1
    return Confusion(
        true_positive=int(np.sum(called & tumour)),
        false_positive=int(np.sum(called & ~tumour)),
        true_negative=int(np.sum(~called & ~tumour)),
        false_negative=int(np.sum(~called & tumour)),
        sensitivity=bootstrap.mean(called.astype(np.float64), tumour) if tumour.any() else None,
        specificity=bootstrap.mean((~called).astype(np.float64), ~tumour) if not tumour.all() else None,
    )


def _called(scores: Scores, threshold: float) -> NDArray[np.bool_]:
    return scores.probability >= threshold


def _cross_entropy(scores: Scores) -> NDArray[np.float64]:
    return np.logaddexp(0.0, scores.logit) - scores.logit * scores.label

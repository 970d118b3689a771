"""How good the scores are: areas under the ROC curve by patch and by slide, with honest intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tasks.artifacts import Record
from tasks.auc import RESAMPLES, Measure, area_under_curve, auc_with_interval
from tasks.inference.scores import Scores

THRESHOLD = 0.5


class Confusion(Record):
    """Counts at a probability of 0.5 and above being called tumour."""

    true_positive: int = Field(ge=0)
    false_positive: int = Field(ge=0)
    true_negative: int = Field(ge=0)
    false_negative: int = Field(ge=0)


class SlideScores(Record):
    """What inference found on one slide.

    Attributes
    ----------
    label
        1 annotated tumour, 0 negative, None unknown.
    score
        Slide score: a high quantile of the patch probabilities (see `slide_score`).
    patch_auc
        Area under the ROC curve of this slide's labelled patches; None when they are of one class.
    patches
        Number of scored patches.
    seconds
        Wall time of reading and prediction.
    """

    slide: str
    patient: str
    centre: int | None
    label: int | None
    score: float
    patch_auc: float | None
    patches: int
    seconds: float


class Evaluation(Record):
    """Scores of several slides against their truth.

    Attributes
    ----------
    patch_auc, slide_auc
        Pooled over all labelled patches, and over all slides whose truth is known.
    patch_confusion, slide_confusion
        Of the same patches and slides at 0.5.
    labelled_patches, labelled_slides, patients
        What the figures rest on; `patients` counts those with labelled patches or slides.
    """

    patch_auc: Measure
    slide_auc: Measure
    patch_confusion: Confusion
    slide_confusion: Confusion
    labelled_patches: int
    labelled_slides: int
    patients: int
    slide_quantile: float
    resamples: int
    seed: int


def slide_score(probability: NDArray[np.float32], quantile: float) -> float:
    """Score of a slide: the `quantile` of its patch probabilities (linear interpolation).

    A lesion may cover a hundredth of the tissue, so the mean says little; the maximum (``quantile = 1``)
    rests on a single patch.
    """
    return float(np.quantile(probability.astype(np.float64), quantile))


def patch_auc(scores: Scores) -> float | None:
    """Area under the ROC curve of one slide's labelled patches; None when they are of one class."""
    known = scores.label >= 0
    return area_under_curve(scores.label[known], scores.probability[known])


def evaluate(slides: Sequence[Scores], *, slide_quantile: float, seed: int, resamples: int = RESAMPLES) -> Evaluation:
    """Compare the scores of `slides` with their truth.

    Patches of one patient resemble each other, so the bootstrap draws patients, not patches or slides
    (taken as independent, the intervals would be too narrow). Patches and slides without a known label
    do not count.
    """
    patients = np.array([scores.attributes.patient for scores in slides])
    kept = [scores.label >= 0 for scores in slides]
    labels = np.concatenate([np.empty(0, np.int8), *(s.label[k] for s, k in zip(slides, kept, strict=True))])
    values = np.concatenate([np.empty(0, np.float32), *(s.probability[k] for s, k in zip(slides, kept, strict=True))])
    groups = np.repeat(patients, [int(k.sum()) for k in kept])
    truth = [scores.attributes.slide_label for scores in slides]
    known = np.array([label is not None for label in truth], bool)
    slide_labels = np.array([label for label in truth if label is not None], np.int8)
    slide_values = np.array([slide_score(s.probability, slide_quantile) for s in slides])[known]
    return Evaluation(
        patch_auc=auc_with_interval(labels, values, groups, what="patches", seed=seed, resamples=resamples),
        slide_auc=auc_with_interval(
            slide_labels, slide_values, patients[known], what="slides", seed=seed, resamples=resamples
        ),
        patch_confusion=_confusion(labels, values),
        slide_confusion=_confusion(slide_labels, slide_values),
        labelled_patches=len(labels),
        labelled_slides=len(slide_labels),
        patients=len(set(groups) | set(patients[known])),
        slide_quantile=slide_quantile,
        resamples=resamples,
        seed=seed,
    )


def _confusion(labels: NDArray[np.int8], values: NDArray[np.floating]) -> Confusion:
    tumour, called = labels == 1, values >= THRESHOLD
    return Confusion(
        true_positive=int((tumour & called).sum()),
        false_positive=int((~tumour & called).sum()),
        true_negative=int((~tumour & ~called).sum()),
        false_negative=int((tumour & ~called).sum()),
    )

"""Which slides of a cohort are for training, validation and testing, as its configuration wants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tasks.cohort_config import CohortConfig
from tasks.config import Split
from tasks.errors import InputError
from tasks.slides.cohort import SlideRecord
from tasks.slides.split import assign_splits, by_patient, divide, strata
from tasks.slides.split_list import ListedSlide, read_split_lists

_Slides = Mapping[str, Sequence[SlideRecord]]


def split_cohort(records: Iterable[SlideRecord], cohort: CohortConfig, seed: int) -> dict[str, Split]:
    """Give each slide its split; all slides of a patient have the same, whatever the rule.

    ``cohort.split`` is the rule:

    ``patient``
        The fractions (see `assign_splits`).
    ``centre``
        Patients of ``cohort.test_centres`` are for testing, of the others ``cohort.validation_fraction`` for
        validation.
    ``folds``
        Patients are dealt out to ``cohort.folds`` parts that are alike in size, truth and centres; the part
        ``cohort.fold`` is for testing, of the others the fraction for validation. Over all folds each patient is
        for testing once.
    ``lists``
        ``cohort.split_lists`` say it. A slide that they do not name has the split of its patient; patients of
        whom they name no slide are left out.

    Depends on the seed, not on the order of the records. The last three look neither at splits in a table of
    slides nor at names of CAMELYON16.

    Returns
    -------
    dict
        Slide name to split.

    Raises
    ------
    InputError
        A patient would be in two splits, a slide's centre is not known where centres decide, a centre or a listed
        slide is not there, or no patient is left for training.
    """
    slides = by_patient(records)
    match cohort.split:
        case "patient":
            everyone = (record for own in slides.values() for record in own)
            return assign_splits(everyone, cohort.validation_fraction, cohort.test_fraction, seed)
        case "centre":
            split_of = _without(_of_centres(slides, cohort), slides, cohort, seed)
        case "folds":
            split_of = _without(_of_fold(slides, cohort, seed), slides, cohort, seed)
        case "lists":
            split_of = _listed(slides, cohort)
    if "train" not in split_of.values():
        raise InputError(
            f"cohort.split = {cohort.split!r} leaves no patient for training",
            subject=cohort.slides,
            remedy="test with fewer centres, or name more patients",
        )
    return {record.name: split for patient, split in split_of.items() for record in slides[patient]}


def _without(tests: set[str], slides: _Slides, cohort: CohortConfig, seed: int) -> dict[str, Split]:
    """Divide the patients that are not for testing."""
    split_of: dict[str, Split] = dict.fromkeys(tests, "test")
    for alike in strata({patient: own for patient, own in slides.items() if patient not in tests}, seed):
        split_of |= divide(alike, cohort.validation_fraction, 0.0)
    return split_of


def _of_centres(slides: _Slides, cohort: CohortConfig) -> set[str]:
    known = {record.centre for own in slides.values() for record in own}
    for centre in cohort.test_centres:
        if centre not in known:
            there = ", ".join(str(one) for one in sorted(one for one in known if one is not None)) or "none"
            raise InputError(
                f"has no slide of centre {centre}",
                subject=cohort.slides,
                remedy=f"name centres of the cohort in cohort.test_centres; known are: {there}",
            )
    return {patient for patient, own in slides.items() if _is_of(own, cohort.test_centres)}


def _is_of(own: Sequence[SlideRecord], centres: tuple[int, ...]) -> bool:
    unknown = next((record for record in own if record.centre is None), None)
    if unknown is not None:
        raise InputError(
            "is of a centre that is not known, but cohort.split = 'centre'",
            subject=unknown.path,
            remedy="tell the centre in a table of slides, or leave the slide out with cohort.centres",
        )
    inside = {record.centre in centres for record in own}
    if len(inside) > 1:
        of = ", ".join(sorted({str(record.centre) for record in own}))
        raise InputError(
            f"has slides of the centres {of}, some of them for testing and some not",
            subject=f"patient {own[0].patient}",
            remedy="put all of them into cohort.test_centres, or leave the patient out",
        )
    return inside.pop()


def _of_fold(slides: _Slides, cohort: CohortConfig, seed: int) -> set[str]:
    folds, fold = cohort.folds, cohort.fold
    dealt = [patient for alike in strata(slides, seed) for patient in alike]
    if folds is None or fold is None or len(dealt) < folds:
        raise InputError(
            f"has {len(dealt)} patients, too few for {folds} folds",
            subject=cohort.slides,
            remedy="use fewer folds: each needs a patient",
        )
    return set(dealt[fold::folds])


def _listed(slides: _Slides, cohort: CohortConfig) -> dict[str, Split]:
    listed = read_split_lists(cohort.split_lists)
    known = {record.name.lower() for own in slides.values() for record in own}
    missing = sorted(set(listed) - known)
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise InputError(
            f"names slide {missing[0]}{more}, which the cohort does not have",
            subject=listed[missing[0]].where,
            remedy="add the slide to cohort.slides, or take its lines out",
        )
    return {patient: split for patient, own in slides.items() if (split := _of_patient(own, listed)) is not None}


def _of_patient(own: Sequence[SlideRecord], listed: Mapping[str, ListedSlide]) -> Split | None:
    named = [listed[record.name.lower()] for record in own if record.name.lower() in listed]
    for other in named[1:]:
        if other.split != named[0].split:
            raise InputError(
                f"puts patient {own[0].patient} into {other.split!r}, but {named[0].where} into {named[0].split!r}",
                subject=other.where,
                remedy="give all slides of a patient the same split: a model must be judged on other patients",
            )
    return named[0].split if named else None

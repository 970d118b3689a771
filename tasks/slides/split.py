"""Training, validation and test slides, divided by patient in given shares."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tasks.config import Split
from tasks.errors import InputError
from tasks.slides.cohort import SlideRecord, Truth

_OFFICIAL_TEST = re.compile(r"test_\d{3}", re.IGNORECASE)


def assign_splits(
    records: Iterable[SlideRecord], validation_fraction: float, test_fraction: float, seed: int
) -> dict[str, Split]:
    """Give each slide a split; all slides of a patient have the same.

    Patients with tumour, patients known to be negative, and the others are divided one kind after the other, each
    spread evenly over the centres. Of a kind with three patients or more every wanted split gets at least one; of
    two, one is for training and one for testing (validation where no test split is wanted); one alone is for
    training. A patient whose split is given (by a table of slides) has it, and the test slides of CAMELYON16
    (``test_001`` ...) are test slides; both count toward the fractions. Depends on the seed, not on the order of
    the records.

    Parameters
    ----------
    records
        The cohort.
    validation_fraction, test_fraction
        Shares of the patients, each 0 or more, below 1 together.
    seed
        Chooses among the patients.

    Returns
    -------
    dict
        Slide name to split.

    Raises
    ------
    InputError
        A patient is given two splits.
    """
    records = list(records)
    slides = by_patient(records)
    split_of = {patient: split for patient, own in slides.items() if (split := _given(own)) is not None}
    free = [patient for patient in slides if patient not in split_of]
    given = Counter(split_of.values())
    rest = len(slides) - given["test"]
    test_fraction = _share(test_fraction * len(slides) - given["test"], len(free))
    validation_fraction = _share(validation_fraction * rest - given["validation"], len(free))
    for alike in strata({patient: slides[patient] for patient in free}, seed):
        split_of |= divide(alike, validation_fraction, test_fraction)
    return {record.name: split_of[record.patient] for record in records}


def by_patient(records: Iterable[SlideRecord]) -> dict[str, list[SlideRecord]]:
    """Give the slides of each patient."""
    slides: dict[str, list[SlideRecord]] = defaultdict(list)
    for record in records:
        slides[record.patient].append(record)
    return slides


def strata(slides: Mapping[str, Sequence[SlideRecord]], seed: int) -> list[list[str]]:
    """Patients with tumour, those known to be negative, and the others; each in an order of the seed, by centre."""
    kinds: tuple[Truth, ...] = ("tumour", "negative", "unknown")
    return [
        _by_centre({patient: _centre(own) for patient, own in slides.items() if _kind(own) == kind}, seed)
        for kind in kinds
    ]


def divide(patients: list[str], validation_fraction: float, test_fraction: float) -> dict[str, Split]:
    """Give patients that are alike their splits, each split spread evenly over the list."""
    tests, validations = _counts(len(patients), validation_fraction, test_fraction)
    test = _evenly(patients, tests)
    rest = [patient for patient in patients if patient not in test]
    validation = _evenly(rest, validations)
    return {
        patient: "test" if patient in test else "validation" if patient in validation else "train"
        for patient in patients
    }


def _given(slides: Sequence[SlideRecord]) -> Split | None:
    splits = {record.split for record in slides if record.split is not None}
    if len(splits) > 1:
        raise InputError(
            f"has slides in {' and '.join(sorted(splits))}",
            subject=f"patient {slides[0].patient}",
            remedy="give all slides of a patient the same split",
        )
    if splits:
        return splits.pop()
    return "test" if any(_OFFICIAL_TEST.fullmatch(record.name) for record in slides) else None


def _share(wanted: float, patients: int) -> float:
    """Share of these patients that still makes up what is wanted."""
    return max(0.0, wanted) / patients if patients else 0.0


def _kind(slides: Sequence[SlideRecord]) -> Truth:
    truths = {record.truth for record in slides}
    if "tumour" in truths or any(record.label == "tumour" for record in slides):
        return "tumour"
    return "negative" if truths == {"negative"} else "unknown"


def _centre(slides: Sequence[SlideRecord]) -> int:
    return min((record.centre for record in slides if record.centre is not None), default=-1)


def _by_centre(centre_of: dict[str, int], seed: int) -> list[str]:
    """Patients in an order of the seed, centre by centre."""
    return sorted(
        centre_of,
        key=lambda patient: (_draw(seed, f"centre {centre_of[patient]}"), centre_of[patient], _draw(seed, patient)),
    )


def _draw(seed: int, name: str) -> bytes:
    # A digest, unlike a generator, gives a patient the same number whoever else is in the cohort.
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def _counts(patients: int, validation_fraction: float, test_fraction: float) -> tuple[int, int]:
    """How many of these patients are for test and for validation."""
    spare = max(0, patients - 1)
    tests = min(spare, max(_rounded(patients * test_fraction), int(test_fraction > 0)))
    spare -= tests
    validations = min(spare, max(_rounded(patients * validation_fraction), int(validation_fraction > 0)))
    if not validations and validation_fraction > 0 and tests > 1:
        tests, validations = tests - 1, 1
    return tests, validations


def _rounded(number: float) -> int:
    return math.floor(number + 0.5)


def _evenly(patients: list[str], count: int) -> set[str]:
    """`count` patients at even distances, so that neighbours in the list (one centre) are spread out."""
    return {patients[int((k + 0.5) * len(patients) / count)] for k in range(count)}

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.errors import InputError
from tasks.slides.annotations import Annotations, Polygon, Role
from tasks.slides.cohort import SlideRecord
from tasks.slides.truth import as_outlined

SQUARE = np.array([(1.0, 1.0), (5.0, 1.0), (5.0, 5.0)])


def record(**facts: Any) -> SlideRecord:  # noqa: ANN401  # fields of the record
    known = {"name": "a", "path": Path("a.tif"), "patient": "a", "annotation": Path("a.xml"), "truth": "tumour"}
    return SlideRecord.model_validate(known | {"exhaustive": True} | facts)


def outlined(*roles: Role, dropped: int = 0) -> Annotations:
    polygons = tuple(Polygon("x", role, SQUARE) for role in roles)
    return Annotations(polygons, {"Dot is no outline": dropped} if dropped else {})


def test_an_outline_of_tumour_changes_nothing() -> None:
    for one in (record(), record(label="tumour"), record(exhaustive=False)):
        assert as_outlined(one, outlined("hole", "tumour", dropped=1)) is one
    negative = record(annotation=None, truth="negative", label="negative")
    assert as_outlined(negative, None) is negative


@pytest.mark.parametrize("annotations", [outlined(), outlined("hole")])
def test_a_complete_annotation_without_tumour_is_of_a_negative_slide(annotations: Annotations) -> None:
    found = as_outlined(record(), annotations)
    assert (found.truth, found.exhaustive) == ("negative", True)


@pytest.mark.parametrize(
    ("one", "annotations"),
    [
        (record(), outlined(dropped=2)),
        (record(exhaustive=False), outlined()),
        (record(exhaustive=False, label="tumour", stage="itc"), outlined()),
    ],
)
def test_of_an_incomplete_one_nothing_is_known(one: SlideRecord, annotations: Annotations) -> None:
    found = as_outlined(one, annotations)
    assert (found.truth, found.exhaustive) == ("unknown", False)


def test_a_slide_with_tumour_cannot_have_a_complete_annotation_without() -> None:
    with pytest.raises(InputError, match=r"a\.xml: outlines no tumour") as caught:
        as_outlined(record(label="tumour"), outlined())
    assert "cohort.tumour_values" in str(caught.value.remedy)

"""What is known of a slide once its annotation is read."""

from __future__ import annotations

from tasks.errors import InputError
from tasks.slides.annotations import Annotations
from tasks.slides.cohort import SlideRecord


def as_outlined(record: SlideRecord, annotations: Annotations | None) -> SlideRecord:
    """Return the record with its truth corrected where the annotation outlines no tumour.

    Of a complete annotation without tumour (a mask of zeros, an XML saved without outlines) the slide is known to
    be negative; of one that had entries left out, or that is not complete, nothing is known.

    Raises
    ------
    InputError
        The slide is known to have tumour, and its annotation, which should be complete, outlines none.
    """
    if annotations is None or annotations.of("tumour"):
        return record
    if record.label == "tumour" and record.exhaustive:
        raise InputError(
            "outlines no tumour, but its slide is known to have some",
            subject=record.annotation,
            remedy="check that it belongs to this slide, and cohort.tumour_values if it is a mask",
        )
    if record.exhaustive and not annotations.dropped:
        return record.model_copy(update={"truth": "negative"})
    return record.model_copy(update={"truth": "unknown", "exhaustive": False})

"""A slide that is being preprocessed: open, with its masks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tasks import atomic
from tasks.patches.effort import spent_on
from tasks.patches.outcome import forget_other
from tasks.patches.sampling import SlideMasks
from tasks.patches.scale import Scale, scale_of
from tasks.patches.slide_job import SlideJob
from tasks.patches.slide_masks import KnownSlide, make_masks, read_known, write_known
from tasks.slides.annotation_files import read_annotations
from tasks.slides.annotations import Annotations
from tasks.slides.geojson import to_geojson
from tasks.slides.reader import SlideReader, open_slide
from tasks.slides.truth import as_outlined


@dataclass(frozen=True, slots=True)
class SlideInWork:
    """What a slide's patches are cut with.

    Attributes
    ----------
    job
        The truth of its record is what the annotation says.
    digest, key
        Of the slide file, and of all that is made from it.
    """

    job: SlideJob
    digest: str
    key: str
    reader: SlideReader
    scale: Scale
    masks: SlideMasks

    @property
    def has_tissue(self) -> bool:
        """Whether there is anything to cut."""
        return bool(self.masks.tissue.any())


@contextmanager
def slide_in_work(job: SlideJob, digest: str, key: str, *, keep: bool) -> Iterator[SlideInWork]:
    """Open a slide with its masks, made now or found under its key, and write the outlines of its annotation.

    What was recorded of the slide under another key is forgotten.

    Parameters
    ----------
    keep
        Keep the masks for other parts of the slide.

    Raises
    ------
    InputError
        The slide or its annotation cannot be read, or does not have what the configuration asks for.
    """
    with open_slide(job.record.path, job.mpp) as reader:
        scale = scale_of(reader, job.config)
        for record in (job.outcome_path, job.sampled_outcome_path):
            forget_other(record, key)
        known = read_known(job.masks_path, key)
        if known is None or not _has_outlines(job, known):
            with spent_on("masks"):
                known = _know(job, reader)
                if keep:
                    write_known(job.masks_path, key, known)
        job = job.model_copy(update={"record": known.told_of(job.record)})
        yield SlideInWork(job, digest, key, reader, scale, known.masks)


def _know(job: SlideJob, reader: SlideReader) -> KnownSlide:
    """Read the annotation, and write its outlines; make the masks."""
    annotations = _annotations(job, reader)
    record = as_outlined(job.record, annotations)
    masks = make_masks(reader, annotations, job.config.tissue)
    if annotations is not None and masks.tissue.any():
        atomic.write_text(job.annotation_path, to_geojson(annotations))
    return KnownSlide(masks, record.truth, record.exhaustive)


def _has_outlines(job: SlideJob, known: KnownSlide) -> bool:
    return job.record.annotation is None or not known.masks.tissue.any() or job.annotation_path.is_file()


def _annotations(job: SlideJob, reader: SlideReader) -> Annotations | None:
    if job.record.annotation is None:
        return None
    read = read_annotations(job.record.annotation, job.record.tumour_values)
    return read.within(*reader.dimensions_px)

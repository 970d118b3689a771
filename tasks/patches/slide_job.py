"""All that decides what is made from one slide, and the content key that follows from it."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from tasks.artifacts import Record
from tasks.caching import content_key
from tasks.config import PreprocessConfig, Split
from tasks.digests import DigestIndex, bytes_digest, file_digest
from tasks.patches.attributes import SCHEMA
from tasks.patches.shard_names import part_name, shard_name
from tasks.slides.cohort import SlideRecord

# Masks have gigabytes; outlines are read anew, so that the index holds no entry for each of them.
_INDEXED_BYTES = 1 << 24


class SlideJob(Record):
    """One slide to preprocess.

    Attributes
    ----------
    root
        Root of the site; the paths of the files that are made are relative to it.
    folder
        Where the files go, below `root`.
    mpp
        µm per pixel for slides that do not state it.
    """

    record: SlideRecord
    split: Split
    config: PreprocessConfig
    seed: int
    mpp: float | None
    root: Path
    folder: Path

    @property
    def slide_seed(self) -> int:
        """Seed of this slide: of the run and the slide's name, so that it does not depend on the order."""
        return int(bytes_digest(f"{self.seed}/{self.record.name}".encode()).split(":")[1][:8], 16)

    @property
    def has_grid(self) -> bool:
        """Whether the slide also gets a dense grid."""
        return self.split in self.config.grid_splits

    @property
    def sampled_path(self) -> Path:
        """Shard of random patches, for training."""
        return self.folder / "sampled" / shard_name(self.record.name)

    @property
    def grid_path(self) -> Path:
        """Shard of the dense grid, for inference, of a slide that is not cut in parts."""
        return self.grid_part_path(1, 1)

    def grid_part_path(self, part: int, parts: int) -> Path:
        """Shard of one part of the dense grid, from 1."""
        return self.folder / "grid" / shard_name(self.record.name, part, parts)

    @property
    def thumbnail_path(self) -> Path:
        """The whole slide at low resolution."""
        return self.folder / "thumbnails" / f"{self.record.name}.jpg"

    @property
    def sampling_path(self) -> Path:
        """The thumbnail with the outlines of tissue and tumour and the sampled patches."""
        return self.folder / "sampling" / f"{self.record.name}.jpg"

    @property
    def annotation_path(self) -> Path:
        """The annotation as GeoJSON in level-0 pixels."""
        return self.folder / "annotations" / f"{self.record.name}.geojson"

    @property
    def outcome_path(self) -> Path:
        """The record of the finished slide, written last."""
        return self.folder / "outcomes" / f"{self.record.name}.json"

    @property
    def masks_path(self) -> Path:
        """Masks of a slide in parts, which are made once for all of them."""
        return self.folder / "parts" / f"{self.record.name}.masks.npz"

    @property
    def sampled_outcome_path(self) -> Path:
        """The record of the random patches and pictures of a slide in parts; its name says nothing of how many."""
        return self.folder / "parts" / f"{self.record.name}.sampled.json"

    def slide_digest(self) -> str:
        """Digest of the slide file, remembered while the file does not change."""
        return self._digests.digest(self.record.path)

    def key(self, slide_digest: str) -> str:
        """Content key of everything that is made from the slide."""
        # Split and µm per pixel that a table of slides gives have become the job's own.
        own = {"path": Path(self.record.path.name), "annotation": None, "split": None, "mpp": None}
        facts = self.record.model_copy(update=own).model_dump_json()
        return content_key(
            SCHEMA,
            inputs=[slide_digest, self._annotation_digest(), facts, self.split, str(self.seed), str(self.mpp)],
            config=self.config,
            code=["tasks.slides", "tasks.patches"],
        )

    def known_key(self) -> str | None:
        """Return the content key if it is known without reading the slide or a large annotation, else None.

        A slide or annotation that is gone or unreadable has no known key; `key` says what is wrong with it.
        """
        try:
            digest = self._digests.known(self.record.path)
            annotation = self.record.annotation
            unread = annotation and _is_large(annotation) and self._digests.known(annotation) is None
            return None if digest is None or unread else self.key(digest)
        except OSError:
            return None

    def _annotation_digest(self) -> str:
        annotation = self.record.annotation
        if annotation is None:
            return "no annotation"
        return self._digests.digest(annotation) if _is_large(annotation) else file_digest(annotation)

    @property
    def _digests(self) -> DigestIndex:
        return DigestIndex(self.root / ".digests")


class SlidePart(Record):
    """One part of a large slide, a task of its own.

    Attributes
    ----------
    number
        0: the random patches and the pictures; 1 to `parts`: a band of the dense grid.
    parts
        Number of bands.
    """

    job: SlideJob
    number: int = Field(ge=0)
    parts: int = Field(ge=2)

    @property
    def name(self) -> str:
        """For people: ``part 2 of 4``, or ``random patches``."""
        return f"part {self.number} of {self.parts}" if self.number else "random patches"

    @property
    def outcome_path(self) -> Path:
        """The record of the finished part, written last."""
        if self.number == 0:
            return self.job.sampled_outcome_path
        return self.job.folder / "parts" / f"{self.job.record.name}.{part_name(self.number, self.parts)}.json"


def _is_large(path: Path) -> bool:
    return path.stat().st_size >= _INDEXED_BYTES

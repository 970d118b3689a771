"""All that decides what is made from one slide, and the content key that follows from it."""

from __future__ import annotations

from pathlib import Path

from tasks.artifacts import Record
from tasks.caching import content_key
from tasks.config import PreprocessConfig, Split
from tasks.digests import DigestIndex, bytes_digest, file_digest
from tasks.patches.attributes import SCHEMA
from tasks.slides.cohort import SlideRecord


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
    def sampled_path(self) -> Path:
        """Shard of random patches, for training."""
        return self.folder / "sampled" / f"{self.record.name}.patches.h5"

    @property
    def grid_path(self) -> Path:
        """Shard of the dense grid, for inference."""
        return self.folder / "grid" / f"{self.record.name}.patches.h5"

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

    def slide_digest(self) -> str:
        """Digest of the slide file, remembered while the file does not change."""
        return self._digests.digest(self.record.path)

    def key(self, slide_digest: str) -> str:
        """Content key of everything that is made from the slide."""
        annotation = file_digest(self.record.annotation) if self.record.annotation else "no annotation"
        facts = self.record.model_copy(update={"path": Path(self.record.path.name), "annotation": None})
        return content_key(
            SCHEMA,
            inputs=[slide_digest, annotation, facts.model_dump_json(), self.split, str(self.seed), str(self.mpp)],
            config=self.config,
            code=["tasks.slides", "tasks.patches"],
        )

    def known_key(self) -> str | None:
        """Return the content key if the slide's digest is known without reading the slide, else None.

        A slide or annotation that is gone or unreadable has no known key; `key` says what is wrong with it.
        """
        try:
            digest = self._digests.known(self.record.path)
            return None if digest is None else self.key(digest)
        except OSError:
            return None

    @property
    def _digests(self) -> DigestIndex:
        return DigestIndex(self.root / ".digests")

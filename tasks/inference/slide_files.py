"""What inference is given for a slide and what it gives back: paths, never handles."""

from __future__ import annotations

from pathlib import Path

from tasks.artifacts import Record
from tasks.inference.evaluate import SlideScores


class SlideInputs(Record):
    """The files of one slide at the site of inference; the slide itself need not be there.

    Attributes
    ----------
    shards
        Dense grid of patches (``camnet-patches/1``): one shard, or all parts of a large slide.
    shard_digests
        Digests of `shards` when they are known already (from the manifest); computed otherwise.
    thumbnail
        The whole slide as a small JPEG or PNG.
    annotation
        GeoJSON outlines in level-0 pixels; None without an annotation.
    """

    shards: tuple[Path, ...]
    shard_digests: tuple[str, ...] | None = None
    thumbnail: Path
    annotation: Path | None = None


class InferredSlide(Record):
    """A slide that is done, with its files."""

    scores: SlideScores
    scores_path: Path
    heatmap_path: Path


class FailedSlide(Record):
    """A slide that could not be scored, and why; `shard` is its first."""

    shard: Path
    reason: str
    remedy: str | None

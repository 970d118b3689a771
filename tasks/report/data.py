"""All that the report of a run shows, gathered before anything is drawn."""

from __future__ import annotations

from pathlib import Path

from tasks.artifacts import Record


class StageTime(Record):
    """One stage of the run.

    Attributes
    ----------
    reused
        The stage found its work finished under the same content key.
    detail
        One line for people, for example ``12 slides, 1 failed``.
    """

    stage: str
    site: str
    why: str
    seconds: float
    reused: bool
    detail: str


class SlideRow(Record):
    """One slide of the cohort after preprocessing. `rejected` counts positions left out, by reason."""

    slide: str
    patient: str
    centre: int | None
    split: str
    truth: str
    state: str
    seconds: float
    tumour_patches: int
    normal_patches: int
    grid_patches: int
    rejected: dict[str, int]


class TransferRow(Record):
    """Sum of all transfers between two sites with one protocol. Mb/s are megabits (10^6) per wire second."""

    source: str
    destination: str
    protocol: str
    files: int
    attempts: int
    bytes: int
    wire_s: float
    verify_s: float
    megabits_per_s: float | None
    median_file_megabits_per_s: float | None
    bytes_resent: int
    failures: int


class Score(Record):
    """A figure of merit with its 95 % interval; `value` is None with a reason when it does not exist."""

    value: float | None
    low: float | None
    high: float | None
    note: str


class QualityRow(Record):
    """How well the model does on one split, or on one centre of it, as its card says.

    Attributes
    ----------
    centre
        ``all`` for the whole split, a number, or ``not known``.
    held_out
        Nothing of the model was chosen by this split.
    calibration_error
        Expected calibration error; like all that is None it is not measured by centre.
    complete
        Whether the split had all patches that were expected of it.
    """

    split: str
    centre: str
    held_out: bool
    patients: int
    rows: int
    tumour_rows: int
    auc: Score
    accuracy: Score
    sensitivity: Score | None
    specificity: Score | None
    log_loss: Score
    brier: Score | None
    calibration_error: float | None
    complete: bool = True

    @property
    def split_told(self) -> str:
        """The split, and that some of its patches were missing."""
        return self.split if self.complete else f"{self.split}, incomplete"


class HeatmapRow(Record):
    """One slide that was scored. Pictures are files beside the report, or None when they stay at their site.

    Attributes
    ----------
    heatmap
        Slide and annotated tumour beside the map of the probabilities.
    panel
        Grad-CAM of its highest scored patches.
    """

    slide: str
    patient: str
    truth: str
    slide_score: float
    patch_auc: float | None
    patches: int
    heatmap: Path | None
    panel: Path | None


class Failure(Record):
    """Something that was not done, with its cause and what to do about it."""

    stage: str
    subject: str
    cause: str
    remedy: str | None


class ReportData(Record):
    """Everything on the page. Paths of pictures are absolute or relative to the folder of the report.

    Attributes
    ----------
    started
        UTC, ISO 8601.
    versions
        Name and version of the software that took part.
    configuration
        The run configuration as TOML or JSON text.
    model
        Facts of the model card, in the order in which they are shown.
    quality
        Figures of the model card, by split and centre.
    curves, roc, reliability
        PNGs of the training curves, the ROC curves and the reliability diagrams.
    thumbnails
        Slide name and picture of its tissue, tumour and sampled patches.
    notes
        Sentences that a reader must know, for example that pictures stay at a resident site.
    """

    run: str
    started: str
    seconds: float
    state: str
    versions: dict[str, str]
    machine: str
    configuration: str
    stages: tuple[StageTime, ...]
    slides: tuple[SlideRow, ...]
    transfers: tuple[TransferRow, ...]
    model: dict[str, str]
    quality: tuple[QualityRow, ...]
    curves: Path | None
    roc: Path | None
    reliability: Path | None
    patch_auc: Score | None
    slide_auc: Score | None
    heatmaps: tuple[HeatmapRow, ...]
    thumbnails: tuple[tuple[str, Path], ...]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]

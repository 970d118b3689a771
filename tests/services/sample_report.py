"""The report of a plausible run: 12 slides of 6 patients, one of which cannot be opened, with pictures on disk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from tasks.report.data import Failure, HeatmapRow, ReportData, Score, SlideRow, StageTime, TransferRow
from tasks.report.quality import quality_rows
from tasks.train_config import TrainConfig
from tasks.training.card import ModelCard
from tasks.training.curves import draw_curves
from tasks.training.metrics import Scores, choose_threshold, split_metrics
from tasks.training.quality_figures import draw_reliability, draw_roc

HOSTILE_NAME = "<img src=x onerror=alert(1)>"
UNREADABLE = "patient_046_node_3"
_PINK, _PURPLE, _GLASS = np.array([228, 176, 205.0]), np.array([128, 84, 150.0]), np.array([244, 243, 245.0])


@dataclass(frozen=True)
class Specimen:
    """One slide of the sample, before it is drawn."""

    name: str
    patient: str
    centre: int
    split: str
    truth: str
    slide_score: float
    patch_auc: float | None


SPECIMENS = (
    Specimen("patient_004_node_4", "patient_004", 0, "train", "macro", 0.99, 0.97),
    Specimen("patient_004_node_1", "patient_004", 0, "train", "negative", 0.18, None),
    Specimen("patient_017_node_2", "patient_017", 0, "train", "micro", 0.93, 0.95),
    Specimen("patient_024_node_0", "patient_024", 1, "train", "negative", 0.22, None),
    Specimen("patient_024_node_2", "patient_024", 1, "train", "macro", 0.98, 0.96),
    Specimen("patient_039_node_1", "patient_039", 1, "validation", "macro", 0.95, 0.94),
    Specimen("patient_039_node_3", "patient_039", 1, "validation", "negative", 0.31, None),
    Specimen("patient_046_node_4", "patient_046", 2, "test", "macro", 0.987, 0.961),
    Specimen("patient_046_node_1", "patient_046", 2, "test", "negative", 0.274, None),
    Specimen("patient_075_node_4", "patient_075", 3, "test", "micro", 0.812, 0.923),
    Specimen("patient_075_node_2", "patient_075", 3, "test", "negative", 0.409, None),
)


def sample_report(folder: Path) -> ReportData:
    """Draw all pictures below `folder` and describe the run; paths are relative to it."""
    return ReportData(
        run="camelyon-two-sites",
        started="2026-03-02T09:14:07+01:00",
        seconds=2951.4,
        state="partial",
        versions={"camnet": "0.1.0", "tensorflow": "2.21.0", "horovod": "0.28.1", "prefect": "3.8.8"},
        machine="login1 (Linux 6.1, 2 cores, 25 GB memory)",
        configuration='name = "camelyon-two-sites"\nseed = 7\n\n[cohort]\nslides = "slides"\n\n[train]\nepochs = 10\n',
        stages=_stages(),
        slides=_slides(),
        transfers=_transfers(),
        model=_model(),
        quality=quality_rows(sample_card()),
        curves=_curves(folder),
        roc=_quality_picture(folder, "roc.png"),
        reliability=_quality_picture(folder, "reliability.png"),
        patch_auc=Score(value=0.953, low=0.914, high=0.981, note=""),
        slide_auc=Score(value=None, low=None, high=None, note="needs 3 positive slides or more, there are 2"),
        heatmaps=tuple(_heatmap(folder, number, row) for number, row in enumerate(SPECIMENS) if row.split == "test"),
        thumbnails=tuple((row.name, _thumbnail(folder, number, row)) for number, row in enumerate(SPECIMENS)),
        failures=(
            Failure(
                stage="preprocess",
                subject=f"slides/{UNREADABLE}.tif",
                cause="cannot be opened: not a file that OpenSlide can recognise",
                remedy="copy this slide again and compare its MD5 with checksums.md5 of the data set",
            ),
        ),
        notes=(
            "Slides of split 'train' were not scored: the figures of merit rest on 4 slides of 2 patients.",
            "The interval of the patch AUC is a percentile bootstrap over patients (2000 resamples).",
        ),
    )


def empty_report() -> ReportData:
    """A run that ended before its first stage."""
    return ReportData(
        run="nothing-yet",
        started="2026-03-02T08:14:07Z",
        seconds=0.02,
        state="failed",
        versions={},
        machine="login1",
        configuration="",
        stages=(),
        slides=(),
        transfers=(),
        model={},
        quality=(),
        curves=None,
        roc=None,
        reliability=None,
        patch_auc=None,
        slide_auc=None,
        heatmaps=(),
        thumbnails=(),
        failures=(),
        notes=(),
    )


def tissue(seed: int, height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Paint something that is as hard to compress as stained tissue, uint8 (height, width, 3)."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height_px, 0:width_px] / np.array([height_px, width_px]).reshape(2, 1, 1)
    waves = sum(
        np.sin(2 * np.pi * (fx * x + fy * y) + phase)
        for fx, fy, phase in zip(random.normal(0, 3, 9), random.normal(0, 3, 9), random.uniform(0, 6, 9), strict=True)
    )
    inside = np.hypot((x - 0.5) / 0.42, (y - 0.5) / 0.40) + 0.05 * waves < 1
    share = np.clip(0.5 + 0.2 * waves + random.normal(0, 0.16, (height_px, width_px)), 0, 1)[..., None]
    colour = np.where(inside[..., None], share * _PURPLE + (1 - share) * _PINK, _GLASS)
    return np.clip(colour + random.normal(0, 4, colour.shape), 0, 255).astype(np.uint8)


def _stages() -> tuple[StageTime, ...]:
    rows = (
        ("preprocess", "site-a", "the slides are there", 842.1, False, "12 slides, 1 failed"),
        ("transfer", "site-b", "training runs there, the slides are at site-a", 96.4, False, "11 shards, 1.24 GB"),
        ("train", "site-b", "configured; 2 slots for ranks", 1671.8, False, "10 epochs, best epoch 8"),
        ("infer", "site-b", "the model is there", 244.0, False, "4 slides"),
        ("explain", "site-b", "the model is there", 88.3, False, "4 slides, 16 patches"),
        ("report", "site-a", "the coordinator is there", 0.0, True, "this page"),
    )
    return tuple(
        StageTime(stage=stage, site=site, why=why, seconds=seconds, reused=reused, detail=detail)
        for stage, site, why, seconds, reused, detail in rows
    )


def _slides() -> tuple[SlideRow, ...]:
    done = [
        SlideRow(
            slide=row.name,
            patient=row.patient,
            centre=row.centre,
            split=row.split,
            truth=row.truth,
            state="done",
            seconds=61.7 + 9.3 * (number % 4),
            tumour_patches=0 if row.truth == "negative" else 500 - 37 * number,
            normal_patches=500,
            grid_patches=11_482 + 903 * number if row.split == "test" else 0,
            rejected={"too little tissue": 1204 + 17 * number, "white": 211 - number, "over the slide's edge": number}
            | ({} if row.truth == "negative" else {"tumour border or not annotated": 341, "black": 2}),
        )
        for number, row in enumerate(SPECIMENS)
    ]
    failed = SlideRow(
        slide=UNREADABLE,
        patient="patient_046",
        centre=None,
        split="test",
        truth="unknown",
        state="failed",
        seconds=0.3,
        tumour_patches=0,
        normal_patches=0,
        grid_patches=0,
        rejected={},
    )
    return (*done, failed)


def _transfers() -> tuple[TransferRow, ...]:
    shards = TransferRow(
        source="site-a",
        destination="site-b",
        protocol="sftp",
        files=12,
        attempts=13,
        bytes=1_238_400_512,
        wire_s=31.7,
        verify_s=4.2,
        megabits_per_s=312.53,
        median_file_megabits_per_s=296.1,
        bytes_resent=8_388_608,
        failures=1,
    )
    scores = shards.model_copy(
        update={
            "source": "site-b",
            "destination": "site-a",
            "files": 8,
            "attempts": 8,
            "bytes": 2_310_400,
            "wire_s": 0.41,
            "verify_s": 0.02,
            "megabits_per_s": 45.08,
            "median_file_megabits_per_s": None,
            "bytes_resent": 0,
            "failures": 0,
        }
    )
    return shards, scores


def _model() -> dict[str, str]:
    return {
        "Architecture": "MobileNetV2, 2,259,265 parameters",
        "Input": "224 × 224 px RGB at 0.243 µm per pixel (level 0)",
        "Ranks": "2 (gloo); weights equal over ranks: yes",
        "Epochs": "10, best epoch 8",
        "Patients": "3 training, 1 validation, 2 test",
        "Labels": "normal, tumour",
        "Threshold": "tumour from 0.493 up (highest sensitivity + specificity on the validation split)",
        "Weights": "sha256:5d1f0c6b2f3e4a7988aab0c1d2e3f405162738495a6b7c8d9e0f1a2b3c4d5e6f",
    }


def partly_validated_card() -> ModelCard:
    """Give the same card, of a model some of whose validation shards had not come."""
    card = sample_card()
    metrics = tuple(one.model_copy(update={"complete": one.split != "validation"}) for one in card.metrics)
    return card.model_copy(update={"metrics": metrics})


def sample_card() -> ModelCard:
    """Card of a model that was validated on two centres and tested on three, one of which has no tumour."""
    validation = _scores(seed=1, patients=8, centres=2)
    test = _scores(seed=2, patients=12, centres=3)
    only_normal = test.centre == 2
    test = replace(test, label=np.where(only_normal, 0, test.label).astype(np.int8))
    threshold = choose_threshold(validation, "youden")
    return ModelCard(
        key="k",
        architecture="MobileNetV2",
        patch_px=224,
        mpp=0.243,
        normalisation="in graph: x / 127.5 - 1",
        parameters=2_259_265,
        config=TrainConfig(architecture="MobileNetV2"),
        seed=7,
        manifest_digest=None,
        shards=(),
        split_patients={},
        metrics=(
            split_metrics(validation, split="validation", seed=7, threshold=threshold.value),
            split_metrics(test, split="test", seed=7, threshold=threshold.value, held_out=True),
        ),
        threshold=threshold,
        epochs_run=10,
        best_epoch=8,
        ranks=2,
        controller="gloo",
        equal_weights_over_ranks=True,
        versions={},
        weights_digest="sha256:5d1f",
    )


def _scores(*, seed: int, patients: int, centres: int) -> Scores:
    random = np.random.default_rng(seed)
    label = random.integers(0, 2, 4000).astype(np.int8)
    patient = random.integers(0, patients, 4000)
    logit = 2 * random.normal(size=4000) + 4.5 * (label - 0.5) + random.normal(size=patients)[patient]
    return Scores(logit, label, np.array([f"patient_{k:03}" for k in patient]), patient % centres)


def _quality_picture(folder: Path, name: str) -> Path:
    draw = draw_roc if name == "roc.png" else draw_reliability
    draw(folder / name, sample_card().metrics, title="MobileNetV2, 4,512 patches, 2 ranks")
    return Path(name)


def _curves(folder: Path) -> Path:
    log = [
        {
            "event": "epoch",
            "epoch": epoch,
            "loss": 0.62 * np.exp(-epoch / 4) + 0.12,
            "validation_loss": 0.55 * np.exp(-epoch / 4) + 0.19,
            "validation_auc": 0.96 - 0.3 * np.exp(-epoch / 3),
            "learning_rate": 0.001 * (1 + np.cos(np.pi * epoch / 10)),
            "patches_per_s": 41.3 - epoch % 3,
            "best": epoch <= 8,
        }
        for epoch in range(1, 11)
    ]
    draw_curves(folder / "curves.png", log, title="MobileNetV2, 4,512 patches, 2 ranks")
    return Path("curves.png")


def _heatmap(folder: Path, number: int, row: Specimen) -> HeatmapRow:
    slide = tissue(number, 600, 720)
    heat = row.slide_score * np.exp(-(((np.mgrid[0:600, 0:720] - 300) / 140.0) ** 2).sum(axis=0))
    figure = Figure(figsize=(15, 4.6), layout="constrained")
    for axes, title in zip(figure.subplots(1, 3), ("slide", "annotated tumour", "tumour probability"), strict=True):
        axes.imshow(slide)
        axes.set_title(title)
        axes.set_axis_off()
    if row.truth != "negative":
        figure.axes[1].contour(heat, levels=[0.5 * row.slide_score], colors="#0a7d3c")
    shown = figure.axes[2].imshow(heat, cmap="magma", alpha=0.6, vmin=0, vmax=1)
    figure.colorbar(shown, ax=figure.axes[2])
    figure.savefig(folder / f"{row.name}.heatmap.png", dpi=140, pil_kwargs={"compress_level": 1})
    return HeatmapRow(
        slide=row.name,
        patient=row.patient,
        truth=row.truth,
        slide_score=row.slide_score,
        patch_auc=row.patch_auc,
        patches=11_482 + 903 * number,
        heatmap=Path(f"{row.name}.heatmap.png"),
        panel=_panel(folder, number, row.name),
    )


def _panel(folder: Path, number: int, name: str) -> Path:
    patches = np.concatenate([tissue(100 * number + column, 224, 224) for column in range(4)], axis=1)
    heat = np.abs(np.sin(np.mgrid[0:224, 0:896].sum(axis=0) / 70.0))
    colour = (mpl.colormaps["viridis"](heat)[..., :3] * 255).astype(np.uint8)
    both = np.concatenate([patches, (0.5 * patches + 0.5 * colour).astype(np.uint8)], axis=0)
    Image.fromarray(both).save(folder / f"{name}.gradcam.png", compress_level=1)
    return Path(f"{name}.gradcam.png")


def _thumbnail(folder: Path, number: int, row: Specimen) -> Path:
    Image.fromarray(tissue(number, 480, 640)).save(folder / f"{row.name}.sampling.jpg", quality=90)
    return Path(f"{row.name}.sampling.jpg")

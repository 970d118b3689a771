"""Make a cohort: slides, annotations, stage table and the truth behind them."""

from __future__ import annotations

import json
import multiprocessing
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tasks import atomic
from tasks.artifacts import Record
from tasks.errors import InputError
from tasks.slides.asap import to_asap_xml
from tasks.slides.camelyon import PatientStage, Stage, patient_stage
from tasks.slides.synthetic.architecture import outlines_of
from tasks.slides.synthetic.cells import density_per_mm2
from tasks.slides.synthetic.config import MACRO_UM, MICRO_UM, SynthConfig
from tasks.slides.synthetic.histology import Histology, draw_histology
from tasks.slides.synthetic.lesions import stage_of
from tasks.slides.synthetic.marks import draw_marks
from tasks.slides.synthetic.mosaic import Mosaic, draw_mosaic
from tasks.slides.synthetic.nuclei import KINDS
from tasks.slides.synthetic.patch_source import PatchRef, find_patches, share_out
from tasks.slides.synthetic.plan import SlidePlan, plan_cohort
from tasks.slides.synthetic.pyramid import write_pyramid

SCHEMA = "camnet-synthetic-cohort/1"
_SHARING_SEED = 1 << 31


class LesionTruth(Record):
    """One metastasis of a synthetic slide."""

    x_level0_px: float
    y_level0_px: float
    major_axis_um: float
    area_um2: float
    holes: int
    stage: Stage


class SlideTruth(Record):
    """What a synthetic slide was made to show."""

    name: str
    patient: str
    centre: int
    stage: Stage
    lesions: tuple[LesionTruth, ...]
    pen_mark: bool
    black_border: bool
    bytes: int


class CohortSummary(Record):
    """What `make_cohort` left in its folder."""

    folder: Path
    slides: tuple[SlideTruth, ...]
    patients: dict[str, PatientStage]
    megapixels: float


def make_cohort(folder: Path, config: SynthConfig, *, workers: int = 1) -> CohortSummary:
    """Make a cohort in CAMELYON17's layout.

    ``images/patient_PPP_node_N.tif``, ``annotations/patient_PPP_node_N.xml`` for slides with tumour (group names of all
    three conventions in turn), ``stages.csv``, and last ``truth.json``. Each slide has its own random numbers,
    from the seed and its index: the files do not depend on `workers`.

    Parameters
    ----------
    folder
        Where; made if missing.
    config
        What to make.
    workers
        Processes that make slides at the same time.

    Raises
    ------
    InputError
        The folder holds other slides, or the patches in ``config.pixels`` cannot be used.
    """
    plans = plan_cohort(config)
    _refuse_other_slides(folder, plans)
    patches = _patches_of_patients(config, plans)
    jobs = [(folder, config, plan, patches.get(plan.patient)) for plan in plans]
    if workers > 1:
        # Spawned, not forked: image libraries hold threads, which do not survive a fork.
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            slides = list(pool.map(_make_slide, jobs))
    else:
        slides = [_make_slide(job) for job in jobs]
    summary = _summary(folder, config, slides)
    atomic.write_text(folder / "stages.csv", _stage_table(summary))
    atomic.write_text(folder / "truth.json", json.dumps(_truth(config, summary), indent=1) + "\n")
    return summary


PatientPatches = tuple[Sequence[PatchRef], Sequence[PatchRef]]
Job = tuple[Path, SynthConfig, SlidePlan, PatientPatches | None]


def _make_slide(job: Job) -> SlideTruth:
    folder, config, plan, patches = job
    rng = np.random.default_rng(np.random.SeedSequence([config.seed, plan.index]))
    drawn: Histology | Mosaic = (
        draw_mosaic(rng, plan, config, *patches) if patches else draw_histology(rng, plan, config)
    )
    marks = draw_marks(rng, plan, config.width_px, config.height_px)
    image = folder / "images" / f"{plan.name}.tif"
    annotation = folder / "annotations" / f"{plan.name}.xml"
    write_pyramid(
        image,
        lambda x, y, width, height: marks.put_on(drawn.render(x, y, width, height), x, y),
        config.width_px,
        config.height_px,
        config.mpp,
    )
    if drawn.lesions:
        atomic.write_text(annotation, to_asap_xml(outlines_of(drawn.lesions), plan.groups))
    else:
        annotation.unlink(missing_ok=True)
    return SlideTruth(
        name=plan.name,
        patient=f"patient_{plan.patient:03}",
        centre=plan.centre,
        stage=stage_of(drawn.lesions, config.mpp, config.size_scale),
        lesions=tuple(
            LesionTruth(
                x_level0_px=round(float(lesion.outline_level0_px[:, 0].mean()), 1),
                y_level0_px=round(float(lesion.outline_level0_px[:, 1].mean()), 1),
                major_axis_um=round(lesion.major_axis_um(config.mpp), 2),
                area_um2=round(lesion.area_um2(config.mpp), 1),
                holes=len(lesion.holes_level0_px),
                stage=stage_of([lesion], config.mpp, config.size_scale),
            )
            for lesion in drawn.lesions
        ),
        pen_mark=plan.pen_mark,
        black_border=plan.black_border,
        bytes=image.stat().st_size,
    )


def _refuse_other_slides(folder: Path, plans: list[SlidePlan]) -> None:
    own = {f"{plan.name}.tif" for plan in plans}
    others = sorted(path.name for path in (folder / "images").glob("*.tif") if path.name not in own)
    if others:
        raise InputError(
            f"already holds other slides ({others[0]} and {len(others) - 1} more)",
            subject=folder,
            remedy="name an empty folder",
        )


def _patches_of_patients(config: SynthConfig, plans: list[SlidePlan]) -> dict[int, PatientPatches]:
    if config.pixels is None:
        return {}
    rng = np.random.default_rng(np.random.SeedSequence([config.seed, _SHARING_SEED]))
    source = find_patches(config.pixels, rng)
    if min(config.width_px, config.height_px) < 8 * source.patch_px:
        raise InputError(
            f"slides of {config.width_px} x {config.height_px} pixels are too small for patches of {source.patch_px}",
            subject=config.pixels,
            remedy=f"make slides of at least {8 * source.patch_px} pixels a side",
        )
    patients = sorted({plan.patient for plan in plans})
    with_tumour = sorted({plan.patient for plan in plans if plan.stage != "negative"})
    normal = share_out(source.normal, patients, rng)
    tumour = share_out(source.tumour, with_tumour, rng)
    return {patient: (normal[patient], tumour.get(patient, [])) for patient in patients}


def _summary(folder: Path, config: SynthConfig, slides: Iterable[SlideTruth]) -> CohortSummary:
    ordered = tuple(sorted(slides, key=lambda slide: slide.name))
    stages: dict[str, list[Stage]] = defaultdict(list)
    for slide in ordered:
        stages[slide.patient].append(slide.stage)
    return CohortSummary(
        folder=folder,
        slides=ordered,
        patients={patient: patient_stage(nodes) for patient, nodes in stages.items()},
        megapixels=len(ordered) * config.width_px * config.height_px / 1e6,
    )


def _stage_table(summary: CohortSummary) -> str:
    lines = ["patient,stage"]
    for patient, stage in summary.patients.items():
        lines.append(f"{patient}.zip,{stage}")
        lines += [f"{slide.name}.tif,{slide.stage}" for slide in summary.slides if slide.patient == patient]
    return "\n".join([*lines, ""])


def _truth(config: SynthConfig, summary: CohortSummary) -> dict[str, Any]:
    """Everything that is known because it was made so; no paths, so that equal cohorts have equal files."""
    return {
        "schema": SCHEMA,
        "config": config.model_dump(mode="json", exclude={"pixels"}),
        "pixels": "mosaic of real patches" if config.pixels else "procedural",
        "size_scale": config.size_scale,
        "macro_above_um": MACRO_UM * config.size_scale,
        "micro_above_um": MICRO_UM * config.size_scale,
        "nuclei": {} if config.pixels else {name: kind.record() for name, kind in KINDS.items()},
        "densest_per_mm2": {} if config.pixels else density_per_mm2(),
        "slides": [slide.model_dump(mode="json") for slide in summary.slides],
        "patients": summary.patients,
    }

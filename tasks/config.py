"""The run configuration: TOML in, frozen models out, JSON Schema for editors."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from tasks.artifacts import Record
from tasks.errors import InputError
from tasks.settings import Settings
from tasks.train_config import TrainConfig

M = TypeVar("M", bound="Record")
Split = Literal["train", "validation", "test"]
Encoding = Literal["raw", "tiles", "jpeg"]
# µm per pixel that the highest level of a slide may have, both excluded.
MPP_RANGE = (0.05, 20.0)


class CohortConfig(Settings):
    """Which slides, and how they are divided. Splits are by patient, never by slide or patch."""

    slides: Path = Field(
        description="Folder with the slides (searched recursively), one slide, or a CSV with a slide a line: path, "
        "patient, node, centre, split, label, annotation, mpp"
    )
    annotations: Path | None = Field(
        None, description="Folder with annotations (ASAP XML, GeoJSON, mask TIFF); default: beside the slides"
    )
    stages: Path | None = Field(None, description="CAMELYON17 stage table (CSV); default: found below the slides")
    patients: tuple[str, ...] = Field((), description="only these patients; default: all")
    centres: tuple[int, ...] = Field((), description="only slides of these centres; default: all")
    tumour_values: tuple[Annotated[int, Field(ge=1, le=255)], ...] | None = Field(
        None,
        min_length=1,
        description="values of mask TIFFs that are tumour, besides 255: [2] for the masks published with CAMELYON "
        "(1 is tissue), [1] for those that ASAP makes (2 is normal); needed for masks with other values than 0 and 255",
    )
    mpp: float | None = Field(
        None, gt=MPP_RANGE[0], lt=MPP_RANGE[1], description="µm per pixel for slides that do not state it"
    )
    validation_fraction: float = Field(0.2, ge=0, lt=1, description="share of the patients")
    test_fraction: float = Field(0.25, ge=0, lt=1, description="share of the patients")

    @model_validator(mode="after")
    def _leave_some_for_training(self) -> CohortConfig:
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction + test_fraction must leave patients for training (below 1)")
        return self


class TissueConfig(Settings):
    """Tissue mask: Otsu on a low level, on gray (paper section 3.5) or on saturation."""

    method: Literal["otsu", "hsv"] = Field(
        "otsu", description="otsu: darker than glass, as in the paper; hsv: more saturated than glass"
    )
    mask_mpp: float = Field(
        8.0,
        gt=0,
        description="µm per pixel of the masks, at most; coarser where they would have more than 4 million pixels",
    )
    min_region_um: float = Field(60.0, ge=0, description="tissue regions narrower than this are dropped")
    fill_holes_um2: float = Field(
        4000.0, ge=0, description="holes in tissue of a smaller area count as tissue; 4000: about a patch at 40x"
    )
    fallback_gray: int = Field(196, ge=1, le=255, description="threshold when Otsu finds none (above 229), for otsu")
    max_blur_um: float | None = Field(
        None,
        ge=0.7,
        le=2.0,
        description="tissue that is out of focus by more is left out: standard deviation of the blur in µm, estimated "
        "in squares of 128 µm, 1.2 to begin with; default: focus is not looked at",
    )


class PreprocessConfig(Settings):
    """Layer 1: which patches are cut from a slide."""

    patch_px: int = Field(224, ge=16, le=1024)
    level: int = Field(0, ge=0, le=12, description="pyramid level that the patches are read from, unless mpp is given")
    mpp: float | None = Field(
        None, gt=0.05, lt=20, description="µm per pixel of the patches, the same on all scanners; default: the level's"
    )
    encoding: Encoding = Field(
        "raw",
        description="raw: pixels; tiles: the slide's own compressed tiles, bit-exact and some twelve times smaller; "
        "jpeg: each patch compressed as the slide is",
    )
    tumour_patches: int = Field(500, ge=0, description="random patches a slide, tumour class")
    normal_patches: int = Field(500, ge=0, description="random patches a slide, normal class")
    grid_stride_px: int = Field(224, ge=8, description="dense sampling for inference: step in pixels of the level")
    grid_splits: tuple[Split, ...] = Field(("test",), description="splits whose slides also get a dense grid")
    grid_part_positions: int = Field(
        100_000,
        ge=1,
        description="dense sampling: a slide whose grid has more positions, on tissue or not, is cut in parts of about "
        "so many; each is a task and a shard of its own",
    )
    min_tissue_fraction: float = Field(0.6, ge=0, le=1)
    min_tumour_fraction: float = Field(0.6, gt=0, le=1)
    grid_min_tissue_fraction: float = Field(0.25, ge=0, le=1)
    white_level: int = Field(200, ge=1, le=255, description="gray above this counts as white")
    max_white_fraction: float = Field(0.7, ge=0, le=1)
    max_black_fraction: float = Field(0.05, ge=0, le=1)
    balanced: bool = Field(
        False,
        description="random patches: as many normal as tumour ones from each slide whose annotation is exhaustive; "
        "slides that can have one class only (negative, partly annotated) give what is wanted of that class",
    )
    window_percent: tuple[float, float] = Field(
        (0.0, 100.0),
        description="[from, to) percent of the slide's candidates, random and dense: ten windows of 10 are disjoint "
        "and together the whole; the numbers of patches hold for each window",
    )
    grid_jitter: float = Field(
        0.0,
        ge=0,
        le=1,
        description="dense sampling: each position moves right and down at random by up to this share of the stride; "
        "heatmaps need 0",
    )
    white_fraction_step: float = Field(
        0.0, ge=0, le=1, description="random patches: max_white_fraction rises by this (paper: 0.05); 0: never"
    )
    white_fraction_most: float = Field(0.7, ge=0, le=1, description="… up to this")
    white_fraction_patience: int = Field(
        1000, ge=1, description="… each time so many patches of a class were too white; at the most, the search ends"
    )
    tissue: TissueConfig = TissueConfig()

    @model_validator(mode="after")
    def _window_within_the_whole(self) -> PreprocessConfig:
        first, last = self.window_percent
        if not 0 <= first < last <= 100:
            raise ValueError("window_percent must be [from, to) with 0 <= from < to <= 100")
        return self

    @model_validator(mode="after")
    def _white_fraction_rises(self) -> PreprocessConfig:
        if self.white_fraction_step and self.white_fraction_most < self.max_white_fraction:
            raise ValueError("white_fraction_most must not be below max_white_fraction, from which it is reached")
        return self


class TransferConfig(Settings):
    """How shards travel between sites."""

    protocol: Literal["auto", "local", "sftp", "scp", "rsync", "gridftp", "globus", "fdt", "streams"] = "auto"
    streams: int = Field(4, ge=1, le=32, description="most parallel connections")
    chunk_bytes: int = Field(8 << 20, ge=64 << 10, le=1 << 30)
    attempts: int = Field(4, ge=1, le=100, description="tries a file while the fault is retryable")
    stall_s: float = Field(60.0, gt=0, description="no progress for this long breaks the connection")
    limit_mb_per_s: float | None = Field(None, gt=0, description="most 10^6 bytes a second over all streams")


class InferConfig(Settings):
    """Layer 3: scores and heatmaps."""

    batch_size: int = Field(64, ge=1, le=4096)
    slide_quantile: float = Field(0.99, gt=0, le=1, description="slide score: this quantile of the patch scores")


class ExplainConfig(Settings):
    """Layer 3: Grad-CAM panels."""

    top_patches: int = Field(4, ge=0, le=64, description="highest scored patches a slide")
    layer: str | None = Field(None, description="convolutional layer; default: the architecture's last")


class Stages(Settings):
    """Which site runs which stage (names of site files). Inference and explanations run where the model is."""

    preprocess: str = "site-a"
    train: str = "site-b"


class RunConfig(Settings):
    """Everything that a run depends on."""

    name: str = Field("run", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    seed: int = Field(0, ge=0, le=2**31 - 1)
    cohort: CohortConfig
    sites: Path | None = Field(None, description="folder with site files; default: the two embedded sites")
    stages: Stages = Stages()
    preprocess: PreprocessConfig = PreprocessConfig()
    transfer: TransferConfig = TransferConfig()
    train: TrainConfig = TrainConfig()
    infer: InferConfig = InferConfig()
    explain: ExplainConfig = ExplainConfig()


def load_config(path: Path) -> RunConfig:
    """Read a run configuration; relative paths in it are relative to its folder.

    Raises
    ------
    InputError
        The file is missing, no TOML, or a value or key is wrong; every problem is listed.
    """
    return parse_config(read_toml(path), folder=path.resolve().parent, source=str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; an `InputError` names what is wrong with it."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({error})", subject=path, remedy="check the path") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"is not TOML: {error}", subject=path, remedy="mend that line") from error


def parse_config(data: dict[str, Any], *, folder: Path, source: str) -> RunConfig:
    """Validate `data` as a run configuration and resolve its relative paths against `folder`."""
    config = validated(RunConfig, data, source)
    cohort = config.cohort.model_copy(
        update={
            "slides": folder / config.cohort.slides,
            "annotations": config.cohort.annotations and folder / config.cohort.annotations,
            "stages": config.cohort.stages and folder / config.cohort.stages,
        }
    )
    weights = config.train.weights
    named = folder / weights if isinstance(weights, Path) else weights
    start = config.train.start_from
    train = config.train.model_copy(update={"weights": named, "start_from": start and folder / start})
    sites = config.sites and folder / config.sites
    return config.model_copy(update={"cohort": cohort, "train": train, "sites": sites})


def validated(model: type[M], data: dict[str, Any], source: str) -> M:
    """Validate `data` as `model`; the `InputError` lists each wrong key with the nearest known name."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = [_problem(model, detail) for detail in error.errors()]
        raise InputError(
            "has " + "; ".join(problems),
            subject=source,
            remedy="correct these entries (`camnet schema` prints all of them with units and ranges)",
        ) from error


def _problem(model: type[Record], detail: ErrorDetails) -> str:
    where = ".".join(str(part) for part in detail["loc"]) or "the whole file"
    if detail["type"] == "missing":
        return f"no key {where!r}, which is required"
    if detail["type"] != "extra_forbidden":
        value = detail.get("input")
        stated = "" if isinstance(value, dict) else f" = {value!r}"
        return f"{where}{stated}: {detail['msg'].removeprefix('Value error, ')}"
    known = _keys_at(model, detail["loc"][:-1])
    near = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else f" (known: {', '.join(known)})"
    return f"unknown key {where!r}{hint}"


def _keys_at(model: type[Record], location: tuple[Any, ...]) -> list[str]:
    for part in location:
        annotation = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        kinds = get_args(annotation) or (annotation,)
        section = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Record)), None)
        if section is None:
            return []
        model = section
    return sorted(model.model_fields)

"""The run configuration: TOML in, frozen models out, JSON Schema for editors."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from tasks.artifacts import Record
from tasks.cohort_config import CohortConfig
from tasks.errors import InputError
from tasks.settings import Settings
from tasks.train_config import TrainConfig

M = TypeVar("M", bound="Record")
Split = Literal["train", "validation", "test"]
Encoding = Literal["raw", "tiles", "jpeg"]
Percent = Annotated[float, Field(ge=0, le=100)]


class TissueConfig(Settings):
    """Tissue mask: Otsu on a low level, on gray (paper section 3.5) or on saturation."""

    method: Literal["otsu", "hsv"] = Field(
        "otsu", description="otsu: darker than glass, as in the paper; hsv: more saturated than glass"
    )
    mask_mpp: float = Field(
        8.0,
        gt=0,
        le=1000,
        description="µm per pixel of the masks, at most; coarser where they would have more than 4 million pixels",
    )
    min_region_um: float = Field(
        60.0, ge=0, le=1_000_000, description="tissue regions narrower than this, in µm, are dropped"
    )
    fill_holes_um2: float = Field(
        4000.0,
        ge=0,
        le=1e9,
        description="holes in tissue of a smaller area, in µm², count as tissue; 4000: about a patch at 40x",
    )
    fallback_gray: int = Field(
        196, ge=1, le=255, description="otsu: gray level of the threshold where Otsu finds none (above 229)"
    )
    max_blur_um: float | None = Field(
        None,
        ge=0.7,
        le=2.0,
        description="tissue that is out of focus by more is left out: standard deviation of the blur in µm, estimated "
        "in squares of 128 µm, 1.2 to begin with; default: focus is not looked at",
    )


class PreprocessConfig(Settings):
    """Layer 1: which patches are cut from a slide."""

    patch_px: int = Field(224, ge=16, le=1024, description="side of the patches in pixels")
    level: int = Field(
        0, ge=0, le=12, description="number of the pyramid level that the patches are read from, unless mpp is given"
    )
    mpp: float | None = Field(
        None, gt=0.05, lt=20, description="µm per pixel of the patches, the same on all scanners; default: the level's"
    )
    encoding: Encoding = Field(
        "raw",
        description="raw: pixels; tiles: the slide's own compressed tiles, bit-exact and some twelve times smaller; "
        "jpeg: each patch compressed as the slide is",
    )
    tumour_patches: int = Field(500, ge=0, le=1_000_000_000, description="random patches a slide, tumour class")
    normal_patches: int = Field(500, ge=0, le=1_000_000_000, description="random patches a slide, normal class")
    grid_stride_px: int = Field(
        224, ge=8, le=65_536, description="dense sampling for inference: step in pixels of the level"
    )
    grid_splits: tuple[Split, ...] = Field(("test",), description="splits whose slides also get a dense grid")
    grid_part_positions: int = Field(
        100_000,
        ge=1,
        le=1_000_000_000,
        description="dense sampling: a slide whose grid has more positions, on tissue or not, is cut in parts of about "
        "so many; each is a task and a shard of its own",
    )
    min_tissue_fraction: float = Field(0.6, ge=0, le=1, description="random patches: least share of tissue")
    min_tumour_fraction: float = Field(
        0.6, gt=0, le=1, description="least share of annotated tumour of a patch that is called tumour"
    )
    grid_min_tissue_fraction: float = Field(0.25, ge=0, le=1, description="dense sampling: least share of tissue")
    white_level: int = Field(200, ge=1, le=255, description="gray levels above this count as white")
    max_white_fraction: float = Field(0.7, ge=0, le=1, description="most of a patch that may be white, as a share")
    max_black_fraction: float = Field(0.05, ge=0, le=1, description="most of a patch that may be black, as a share")
    balanced: bool = Field(
        False,
        description="random patches: as many normal as tumour ones from each slide whose annotation is exhaustive; "
        "slides that can have one class only (negative, partly annotated) give what is wanted of that class",
    )
    window_percent: tuple[Percent, Percent] = Field(
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
        0.0, ge=0, le=1, description="random patches: max_white_fraction rises by this share (paper: 0.05); 0: never"
    )
    white_fraction_most: float = Field(0.7, ge=0, le=1, description="… up to this share")
    white_fraction_patience: int = Field(
        1000,
        ge=1,
        le=1_000_000_000,
        description="… each time so many patches of a class were too white; at the most, the search ends",
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

    protocol: Literal["auto", "local", "sftp", "scp", "rsync", "gridftp", "globus", "fdt", "streams"] = Field(
        "auto", description="auto: chosen for each route; the others: this one"
    )
    streams: int = Field(4, ge=1, le=32, description="most parallel connections")
    chunk_bytes: int = Field(8 << 20, ge=64 << 10, le=1 << 30, description="bytes that are sent and noted at once")
    attempts: int = Field(4, ge=1, le=100, description="tries a file while the fault is retryable")
    stall_s: float = Field(60.0, gt=0, le=86_400, description="seconds without progress that break the connection")
    limit_mb_per_s: float | None = Field(
        None, gt=0, le=1e6, description="most 10^6 bytes a second over all streams; default: no limit"
    )


class InferConfig(Settings):
    """Layer 3: scores and heatmaps."""

    batch_size: int = Field(64, ge=1, le=4096, description="patches that are scored at once")
    slide_quantile: float = Field(0.99, gt=0, le=1, description="slide score: this quantile of the patch scores")


class ExplainConfig(Settings):
    """Layer 3: Grad-CAM panels."""

    top_patches: int = Field(4, ge=0, le=64, description="highest scored patches a slide")
    layer: str | None = Field(None, description="convolutional layer; default: the architecture's last")


class Stages(Settings):
    """Which site runs which stage (names of site files). Inference and explanations run where the model is."""

    preprocess: str = Field("site-a", description="where the slides are")
    train: str = Field("site-b", description="where Horovod runs")


class RunConfig(Settings):
    """Everything that a run depends on."""

    name: str = Field(
        "run", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="of the run's folders: a to z, 0 to 9 and hyphens"
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="number that all random choices follow from")
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
            "split_lists": tuple(folder / path for path in config.cohort.split_lists),
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

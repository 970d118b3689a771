"""Scores: the tumour probability of every patch of one slide in one small HDF5 file (``camnet-scores/1``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from tasks.artifacts import Record
from tasks.errors import IntegrityError
from tasks.hdf5 import new_hdf5

SCHEMA: Literal["camnet-scores/1"] = "camnet-scores/1"
COLUMN_DTYPES: dict[str, np.dtype[Any]] = {
    "x_level0_px": np.dtype("int64"),
    "y_level0_px": np.dtype("int64"),
    "probability": np.dtype("float32"),
    "label": np.dtype("int8"),
    "tumour_fraction": np.dtype("float32"),
}
_REMEDY = "score the slide again"


class ScoreAttributes(Record):
    """Where the scores of one slide come from (root attributes of the HDF5 file).

    Attributes
    ----------
    truth
        What is known of the slide: ``tumour`` (annotated), ``negative`` or ``unknown``.
    level, level_downsample
        Pyramid level of the patches, and level-0 pixels per pixel of that level.
    mpp
        µm per pixel of the patches (at `level`).
    patch_px
        Side of a patch in pixels of `level`.
    stride_level0_px
        Step of the grid in level-0 pixels.
    slide_width_px, slide_height_px
        Size of the slide at level 0.
    model_digest, shard_digest
        Digest of the network's weights and of the shard that the pixels came from (of the digests of its parts, one a
        line, where the slide has several).
    """

    format: Literal["camnet-scores/1"] = SCHEMA
    slide: str = Field(pattern=r"^[^/\\\p{Cc}]+$", description="names files, so it holds no separator")
    patient: str
    centre: int | None = None
    truth: Literal["tumour", "negative", "unknown"]
    level: int = Field(ge=0)
    level_downsample: float = Field(ge=1)
    mpp: float = Field(gt=0)
    patch_px: int = Field(ge=1)
    stride_level0_px: float = Field(gt=0)
    slide_width_px: int = Field(ge=1)
    slide_height_px: int = Field(ge=1)
    model_digest: str
    shard_digest: str

    @property
    def patch_level0_px(self) -> float:
        """Side of a patch in level-0 pixels."""
        return self.patch_px * self.level_downsample

    @property
    def level0_mpp(self) -> float:
        """µm per pixel of level 0."""
        return self.mpp / self.level_downsample

    @property
    def slide_label(self) -> int | None:
        """1 for a slide with annotated tumour, 0 for a negative one, None when it is not known."""
        return {"tumour": 1, "negative": 0, "unknown": None}[self.truth]


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one slide; all columns have one value a patch, (n,).

    Attributes
    ----------
    x_level0_px, y_level0_px
        Top left corners in the frame of level 0, int64.
    probability
        Tumour probability in [0, 1], float32.
    label
        1 tumour, 0 normal, -1 unknown, int8.
    tumour_fraction
        Share of the patch that is annotated tumour, float32.
    """

    attributes: ScoreAttributes
    x_level0_px: NDArray[np.int64]
    y_level0_px: NDArray[np.int64]
    probability: NDArray[np.float32]
    label: NDArray[np.int8]
    tumour_fraction: NDArray[np.float32]


def write_scores(path: Path, scores: Scores) -> None:
    """Write `scores` atomically; the same scores give the same bytes.

    Raises
    ------
    PermanentFault, InputError
        The disk is full or the folder is not writable (see `tasks.atomic.atomic_path`).
    """
    values = scores.attributes.model_dump(exclude_none=True)
    # The default format keeps no time stamps, newer ones (libver="latest") date the root group: the same scores
    # would not give the same bytes.
    with new_hdf5(path) as file:
        file.attrs.update({"schema": values.pop("format"), **values})
        for name, dtype in COLUMN_DTYPES.items():
            file.create_dataset(name, data=np.asarray(getattr(scores, name), dtype=dtype))


def read_scores(path: Path) -> Scores:
    """Read and verify a scores file. No link, filter or second file that it names is followed.

    Raises
    ------
    IntegrityError
        The file is missing, cut off, or not what the schema says.
    """
    try:
        with h5py.File(path, "r") as file:
            attributes = _attributes(path, dict(file.attrs))
            columns = {name: _column(path, file, name, dtype) for name, dtype in COLUMN_DTYPES.items()}
    except FileNotFoundError as error:
        raise IntegrityError("is not there", subject=path, remedy=_REMEDY) from error
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:  # what h5py says of damaged structure
        raise IntegrityError(f"is no complete HDF5 file ({error})", subject=path, remedy=_REMEDY) from error
    _check_values(path, columns)
    return Scores(attributes, **columns)


def _attributes(path: Path, values: dict[str, Any]) -> ScoreAttributes:
    plain = {name: value.item() if hasattr(value, "item") else value for name, value in values.items()}
    try:
        return ScoreAttributes.model_validate({"format": plain.pop("schema", None), **plain})
    except ValidationError as error:
        wrong = ", ".join(".".join(map(str, item["loc"])) or "all" for item in error.errors())
        raise IntegrityError(f"is no {SCHEMA} file (attributes: {wrong})", subject=path, remedy=_REMEDY) from error


def _column(path: Path, file: h5py.File, name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise IntegrityError(f"has no {name} of its own", subject=path, remedy=_REMEDY)
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype != dtype or dataset.ndim != 1:
        raise IntegrityError(f"has no column {name} of type {dtype}", subject=path, remedy=_REMEDY)
    # A dataset that holds fewer bytes than it claims would be filled up in memory, to any size.
    if dataset.is_virtual or dataset.external or dataset.id.get_storage_size() != dataset.nbytes:
        raise IntegrityError(f"does not hold all values of {name} itself", subject=path, remedy=_REMEDY)
    return np.asarray(dataset[:])


def _check_values(path: Path, columns: dict[str, NDArray[Any]]) -> None:
    sizes = {name: len(column) for name, column in columns.items()}
    if len(set(sizes.values())) != 1:
        raise IntegrityError(f"has columns of different lengths ({sizes})", subject=path, remedy=_REMEDY)
    probability = columns["probability"]
    if not (np.isfinite(probability).all() and (probability >= 0).all() and (probability <= 1).all()):
        raise IntegrityError("has probabilities outside 0..1", subject=path, remedy=_REMEDY)
    if not np.isin(columns["label"], (-1, 0, 1)).all():
        raise IntegrityError("has labels other than -1, 0 and 1", subject=path, remedy=_REMEDY)

"""What a shard says of itself (root attributes of the HDF5 file)."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from pydantic import Field, model_validator

from tasks.artifacts import Record
from tasks.config import Encoding

SCHEMA: Literal["camnet-patches/1"] = "camnet-patches/1"


class ShardAttributes(Record):
    """Where the patches of one shard come from and how they were made.

    Attributes
    ----------
    level, level_downsample
        Pyramid level that the pixels were read from, and level-0 pixels per pixel of that level.
    mpp
        µm per pixel of the patches.
    patch_px, stride_px
        In pixels of `mpp`; a stride of 0 means that there is none, or that it is not known.
    cut_px
        Side of a patch in pixels of `level`, before it was scaled to `patch_px`; None: it was not scaled.
    slide_width_px, slide_height_px
        Size of the slide at level 0; None: not known.
    sampling
        ``random``, ``grid``, or ``imported``: another tool chose the positions, in a way that is not known.
    part, parts
        Which part of a large slide this is, from 1, and how many there are; None: it is the whole of it.
    seed
        Of the choice of positions; None: not known.
    truth
        What is known of the slide: ``tumour`` (annotated), ``negative`` or ``unknown``.
    encoding
        How the pixels are stored: see `tasks.patches.raw_pixels`, `tile_storage` and `jpeg_pixels`.
    configuration
        The configuration that the shard depends on, as JSON.
    converted_from
        Digest of the shard whose pixels were stored in another way to make this one; None: it is no such copy.
    """

    format: Literal["camnet-patches/1"] = SCHEMA
    slide: str
    slide_digest: str
    patient: str
    node: int | None = None
    centre: int | None = None
    split: Literal["train", "validation", "test"]
    truth: Literal["tumour", "negative", "unknown"]
    level: int = Field(ge=0)
    level_downsample: float = Field(ge=1)
    mpp: float = Field(gt=0)
    patch_px: int = Field(ge=1, le=4096)
    stride_px: int = Field(ge=0)
    cut_px: int | None = Field(None, ge=1, le=16384)
    slide_width_px: int | None = Field(None, ge=1)
    slide_height_px: int | None = Field(None, ge=1)
    sampling: Literal["random", "grid", "imported"]
    part: int | None = Field(None, ge=1)
    parts: int | None = Field(None, ge=1)
    seed: int | None = Field(None, ge=0)
    encoding: Encoding = "raw"
    colour_order: Literal["RGB"] = "RGB"
    configuration: str
    converted_from: str | None = None
    code_version: str = Field(default_factory=lambda: code_version())

    @model_validator(mode="after")
    def _part_is_one_of_the_parts(self) -> ShardAttributes:
        if (self.part is None) != (self.parts is None) or (self.part or 0) > (self.parts or 0):
            raise ValueError(f"part {self.part} of {self.parts} makes no sense")
        return self

    @property
    def side_level_px(self) -> int:
        """Side of a patch in pixels of `level`."""
        return self.cut_px or self.patch_px

    @property
    def patch_level0_px(self) -> float:
        """Side of a patch in level-0 pixels."""
        return self.side_level_px * self.level_downsample

    def to_hdf5(self) -> dict[str, Any]:
        """Attributes as HDF5 holds them: what is not known is left out; `format` is stored as ``schema``."""
        values = self.model_dump(exclude_none=True)
        return {"schema": values.pop("format"), **values}

    @classmethod
    def from_hdf5(cls, values: dict[str, Any]) -> ShardAttributes:
        """Inverse of `to_hdf5`; raises pydantic's ``ValidationError`` for anything unexpected."""
        plain = {name: value.item() if hasattr(value, "item") else value for name, value in values.items()}
        return cls.model_validate({"format": plain.pop("schema", None), **plain})


def code_version() -> str:
    """Version of the installed CamNet (``source`` when it runs from a tree that is not installed)."""
    try:
        return version("camnet")
    except PackageNotFoundError:
        return "source"

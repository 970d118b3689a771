"""Exports patches as WebDataset: plain tar files that training programs read from their beginning to their end."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks import atomic
from tasks.errors import InputError
from tasks.patches.shards.export import ExportedFile, Written
from tasks.patches.shards.names import patch_name
from tasks.patches.shards.png_folders import encode_png
from tasks.patches.shards.reading import batches
from tasks.patches.store import Shard

_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
MAX_TAR_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class WebDataset:
    """``STEM-000000.tar`` …: for each patch ``KEY.png`` (or ``KEY.jpg``), ``KEY.cls`` and ``KEY.json``.

    Attributes
    ----------
    image
        ``png`` keeps the pixels; ``jpg`` (quality 95, 4:4:4) loses a little and is four times smaller.
    max_tar_bytes
        No tar is larger.
    """

    image: Literal["png", "jpg"] = "png"
    max_tar_bytes: int = MAX_TAR_BYTES

    @property
    def format(self) -> str:
        """All that the tars depend on beside the shard."""
        return f"webdataset/1 {self.image} {self.max_tar_bytes}"

    def existing(self, folder: Path, stem: str) -> list[Path]:
        """Tars of a shard of this name."""
        return sorted(folder.glob(f"{stem}-{'[0-9]' * 6}.tar"))

    def write(self, shard: Shard, folder: Path, stem: str) -> Written:
        """Write the tars of one shard in the order of its rows; the same shard gives the same bytes.

        Raises
        ------
        InputError
            A single patch is larger than a tar may be.
        """
        files: list[ExportedFile] = []
        members = self._members(shard)
        member = next(members, None)
        while member is not None:
            name, size = f"{stem}-{len(files):06}.tar", 0
            if _tar_bytes(len(member)) > self.max_tar_bytes:
                raise InputError(
                    f"has a patch that takes {_tar_bytes(len(member))} bytes of a tar",
                    subject=shard.path,
                    remedy=f"allow more than {self.max_tar_bytes} bytes with --max-tar-bytes",
                )
            with atomic.atomic_path(folder / name) as temporary, temporary.open("wb") as tar:
                while member is not None and _tar_bytes(size + len(member)) <= self.max_tar_bytes:
                    size += tar.write(member)
                    member = next(members, None)
                tar.write(bytes(_tar_bytes(size) - size))
            files.append(ExportedFile(path=name, bytes=_tar_bytes(size)))
        return Written(files=tuple(files), patches=shard.rows)

    def _members(self, shard: Shard) -> Iterator[bytes]:
        """Give each patch as it lies in a tar: its three files with their headers."""
        seen: dict[str, int] = {}
        for rows, pixels in batches(shard):
            for row, patch in zip(rows.tolist(), pixels, strict=True):
                key = _key(shard, row, seen)
                image = encode_png(patch) if self.image == "png" else _encode_jpeg(patch)
                parts = {self.image: image, "cls": str(shard.label[row]).encode(), "json": _facts(shard, row)}
                yield b"".join(_member(f"{key}.{extension}", data) for extension, data in parts.items())


def _key(shard: Shard, row: int, seen: dict[str, int]) -> str:
    """Name a sample; readers end a key at its first dot, and take equal neighbours for one sample."""
    name = patch_name(shard.attributes.slide, int(shard.x_level0_px[row]), int(shard.y_level0_px[row]))
    name = name.replace(".", "%2E")
    seen[name] = seen.get(name, 0) + 1
    return name if seen[name] == 1 else f"{name}_{seen[name]}"


def _facts(shard: Shard, row: int) -> bytes:
    attributes = shard.attributes
    fractions = {
        name: None if np.isnan(column[row]) else round(float(column[row]), 6)
        for name, column in (
            ("tumour_fraction", shard.tumour_fraction),
            ("tissue_fraction", shard.tissue_fraction),
            ("white_fraction", shard.white_fraction),
        )
    }
    facts = {
        **attributes.model_dump(include={"slide", "patient", "node", "centre", "split", "level", "mpp", "patch_px"}),
        "x_level0_px": int(shard.x_level0_px[row]),
        "y_level0_px": int(shard.y_level0_px[row]),
        "label": int(shard.label[row]),
        **fractions,
    }
    return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()


def _encode_jpeg(patch: NDArray[np.uint8]) -> bytes:
    _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(patch[..., ::-1]), _JPEG)
    return encoded.tobytes()


def _member(name: str, data: bytes) -> bytes:
    info = tarfile.TarInfo(name)  # owner root, mode 0644, modified in 1970: the same for everybody
    info.size = len(data)
    header = info.tobuf(tarfile.PAX_FORMAT)
    return header + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def _tar_bytes(member_bytes: int) -> int:
    """Size of a tar with so many bytes of members: it ends with empty blocks and is a whole number of records."""
    whole = member_bytes + 2 * tarfile.BLOCKSIZE
    return whole + -whole % tarfile.RECORDSIZE

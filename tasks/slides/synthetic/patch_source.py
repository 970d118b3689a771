"""Real labelled patches to build mosaic slides from."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import cv2
import h5py
import numpy as np
import numpy.typing as npt
from PIL import Image

from tasks.errors import InputError
from tasks.picture_size import open_picture

Patches = npt.NDArray[np.uint8]

_MOST_PATCHES = 20_000
_BLOCK_ROWS = 256
_FOLDERS = {"normal": ("normal",), "tumour": ("tumor", "tumour")}
_IMAGES = {".png", ".jpg", ".jpeg", ".tif", ".tiff"}
_REMEDY = "give a folder with PCam files (*_x.h5 beside *_y.h5) or with the folders normal/ and tumor/ of images"


@dataclass(frozen=True, order=True)
class PatchRef:
    """Where one patch is stored: an image file, or a row of an HDF5 file."""

    file: Path
    row: int | None = None


@dataclass(frozen=True)
class PatchSource:
    """Patches by class, each pixel content once.

    Attributes
    ----------
    normal, tumour
        In a fixed order.
    patch_px
        Side of a patch.
    """

    normal: list[PatchRef]
    tumour: list[PatchRef]
    patch_px: int


def find_patches(folder: Path, rng: np.random.Generator) -> PatchSource:
    """Index a folder of labelled patches; copies of a patch are taken once, at most 20,000 of a class at random.

    Raises
    ------
    InputError
        The folder has neither layout, a class is missing, or patches are not square and of one size.
    """
    found = _image_folders(folder) or _hdf5_pairs(folder)
    sides: set[tuple[int, ...]] = set()
    unique = {name: _unique(refs, rng, sides) for name, refs in found.items()}
    if not unique.get("normal") or not unique.get("tumour"):
        raise InputError("has no patches of both classes", subject=folder, remedy=_REMEDY)
    if len(sides) != 1 or len({*next(iter(sides))}) != 1:
        raise InputError("has patches that are not square or not of one size", subject=folder, remedy="resize them")
    return PatchSource(normal=unique["normal"], tumour=unique["tumour"], patch_px=next(iter(sides))[0])


def load_patches(refs: Sequence[PatchRef]) -> Patches:
    """Read patches: uint8, shape (n, side, side, 3), RGB, in the order of `refs`."""
    by_ref = dict(_read(sorted(set(refs))))
    return np.stack([by_ref[ref] for ref in refs])


def share_out(refs: Sequence[PatchRef], patients: Sequence[int], rng: np.random.Generator) -> dict[int, list[PatchRef]]:
    """Divide patches among patients, so that no image is seen in two of them and splits by patient do not leak.

    Raises
    ------
    InputError
        There are fewer patches than patients.
    """
    if len(refs) < len(patients):
        raise InputError(
            f"{len(refs)} different patches of one class are too few for {len(patients)} patients",
            remedy="give more patches, or make fewer slides",
        )
    parts = np.array_split(rng.permutation(len(refs)), max(1, len(patients)))
    return {patient: [refs[index] for index in sorted(part)] for patient, part in zip(patients, parts, strict=True)}


def _image_folders(folder: Path) -> dict[str, list[PatchRef]]:
    return {
        label: [PatchRef(path) for path in sorted((folder / name).iterdir()) if path.suffix.lower() in _IMAGES]
        for label, names in _FOLDERS.items()
        for name in names
        if (folder / name).is_dir()
    }


def _hdf5_pairs(folder: Path) -> dict[str, list[PatchRef]]:
    pairs = [
        (path, path.with_name(path.name.removesuffix("_x.h5") + "_y.h5")) for path in sorted(folder.glob("*_x.h5"))
    ]
    if not pairs:
        raise InputError("has no labelled patches", subject=folder, remedy=_REMEDY)
    found: dict[str, list[PatchRef]] = {"normal": [], "tumour": []}
    for pixels, labels in pairs:
        try:
            with h5py.File(pixels, "r") as x, h5py.File(labels, "r") as y:
                label = np.asarray(y["y"]).reshape(-1)
                count = x["x"].shape[0]
        except (OSError, KeyError) as error:
            raise InputError(f"cannot be read with its labels ({error})", subject=pixels, remedy=_REMEDY) from error
        if len(label) != count:
            raise InputError(f"has {count} patches but {len(label)} labels", subject=pixels, remedy=_REMEDY)
        for row, value in enumerate(label):
            found["tumour" if value else "normal"].append(PatchRef(pixels, row))
    return found


def _unique(refs: list[PatchRef], rng: np.random.Generator, sides: set[tuple[int, ...]]) -> list[PatchRef]:
    chosen = refs
    if len(refs) > _MOST_PATCHES:
        chosen = [refs[index] for index in np.sort(rng.choice(len(refs), _MOST_PATCHES, replace=False))]
    kept: dict[bytes, PatchRef] = {}
    for ref, patch in _read(chosen):
        sides.add(patch.shape[:2])
        kept.setdefault(hashlib.sha256(patch.tobytes()).digest(), ref)
    return list(kept.values())


def _read(refs: Sequence[PatchRef]) -> Iterator[tuple[PatchRef, Patches]]:
    """Read patches file by file; `refs` are sorted."""
    for file, own in groupby(refs, key=lambda ref: ref.file):
        rows = [ref.row for ref in own]
        if rows[0] is None:
            yield PatchRef(file), _image(file)
        else:
            yield from _rows(file, [row for row in rows if row is not None])


def _rows(path: Path, rows: list[int]) -> Iterator[tuple[PatchRef, Patches]]:
    with h5py.File(path, "r") as file:
        pixels = file["x"]
        for start, block in groupby(rows, key=lambda row: row // _BLOCK_ROWS * _BLOCK_ROWS):
            # A block at a time: row by row, a compressed chunk would be unpacked again for each of its rows.
            loaded = np.asarray(pixels[start : start + _BLOCK_ROWS], dtype=np.uint8)
            for row in block:
                yield PatchRef(path, row), loaded[row - start]


def _image(path: Path) -> Patches:
    content = path.read_bytes()
    try:
        open_picture(io.BytesIO(content), ("PNG", "JPEG", "TIFF")).close()
        bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, cv2.error) as error:
        raise InputError(f"is no image ({error})", subject=path, remedy="leave it out") from error
    if bgr is None:
        raise InputError("is no image", subject=path, remedy="leave it out")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8)

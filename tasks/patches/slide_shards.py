"""All shards of one slide, read as if they were one: a large slide is cut in parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.errors import InputError
from tasks.patches.attributes import ShardAttributes
from tasks.patches.store import Shard, open_shard

_OF_EACH = {"part", "converted_from", "code_version"}
"""Attributes in which the parts of a slide may differ."""


class Patches(Protocol):
    """Patches of one slide, of a shard or of several."""

    @property
    def path(self) -> Path:
        """The (first) file, for messages."""

    @property
    def attributes(self) -> ShardAttributes:
        """What the (first) shard says of itself."""

    @property
    def rows(self) -> int:
        """Number of patches."""

    def read(self, rows: NDArray[np.integer[Any]], /) -> NDArray[np.uint8]:
        """Read patches in the order of `rows`: uint8 (n, H, W, 3), RGB; see `tasks.patches.store.Shard.read`."""


class SlideShards:
    """The patches of a slide; rows are those of its parts, one part after the other.

    Attributes
    ----------
    path, attributes
        Of the first part.
    rows : int
        Number of patches.
    x_level0_px, y_level0_px, label, tumour_fraction
        As those of `tasks.patches.store.Shard`, each (rows,).
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self._starts = np.cumsum([0, *(shard.rows for shard in shards)])
        self.path: Path = shards[0].path
        self.attributes: ShardAttributes = shards[0].attributes
        self.rows = int(self._starts[-1])
        self.x_level0_px = np.concatenate([shard.x_level0_px for shard in shards])
        self.y_level0_px = np.concatenate([shard.y_level0_px for shard in shards])
        self.label = np.concatenate([shard.label for shard in shards])
        self.tumour_fraction = np.concatenate([shard.tumour_fraction for shard in shards])

    def read(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Read patches in the order of `rows`: uint8 (n, H, W, 3), RGB.

        Raises
        ------
        IntegrityError
            A file is damaged there.
        """
        wanted = np.asarray(rows, dtype=np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= self.rows):
            raise IndexError(f"{self.path}: rows {wanted.min()}..{wanted.max()} of {self.rows}")
        of = np.searchsorted(self._starts, wanted, side="right") - 1
        parts: list[int] = np.unique(of).tolist()
        if len(parts) == 1:
            return self._shards[parts[0]].read(wanted - self._starts[parts[0]])
        side_px = self.attributes.patch_px
        pixels = np.empty((len(wanted), side_px, side_px, 3), np.uint8)
        for number in parts:
            here = np.flatnonzero(of == number)
            pixels[here] = self._shards[number].read(wanted[here] - self._starts[number])
        return pixels


@contextmanager
def open_slide_shards(paths: Sequence[Path]) -> Iterator[SlideShards]:
    """Open the shard of a slide, or all of its parts in any order.

    Raises
    ------
    IntegrityError
        A file is missing or damaged.
    InputError
        They are not all parts of one slide, cut in one way.
    """
    with ExitStack() as stack:
        shards = [stack.enter_context(open_shard(path)) for path in paths]
        shards.sort(key=lambda shard: shard.attributes.part or 0)
        _refuse_other_parts(shards)
        yield SlideShards(shards)


def _refuse_other_parts(shards: Sequence[Shard]) -> None:
    first = shards[0]
    for shard in shards:
        if shard.attributes.model_dump(exclude=_OF_EACH) != first.attributes.model_dump(exclude=_OF_EACH):
            raise InputError(
                f"was not made with {first.path.name}: the two are not parts of one slide, cut in one way",
                subject=shard.path,
                remedy="preprocess the slide again, and take only what its manifest names",
            )
    numbers = [shard.attributes.part or 1 for shard in shards]
    parts = first.attributes.parts or 1
    if numbers != list(range(1, parts + 1)):
        missing = sorted(set(range(1, parts + 1)) - set(numbers))
        what = f"missing: {', '.join(map(str, missing))}" if missing else "there are two shards of one part"
        raise InputError(
            f"is one of {parts} parts of its slide; {what}",
            subject=first.path,
            remedy="name every part once; transfer them again if they are not there",
        )

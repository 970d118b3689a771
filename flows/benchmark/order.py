"""In which order a benchmark measures."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable
from typing import TypeVar

C = TypeVar("C", bound=Hashable)


def in_random_order(cells: Iterable[C], repeats: int, seed: int) -> list[tuple[C, int]]:
    """Give each cell's warm-up and repeats in an order that no slow drift can favour.

    All warm-ups (repeat 0) come first; then each round has every cell once, in an order of its own.
    """
    once = list(dict.fromkeys(cells))
    order = [(cell, 0) for cell in once]
    generator = random.Random(seed)  # noqa: S311  # the order of measurements is no secret
    for repeat in range(1, repeats + 1):
        order += [(cell, repeat) for cell in generator.sample(once, len(once))]
    return order

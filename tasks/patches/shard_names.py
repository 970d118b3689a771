"""Names of shards: ``SLIDE.patches.h5``, or ``SLIDE.part-0001-of-0004.patches.h5`` for a part of a large slide."""

from __future__ import annotations

import re

SUFFIX = ".patches.h5"
MOST_PARTS = 9999
_PART = re.compile(r"\.part-\d{4}-of-\d{4}$")


def part_name(part: int, parts: int) -> str:
    """Name a part within a file name, so that names sort as the parts do."""
    return f"part-{part:04}-of-{parts:04}"


def shard_name(slide: str, part: int = 1, parts: int = 1) -> str:
    """Name the shard of a slide, or of one part of it, from 1."""
    return f"{slide}{SUFFIX}" if parts == 1 else f"{slide}.{part_name(part, parts)}{SUFFIX}"


def slide_of(shard: str) -> str:
    """Name of the slide that a shard of this file name belongs to."""
    return _PART.sub("", shard.removesuffix(SUFFIX))


def is_like_a_part(slide: str) -> bool:
    """Whether a slide has a name that its shard would share with a part of another slide."""
    return _PART.search(slide) is not None

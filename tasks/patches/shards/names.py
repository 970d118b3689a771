"""Names of files and keys made of what a shard says of its slide, which may come from anywhere."""

from __future__ import annotations

_PLAIN = "-_."


def safe_name(text: str) -> str:
    """Turn any text into one plain name: no folder, not hidden, not special to a shell.

    Letters and digits of any script, ``-``, ``_`` and inner dots stay; other characters become ``%XX`` for each
    byte in UTF-8, so that different texts have different names.
    """
    name = "".join(
        character if character.isalnum() or character in _PLAIN else _escaped(character) for character in text
    )
    return _escaped(".") + name[1:] if name.startswith(".") else name


def patch_name(slide: str, x_level0_px: int, y_level0_px: int) -> str:
    """Name of a patch: ``SLIDE_x_y``."""
    return f"{safe_name(slide)}_{x_level0_px}_{y_level0_px}"


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))

"""docs/faults.md names every fault of the catalogue, and tests that there are."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "faults.md"
_ROW = re.compile(r"^\| (\d+) \|", re.MULTILINE)
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@cache
def functions_in(path: str) -> set[str]:
    tree = ast.parse((REPOSITORY / path).read_text()) if (REPOSITORY / path).is_file() else ast.Module([], [])
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_row_is_there() -> None:
    assert {int(number) for number in _ROW.findall(PAGE.read_text())} == set(range(1, 55))


def test_every_test_that_is_named_exists() -> None:
    named = _TEST.findall(PAGE.read_text())
    assert len(named) > 60
    assert [f"{path}::{name}" for path, name in named if name not in functions_in(path)] == []

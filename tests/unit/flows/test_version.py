from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from flows.cli import run_command

REPOSITORY = Path(__file__).resolve().parents[3]


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert run_command(["--version"]) == 0
    assert capsys.readouterr().out == f"camnet {project['version']}\n"


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([]) == 2
    said = capsys.readouterr()
    assert "--version" in said.out + said.err

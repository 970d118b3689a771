from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.context import RunContext, make_context
from tasks.config import parse_config
from tasks.errors import InputError


def context_of(workspace: Path, **settings: Any) -> RunContext:  # noqa: ANN401  # sections of a configuration
    data = {"name": "try", "cohort": {"slides": "slides"}} | settings
    return make_context(parse_config(data, folder=workspace, source="test"), workspace, "embedded")


def test_a_run_has_a_folder_at_the_coordinator_and_one_at_each_site(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    assert context.run_folder == tmp_path / "runs" / "try"
    assert context.folder_at(context.source) == tmp_path / "site-a" / "try"
    assert context.folder_at(context.trainer) == tmp_path / "site-b" / "try"


def test_the_configuration_says_which_site_does_what(tmp_path: Path) -> None:
    context = context_of(tmp_path, stages={"preprocess": "site-b", "train": "site-a"})
    assert (context.source.name, context.trainer.name) == ("site-b", "site-a")


@pytest.mark.parametrize("stage", ["preprocess", "train"])
def test_a_site_that_does_not_exist_is_refused_before_anything_starts(tmp_path: Path, stage: str) -> None:
    with pytest.raises(InputError, match="no site is called 'nowhere'"):
        context_of(tmp_path, stages={stage: "nowhere"})


def test_own_site_files_replace_the_embedded_ones(tmp_path: Path) -> None:
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "one.toml").write_text('name = "one"\nroot = "one"\n')
    context = context_of(tmp_path, sites="sites", stages={"preprocess": "one", "train": "one"})
    assert set(context.sites) == {"one"}
    assert context.source.root == tmp_path / "one"


def test_a_relative_workspace_is_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    context = context_of(Path("w"))
    assert context.workspace == tmp_path / "w"
    assert context.source.root == tmp_path / "w" / "site-a"


def test_a_context_travels_as_json(tmp_path: Path) -> None:
    context = context_of(tmp_path, train={"weights": "w.weights.h5", "weights_digest": "sha256:00"})
    assert RunContext.model_validate_json(context.model_dump_json()) == context
    assert RunContext.model_validate(context.model_dump(mode="json")) == context

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.caching import code_digest, content_key
from tasks.config import PreprocessConfig, TissueConfig
from tasks.digests import bytes_digest

REPOSITORY = Path(__file__).resolve().parents[3]
BASE: dict[str, Any] = {
    "inputs": ["sha256:a", "sha256:b"],
    "config": PreprocessConfig(),
    "code": ["tasks.errors", "tasks.atomic"],
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package on the import path whose source may be edited."""
    folder = tmp_path / "camnet_test_stage"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "pure.py").write_text("raise RuntimeError('imported')")
    (folder / "task.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    code_digest.cache_clear()
    yield folder
    code_digest.cache_clear()


def digest_now(name: str) -> str:
    code_digest.cache_clear()
    return code_digest(name)


def test_the_same_parts_give_the_same_key() -> None:
    key = content_key("stage/1", **BASE)
    assert key == content_key("stage/1", **BASE)
    assert len(key) == 32
    assert set(key) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    ("stage", "change"),
    [
        ("stage/2", {}),
        ("stage/1", {"inputs": ["sha256:b", "sha256:a"]}),
        ("stage/1", {"inputs": ["sha256:a"]}),
        ("stage/1", {"inputs": ["sha256:asha256:b"]}),
        ("stage/1", {"config": None}),
        ("stage/1", {"config": PreprocessConfig(patch_px=96)}),
        ("stage/1", {"config": PreprocessConfig(tissue=TissueConfig(fallback_gray=197))}),
        ("stage/1", {"code": ["tasks.errors"]}),
        ("stage/1", {"code": ["tasks.errors", "tasks.digests"]}),
    ],
)
def test_every_part_counts(stage: str, change: dict[str, object]) -> None:
    assert content_key(stage, **{**BASE, **change}) != content_key("stage/1", **BASE)


def test_every_setting_of_preprocessing_counts() -> None:
    seen = {content_key("stage/1", inputs=[], config=PreprocessConfig(), code=[])}
    changed: list[dict[str, object]] = [
        {"level": 1}, {"tumour_patches": 1}, {"normal_patches": 1}, {"grid_stride_px": 9}, {"grid_splits": ("train",)},
        {"min_tissue_fraction": 0.1}, {"min_tumour_fraction": 0.1}, {"grid_min_tissue_fraction": 0.1},
        {"white_level": 1}, {"max_white_fraction": 0.1}, {"max_black_fraction": 0.1}, {"patch_px": 32},
        {"tissue": {"mask_mpp": 1.0}}, {"mpp": 0.5}, {"encoding": "jpeg"}, {"balanced": True},
        {"window_percent": (0, 10)}, {"grid_jitter": 0.5}, {"white_fraction_step": 0.05},
        {"white_fraction_most": 0.8}, {"white_fraction_patience": 10},
        {"grid_part_positions": 1_000},
    ]  # fmt: skip
    assert {name for change in changed for name in change} == set(PreprocessConfig.model_fields)
    for change in changed:
        seen.add(content_key("stage/1", inputs=[], config=PreprocessConfig.model_validate(change), code=[]))
    assert len(seen) == len(changed) + 1


def test_a_package_is_all_its_modules_but_the_task(package: Path) -> None:
    first = digest_now("camnet_test_stage")
    (package / "task.py").write_text("other")
    (package / "notes.txt").write_text("other")
    assert digest_now("camnet_test_stage") == first
    seen = {first}
    for change in (
        lambda: (package / "pure.py").write_text("x = 1"),
        lambda: (package / "pure.py").rename(package / "renamed.py"),
        lambda: (package / "more.py").write_text(""),
        lambda: (package / "__init__.py").write_text("x = 1"),
    ):
        change()
        seen.add(digest_now("camnet_test_stage"))
    assert len(seen) == 5


def test_a_module_is_its_source(package: Path) -> None:
    assert digest_now("camnet_test_stage.pure") == bytes_digest((package / "pure.py").read_bytes())
    assert digest_now("camnet_test_stage.task") == bytes_digest((package / "task.py").read_bytes())


@pytest.mark.parametrize("name", ["tasks.no_such_stage", "no_such_package"])
def test_code_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=name):
        digest_now(name)


def test_looking_at_the_code_of_a_stage_does_not_import_it() -> None:
    code = (
        "import sys\nfrom tasks.caching import content_key\n"
        "content_key('s', inputs=[], config=None, code=['tasks.inference', 'tasks.training.models'])\n"
        "heavy = {'tensorflow', 'keras', 'horovod', 'openslide'}\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & heavy))\n"
        "print('tasks.training.models' in sys.modules)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == ["[]", "False"]

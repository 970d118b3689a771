import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.config import ExplainConfig, InferConfig
from tasks.errors import InputError, IntegrityError
from tasks.explain.explain import explain_slide
from tasks.inference.infer import infer_slide
from tasks.inference.scores import read_scores, write_scores
from tasks.inference.slide_files import SlideInputs
from tests.services.part_shards import cut_in_parts
from tests.services.scored_slide import SlideFiles, write_model, write_slide


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SlideFiles:
    return write_slide(tmp_path_factory.mktemp("slide"))


@pytest.fixture(scope="module")
def scores_path(model_folder: Path, files: SlideFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    inputs = SlideInputs(shards=(files.shard,), thumbnail=files.thumbnail, annotation=files.annotation)
    return infer_slide(model_folder, inputs, tmp_path_factory.mktemp("scored"), InferConfig()).scores_path


def test_the_highest_scored_patches_are_explained(
    model_folder: Path, files: SlideFiles, scores_path: Path, tmp_path: Path
) -> None:
    found = explain_slide(model_folder, [files.shard], scores_path, tmp_path, ExplainConfig(top_patches=3))
    scores = read_scores(scores_path)
    assert found.slide == "patient_004_node_4"
    assert found.layer == "stage3_relu2"
    assert [patch.probability for patch in found.patches] == sorted(scores.probability.tolist(), reverse=True)[:3]
    assert all(patch.label == 1 for patch in found.patches)
    correlations = [patch.random_correlation for patch in found.patches if patch.random_correlation is not None]
    assert all(-1 <= r <= 1 for r in correlations)
    assert found.panel == tmp_path / "patient_004_node_4.gradcam.png"
    with Image.open(found.panel) as image:
        assert image.width == 1100


def test_the_same_inputs_give_the_same_explanation(
    model_folder: Path, files: SlideFiles, scores_path: Path, tmp_path: Path
) -> None:
    runs = [explain_slide(model_folder, [files.shard], scores_path, tmp_path / n, ExplainConfig()) for n in "ab"]
    assert runs[0].patches == runs[1].patches
    assert runs[0].panel.read_bytes() == runs[1].panel.read_bytes()


def test_another_layer_can_be_chosen_and_a_wrong_one_is_refused(
    model_folder: Path, files: SlideFiles, scores_path: Path, tmp_path: Path
) -> None:
    config = ExplainConfig(top_patches=1, layer="stage2_relu2")
    assert explain_slide(model_folder, [files.shard], scores_path, tmp_path, config).layer == "stage2_relu2"
    with pytest.raises(InputError, match="no layer 'conv5'") as refused:
        explain_slide(model_folder, [files.shard], scores_path, tmp_path, ExplainConfig(layer="conv5"))
    assert "stage3_conv2" in str(refused.value.remedy)


def test_no_patches_asked_for_is_refused(
    model_folder: Path, files: SlideFiles, scores_path: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no patch to explain"):
        explain_slide(model_folder, [files.shard], scores_path, tmp_path, ExplainConfig(top_patches=0))


def test_scores_of_another_model_or_shard_are_refused(
    model_folder: Path, files: SlideFiles, scores_path: Path, tmp_path: Path
) -> None:
    scores = read_scores(scores_path)
    other_model = replace(scores, attributes=scores.attributes.model_copy(update={"model_digest": "sha256:0"}))
    write_scores(tmp_path / "model.scores.h5", other_model)
    with pytest.raises(InputError, match="made by another model"):
        explain_slide(model_folder, [files.shard], tmp_path / "model.scores.h5", tmp_path, ExplainConfig())
    moved = replace(scores, x_level0_px=np.ascontiguousarray(scores.x_level0_px[::-1]))
    write_scores(tmp_path / "moved.scores.h5", moved)
    with pytest.raises(InputError, match="does not hold the scores of the patches"):
        explain_slide(model_folder, [files.shard], tmp_path / "moved.scores.h5", tmp_path, ExplainConfig())
    with pytest.raises(IntegrityError, match="not there"):
        explain_slide(model_folder, [files.shard], tmp_path / "missing.scores.h5", tmp_path, ExplainConfig())


def test_patches_of_a_large_slide_are_found_in_its_parts(
    model_folder: Path, files: SlideFiles, scores_path: Path, tmp_path: Path
) -> None:
    parts = cut_in_parts(Path(shutil.copy(files.shard, tmp_path / "slide.patches.h5")), [40, 90])
    config = ExplainConfig(top_patches=4)
    whole = explain_slide(model_folder, [files.shard], scores_path, tmp_path / "a", config)
    found = explain_slide(model_folder, parts, scores_path, tmp_path / "b", config)
    assert found.patches == whole.patches
    assert found.panel.read_bytes() == whole.panel.read_bytes()
    with pytest.raises(InputError, match="missing: 2"):
        explain_slide(model_folder, [parts[0], parts[2]], scores_path, tmp_path / "c", config)

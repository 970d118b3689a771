from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from tasks.config import InferConfig
from tasks.digests import file_digest
from tasks.errors import InputError, IntegrityError
from tasks.inference.infer import infer_slide, infer_slides
from tasks.inference.scores import read_scores
from tasks.inference.slide_files import FailedSlide, SlideInputs
from tasks.training.model_folder import WEIGHTS_NAME
from tests.services.part_shards import cut_in_parts
from tests.services.scored_slide import SlideFiles, write_model, write_slide

CONFIG = InferConfig(batch_size=32)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "model")


def inputs(files: SlideFiles) -> SlideInputs:
    return SlideInputs(shards=(files.shard,), thumbnail=files.thumbnail, annotation=files.annotation)


def test_a_slide_gets_scores_and_a_heatmap(model_folder: Path, tmp_path: Path) -> None:
    files = write_slide(tmp_path / "in")
    done = infer_slide(model_folder, inputs(files), tmp_path / "out", CONFIG)
    assert done.scores.slide == "patient_004_node_4"
    assert done.scores.label == 1
    assert done.scores.score > 0.9
    assert done.scores.patch_auc is not None
    assert done.scores.patch_auc > 0.99
    scores = read_scores(done.scores_path)
    assert done.scores.patches == len(scores.probability)
    assert scores.attributes.shard_digest == file_digest(files.shard)
    assert scores.attributes.model_digest == file_digest(model_folder / WEIGHTS_NAME)
    assert scores.probability[scores.label == 1].mean() > 0.9
    assert scores.probability[scores.label == 0].mean() < 0.1
    with Image.open(done.heatmap_path) as image:
        assert image.width == 1200
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "patient_004_node_4.heatmap.png",
        "patient_004_node_4.scores.h5",
    ]


def test_the_same_inputs_give_the_same_files(model_folder: Path, tmp_path: Path) -> None:
    files = write_slide(tmp_path / "in")
    runs = [infer_slide(model_folder, inputs(files), tmp_path / name, CONFIG) for name in ("a", "b")]
    assert runs[0].scores_path.read_bytes() == runs[1].scores_path.read_bytes()
    assert runs[0].heatmap_path.read_bytes() == runs[1].heatmap_path.read_bytes()


def test_a_slide_without_annotation_or_truth_is_scored_all_the_same(model_folder: Path, tmp_path: Path) -> None:
    files = write_slide(tmp_path / "in", truth="unknown")
    done = infer_slide(
        model_folder, SlideInputs(shards=(files.shard,), thumbnail=files.thumbnail), tmp_path / "out", CONFIG
    )
    assert done.scores.label is None
    assert done.scores.patch_auc is None
    assert done.scores.score < 0.1


def test_one_bad_slide_does_not_stop_the_others(model_folder: Path, tmp_path: Path) -> None:
    good = [write_slide(tmp_path, f"patient_{n:03}_node_0", patient=f"patient_{n:03}") for n in (1, 2)]
    coarse = write_slide(tmp_path, "coarse", mpp=1.0)
    cut_off = write_slide(tmp_path, "cut_off")
    cut_off.shard.write_bytes(cut_off.shard.read_bytes()[:-5000])
    no_json = write_slide(tmp_path, "no_json")
    no_json.annotation.write_text("{")
    order = [good[0], coarse, cut_off, no_json, good[1]]
    outcomes = list(infer_slides(model_folder, map(inputs, order), tmp_path / "out", CONFIG))
    assert [isinstance(outcome, FailedSlide) for outcome in outcomes] == [False, True, True, True, False]
    failed = [outcome for outcome in outcomes if isinstance(outcome, FailedSlide)]
    assert "µm per pixel" in failed[0].reason
    assert "no complete HDF5 file" in failed[1].reason
    assert str(no_json.annotation) in failed[2].reason
    assert all(outcome.remedy for outcome in failed)
    assert not list((tmp_path / "out").glob("coarse*"))


def test_patches_at_random_positions_are_refused(model_folder: Path, tmp_path: Path) -> None:
    files = write_slide(tmp_path / "in", sampling="random")
    with pytest.raises(InputError, match="random positions"):
        infer_slide(model_folder, inputs(files), tmp_path / "out", CONFIG)


@pytest.mark.parametrize(
    ("attribute", "said"),
    [
        ("sampling", "positions that another tool chose"),
        ("slide_width_px", "does not say how large the slide is"),
        ("slide_height_px", "does not say how large the slide is"),
    ],
)
def test_a_shard_that_does_not_know_its_slide_is_named_with_the_way_out(
    model_folder: Path, tmp_path: Path, attribute: str, said: str
) -> None:
    files = write_slide(tmp_path / "in")
    with h5py.File(files.shard, "a") as file:
        if attribute == "sampling":
            file.attrs["sampling"] = "imported"
        else:
            del file.attrs[attribute]
    with pytest.raises(InputError, match=said) as caught:
        infer_slide(model_folder, inputs(files), tmp_path / "out", CONFIG)
    assert caught.value.subject == str(files.shard)
    assert "dense shard" in str(caught.value.remedy)
    assert not (tmp_path / "out").exists()


def test_a_slide_name_that_leads_elsewhere_is_refused(model_folder: Path, tmp_path: Path) -> None:
    files = write_slide(tmp_path / "in")
    with h5py.File(files.shard, "a") as file:
        file.attrs["slide"] = "../../elsewhere"
    with pytest.raises((InputError, IntegrityError), match="slide"):
        infer_slide(model_folder, inputs(files), tmp_path / "out", CONFIG)
    assert not list(tmp_path.glob("elsewhere*"))


def test_a_model_whose_weights_changed_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    files = write_slide(tmp_path / "in")
    weights = bytearray((folder / WEIGHTS_NAME).read_bytes())
    weights[len(weights) // 2] ^= 1
    (folder / WEIGHTS_NAME).write_bytes(weights)
    with pytest.raises(IntegrityError):
        next(infer_slides(folder, [inputs(files)], tmp_path / "out", CONFIG))


def test_the_slide_quantile_of_the_configuration_is_used(model_folder: Path, tmp_path: Path) -> None:
    files = write_slide(tmp_path / "in")
    scores = [
        infer_slide(model_folder, inputs(files), tmp_path / "out", InferConfig(slide_quantile=q)).scores.score
        for q in (0.5, 1.0)
    ]
    probability = read_scores(tmp_path / "out" / "patient_004_node_4.scores.h5").probability
    assert scores == pytest.approx([float(np.median(probability)), float(probability.max())], abs=1e-6)


def test_a_shard_that_decayed_after_its_transfer_is_not_opened(model_folder: Path, tmp_path: Path) -> None:
    files = write_slide(tmp_path / "in")
    digest = file_digest(files.shard)
    data = bytearray(files.shard.read_bytes())
    data[len(data) // 2] ^= 1
    files.shard.write_bytes(data)
    (outcome,) = infer_slides(
        model_folder, [inputs(files).model_copy(update={"shard_digests": (digest,)})], tmp_path / "out", CONFIG
    )
    assert isinstance(outcome, FailedSlide)
    assert "digest" in outcome.reason
    assert outcome.remedy is not None
    assert "transfer" in outcome.remedy


def test_the_parts_of_a_large_slide_give_one_heatmap_with_the_scores_of_the_whole(
    model_folder: Path, tmp_path: Path
) -> None:
    whole = write_slide(tmp_path / "whole")
    one = infer_slide(model_folder, inputs(whole), tmp_path / "one", CONFIG)
    files = write_slide(tmp_path / "parts")
    parts = cut_in_parts(files.shard, [50, 50, 131])
    digests = tuple(map(file_digest, parts))
    several = inputs(files).model_copy(update={"shards": tuple(parts), "shard_digests": digests})
    done = infer_slide(model_folder, several, tmp_path / "several", CONFIG)
    found, wanted = read_scores(done.scores_path), read_scores(one.scores_path)
    for name in ("x_level0_px", "y_level0_px", "label", "tumour_fraction"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name))
    np.testing.assert_allclose(found.probability, wanted.probability, atol=1e-5)
    assert done.scores.patches == one.scores.patches
    assert done.scores.score == pytest.approx(one.scores.score, abs=1e-5)
    # a digest of all parts: another order or another part is another one
    assert found.attributes.shard_digest not in {*digests, wanted.attributes.shard_digest}
    assert sorted(path.name for path in (tmp_path / "several").iterdir()) == sorted(
        path.name for path in (tmp_path / "one").iterdir()
    )


def test_a_part_that_is_missing_or_decayed_fails_its_slide(model_folder: Path, tmp_path: Path) -> None:
    files = write_slide(tmp_path / "in")
    parts = cut_in_parts(files.shard, [100, 200])
    digests = tuple(map(file_digest, parts))
    several = inputs(files).model_copy(update={"shards": tuple(parts), "shard_digests": digests})
    lacking = several.model_copy(update={"shards": tuple(parts[1:]), "shard_digests": digests[1:]})
    parts[2].write_bytes(parts[2].read_bytes()[:-1] + b"?")
    failed = list(infer_slides(model_folder, [lacking, several], tmp_path / "out", CONFIG))
    assert all(isinstance(one, FailedSlide) for one in failed)
    reasons = [one.reason for one in failed if isinstance(one, FailedSlide)]
    assert "has the digest" in reasons[0]
    assert str(parts[2]) in reasons[1]
    unknown = lacking.model_copy(update={"shard_digests": None, "shards": (parts[1],)})
    with pytest.raises(InputError, match="one of 3 parts of its slide; missing: 1, 3"):
        infer_slide(model_folder, unknown, tmp_path / "out", CONFIG)
    assert not (tmp_path / "out").exists()

from __future__ import annotations

import base64
import json
import marshal
import re
from contextlib import suppress
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from tasks.digests import file_digest
from tasks.errors import InputError, IntegrityError
from tasks.training.architectures import ARCHITECTURES
from tasks.training.freezing import set_trainable
from tasks.training.googlenet import STAGES
from tasks.training.imagenet import fetch_imagenet_weights
from tasks.training.model_folder import load_weights
from tasks.training.models import POOL_NAME, build
from tasks.training.networks import DEVIATIONS, MEANS


def patches(rows: int, side_px: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (rows, side_px, side_px, 3), dtype=np.uint8)


PUBLISHED = {
    "ResNet50": "resnet50",
    "ResNet101": "resnet",
    "InceptionV3": "inception_v3",
    "DenseNet121": "densenet",
    "InceptionResNetV2": "inception_resnet_v2",
    "MobileNetV2": "mobilenet_v2",
}
NAMES = [*PUBLISHED, *(name for name in ARCHITECTURES if name not in PUBLISHED)]


def side_of(name: str) -> int:
    return max(64, ARCHITECTURES[name].min_px)


@pytest.fixture(scope="module")
def small(request: pytest.FixtureRequest) -> keras.Model:
    """A network of small patches: building one takes longer than all that is done with it.

    Tests with the same network run after each other, as its place in their lists is the same.
    """
    return build(request.param, side_of(request.param), seed=3)


@pytest.mark.parametrize(("small", "name"), [(name, name) for name in PUBLISHED], indirect=["small"], scope="module")
def test_preprocessing_in_the_graph_is_that_of_keras_applications(small: keras.Model, name: str) -> None:
    side = side_of(name)
    alone = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(side, side, 3))
    inner = keras.Model(small.inputs[0], small.get_layer(POOL_NAME).input)
    alone.set_weights(inner.get_weights())
    module = getattr(keras.applications, PUBLISHED[name])
    pixels = patches(2, side)
    expected = np.asarray(alone(module.preprocess_input(pixels.astype(np.float32))))
    np.testing.assert_allclose(np.asarray(inner(pixels)), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize(("small", "name"), [(name, name) for name in NAMES], indirect=["small"], scope="module")
def test_each_architecture_trains_a_step_and_round_trips_its_weights(
    small: keras.Model, name: str, tmp_path: Path
) -> None:
    pixels = patches(4, side_of(name))
    first = np.asarray(small(pixels))
    assert first.shape == (4, 1)
    assert np.array_equal(first, np.asarray(small(pixels.astype(np.float32))))
    optimizer = keras.optimizers.SGD(1e-4)
    with tf.GradientTape() as tape:
        logit = small(pixels, training=True)[:, 0]
        loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(tf.constant([0.0, 1.0, 0.0, 1.0]), logit))
    gradients = tape.gradient(loss, [variable.value for variable in small.trainable_variables])
    assert all(gradient is not None for gradient in gradients)
    optimizer.apply(gradients, small.trainable_variables)
    trained = np.asarray(small(pixels))
    assert np.all(np.isfinite(trained))
    assert not np.array_equal(trained, first)
    small.save_weights(tmp_path / "model.weights.h5")
    native = build(name, ARCHITECTURES[name].native_px, seed=4)
    is_flat_and_explained_by_maps_of_falling_size(native, name)
    load_weights(native, tmp_path / "model.weights.h5")
    for kept, loaded in zip(small.get_weights(), native.get_weights(), strict=True):
        assert np.array_equal(kept, loaded)


def is_flat_and_explained_by_maps_of_falling_size(model: keras.Model, name: str) -> None:
    known = ARCHITECTURES[name]
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    sides = [model.get_layer(layer).output.shape[1] for layer in known.cam_layers]
    assert sides == sorted(sides, reverse=True)
    assert sides[-1] >= 7
    assert known.cam_layer == known.cam_layers[-1]
    # The description tells the parameters in millions, to one digit.
    told = re.search(r"([\d.]+) million parameters", known.description)
    assert told is not None
    assert float(told[1]) == pytest.approx(model.count_params() / 1e6, abs=0.06)


def test_efficientnet_sees_standardised_values_whatever_its_file_says(tmp_path: Path) -> None:
    model = build("EfficientNetB0", 64)
    alone = keras.Model(model.inputs[0], model.get_layer(POOL_NAME).input)
    alone.save_weights(tmp_path / "some.weights.h5")
    for loaded in (model, build("EfficientNetB0", 64, weights=tmp_path / "some.weights.h5")):
        (layer,) = (layer for layer in loaded.layers if isinstance(layer, keras.layers.Normalization))
        seen = np.asarray(keras.Model(loaded.inputs[0], layer.output)(patches(1, 64)))
        expected = (patches(1, 64) / 255 - np.array(MEANS)) / np.array(DEVIATIONS)
        np.testing.assert_allclose(seen, expected, atol=1e-5)


def test_googlenet_has_the_filters_and_the_parameters_of_the_published_network() -> None:
    model = build("GoogLeNet", 224)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(convolutions) == 57
    # The network that its authors published has biases, and 1000 classes: 6,998,552 parameters.
    with_biases = sum(layer.count_params() + layer.filters for layer in convolutions)
    assert with_biases + 1024 * 1000 + 1000 == 6_998_552
    for module in (module for stage in STAGES for module in stage):
        assert model.get_layer(module.name).output.shape[-1] == module.filters


def test_googlenet_halves_five_times() -> None:
    model = build("GoogLeNet", 224)
    shapes = [
        tuple(model.get_layer(name).output.shape[1:]) for name in ("conv1", "conv2", "inception_3b", "inception_4e")
    ]
    assert shapes == [(112, 112, 64), (56, 56, 192), (28, 28, 480), (14, 14, 832)]
    assert tuple(model.get_layer("inception_5b").output.shape[1:]) == (7, 7, 1024)


def test_the_dense_head_is_that_of_the_papers_tool() -> None:
    model = build("CamNetSmall", 64, head="dense", dropout=0.5)
    widths = [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert widths == [2048, 512, 256, 1]
    assert sum(isinstance(layer, keras.layers.Dropout) for layer in model.layers) == 4
    pixels = patches(2, 64)
    assert np.array_equal(np.asarray(model(pixels)), np.asarray(model(pixels)))
    drawn = np.asarray(model(pixels, training=True))
    assert not np.array_equal(drawn, np.asarray(model(pixels, training=True)))
    again = build("CamNetSmall", 64, head="dense", dropout=0.5)
    assert np.array_equal(drawn, np.asarray(again(pixels, training=True)))
    other = build("CamNetSmall", 64, head="dense", dropout=0.5, seed=1)
    other.set_weights(again.get_weights())
    assert not np.array_equal(drawn, np.asarray(other(pixels, training=True)))


@pytest.mark.parametrize(
    ("trainable", "first"),
    [("all", "patch_rgb"), ("head", "average_pool"), ("stage3_conv1", "stage3_conv1")],
)
def test_what_trains_is_what_comes_after_the_named_layer(trainable: str, first: str) -> None:
    model = build("CamNetSmall", 64, head="dense")
    count = set_trainable(model, trainable)
    names = [layer.name for layer in model.layers]
    assert [layer.name for layer in model.layers if layer.trainable] == names[names.index(first) :]
    assert count == sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert set_trainable(model, "all") >= count  # and back


def test_a_layer_that_is_not_there_gets_the_nearest_names() -> None:
    with pytest.raises(InputError, match=r"has no layer 'stage3_konv1'.*stage3_conv1"):
        set_trainable(build("CamNetSmall", 64), "stage3_konv1")


def test_frozen_batch_normalisation_keeps_its_statistics() -> None:
    model = build("CamNetSmall", 64)
    set_trainable(model, "head")
    before = model.get_weights()
    model(patches(4, 64), training=True)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("name", ["GoogLeNet", "CamNetSmall"])
def test_networks_without_published_weights_say_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"no published weights of {name}"):
        fetch_imagenet_weights(name, tmp_path)


def test_published_weights_that_cannot_be_fetched_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    with pytest.raises(InputError, match="published weights of MobileNetV2 cannot be fetched"):
        fetch_imagenet_weights("MobileNetV2", tmp_path)
    assert not list(tmp_path.glob("*.h5"))


def test_published_weights_that_were_fetched_before_are_taken(tmp_path: Path) -> None:
    kept = tmp_path / "MobileNetV2_imagenet_notop.weights.h5"
    kept.write_bytes(b"kept")
    assert fetch_imagenet_weights("MobileNetV2", tmp_path) == kept


def test_first_weights_depend_on_the_seed_alone() -> None:
    keras.utils.set_random_seed(1)
    first = build("CamNetSmall", 64, seed=7).get_weights()
    keras.utils.set_random_seed(2)
    same = build("CamNetSmall", 64, seed=7).get_weights()
    other = build("CamNetSmall", 64, seed=8).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_the_small_network_is_small() -> None:
    assert build("CamNetSmall", 96).count_params() < 300_000


def test_an_unknown_name_gets_the_nearest_ones() -> None:
    with pytest.raises(InputError, match=r"no architecture is called 'resnet5O'.*use ResNet50"):
        build("resnet5O", 224)


def test_patches_that_are_too_small_are_refused() -> None:
    with pytest.raises(InputError, match="at least 32 px, not 16"):
        build("MobileNetV2", 16)


def test_real_backbone_weights_are_loaded(real_data: Path) -> None:
    weights = real_data / "weights" / "mobilenetv2_imagenet_notop.weights.h5"
    model = build("MobileNetV2", 96, weights=weights, weights_digest=file_digest(weights))
    alone = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(96, 96, 3))
    alone.load_weights(weights)
    for layer in alone.layers[1:]:
        for own, expected in zip(model.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True):
            assert np.array_equal(own, expected)


def test_weights_of_another_network_are_refused(real_data: Path) -> None:
    weights = real_data / "weights" / "mobilenetv2_imagenet_notop.weights.h5"
    with pytest.raises(InputError, match=r"has 260 arrays, ResNet50 has 318"):
        build("ResNet50", 96, weights=weights)


def test_weights_with_another_digest_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "some.weights.h5"
    build("CamNetSmall", 64).save_weights(weights)
    with pytest.raises(IntegrityError, match="has not the digest"):
        build("CamNetSmall", 64, weights=weights, weights_digest="sha256:0")


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "narrow.weights.h5"
    with h5py.File(weights, "w") as file:
        for index, variable in enumerate(build("CamNetSmall", 64).weights[:-2]):
            file[f"layers/{index}"] = np.zeros([size + 1 for size in variable.shape], np.float32)
    with pytest.raises(InputError, match="arrays of other shapes than CamNetSmall"):
        build("CamNetSmall", 64, weights=weights)


@pytest.mark.parametrize("kind", ["soft", "external", "storage"])
def test_weights_files_that_point_elsewhere_are_refused(kind: str, tmp_path: Path) -> None:
    weights = tmp_path / "links.weights.h5"
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(16))
    with h5py.File(weights, "w") as file:
        if kind == "soft":
            file["layers"] = h5py.SoftLink("/elsewhere")
        elif kind == "external":
            file["layers"] = h5py.ExternalLink(str(secret), "/")
        else:
            file.create_dataset("layers", (4,), np.float32, external=[(str(secret), 0, 16)])
    with pytest.raises(InputError, match=r"has a link at|in another file"):
        build("CamNetSmall", 64, weights=weights)


def test_code_in_a_weights_file_is_not_run(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x), keras.layers.Dense(1)])
    model.save(tmp_path / "hostile.h5")
    # As a file that was made by somebody who wants it: the code of the layer, which Keras would unmarshal and run.
    code = compile(f"lambda x: __import__('os').mkdir({str(sprung)!r})", "trap", "eval").co_consts[0]
    with h5py.File(tmp_path / "hostile.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        layer = next(one for one in config["config"]["layers"] if one["class_name"] == "Lambda")
        layer["config"]["function"]["config"]["code"] = base64.b64encode(marshal.dumps(code)).decode()
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(InputError):
        build("CamNetSmall", 64, weights=tmp_path / "hostile.h5")
    assert not sprung.exists()
    with suppress(Exception):  # what Keras makes of a layer that gives nothing does not matter here
        keras.models.load_model(tmp_path / "hostile.h5", safe_mode=False).predict(np.zeros((1, 4)), verbose=0)
    assert sprung.exists()  # the trap works


def test_a_file_that_is_no_hdf5_is_refused(tmp_path: Path) -> None:
    weights = tmp_path / "text.weights.h5"
    weights.write_text("not a model")
    with pytest.raises(InputError, match="no readable HDF5 file"):
        build("CamNetSmall", 64, weights=weights)
    with pytest.raises(InputError, match="is no file"):
        build("CamNetSmall", 64, weights=tmp_path / "absent.weights.h5")

from __future__ import annotations

from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from tasks.digests import file_digest
from tasks.errors import InputError, IntegrityError
from tasks.training.model_folder import load_weights
from tasks.training.models import ARCHITECTURES, build


def patches(rows: int, side_px: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (rows, side_px, side_px, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_architecture_trains_a_step_and_round_trips_its_weights(name: str, tmp_path: Path) -> None:
    model = build(name, 64, seed=3)
    pixels = patches(4, 64)
    first = np.asarray(model(pixels))
    assert first.shape == (4, 1)
    assert np.array_equal(first, np.asarray(model(pixels.astype(np.float32))))
    optimizer = keras.optimizers.SGD(0.01)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(pixels, training=True)))
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    assert all(gradient is not None for gradient in gradients)
    optimizer.apply(gradients, model.trainable_variables)
    trained = np.asarray(model(pixels))
    assert not np.array_equal(trained, first)
    model.save_weights(tmp_path / "model.weights.h5")
    again = build(name, 64, seed=4)
    load_weights(again, tmp_path / "model.weights.h5")
    assert np.array_equal(np.asarray(again(pixels)), trained)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_models_are_flat_and_their_explained_layers_are_maps_of_falling_size(name: str) -> None:
    model = build(name, 96)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    sides = [model.get_layer(layer).output.shape[1] for layer in ARCHITECTURES[name].cam_layers]
    assert sides == sorted(sides, reverse=True)
    assert sides[-1] >= 3
    assert ARCHITECTURES[name].cam_layer == ARCHITECTURES[name].cam_layers[-1]


@pytest.mark.parametrize("name", ["ResNet50", "MobileNetV2"])
def test_preprocessing_in_the_graph_is_that_of_keras_applications(name: str) -> None:
    model = build(name, 64, seed=5)
    backbone = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(64, 64, 3))
    for layer in backbone.layers[1:]:
        layer.set_weights(model.get_layer(layer.name).get_weights())
    module = keras.applications.resnet50 if name == "ResNet50" else keras.applications.mobilenet_v2
    pixels = patches(2, 64)
    expected = np.asarray(backbone(module.preprocess_input(pixels.astype(np.float32))))
    inner = keras.Model(model.inputs[0], model.get_layer(ARCHITECTURES[name].cam_layer).output)
    np.testing.assert_allclose(np.asarray(inner(pixels)), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


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


def test_a_file_that_is_no_hdf5_is_refused(tmp_path: Path) -> None:
    weights = tmp_path / "text.weights.h5"
    weights.write_text("not a model")
    with pytest.raises(InputError, match="no readable HDF5 file"):
        build("CamNetSmall", 64, weights=weights)
    with pytest.raises(InputError, match="is no file"):
        build("CamNetSmall", 64, weights=tmp_path / "absent.weights.h5")

import keras
import numpy as np
import pytest
from keras import layers
from numpy.typing import NDArray

from tasks.errors import InputError
from tasks.explain.gradcam import convolutional_layers, gradcam, normalised, to_image
from tasks.training.architectures import ARCHITECTURES
from tasks.training.models import build


def small_model(kernel: NDArray[np.float32], head: list[float], bias: float = 0.0) -> keras.Model:
    """One 1x1 convolution, average pooling and a linear head: Grad-CAM of it can be written down."""
    patch = layers.Input((6, 8, 3), name="patch")
    features = layers.Conv2D(kernel.shape[1], 1, use_bias=False, name="features")(patch)
    pooled = layers.GlobalAveragePooling2D(name="pool")(features)
    model = keras.Model(patch, layers.Dense(1, name="logit")(pooled))
    model.get_layer("features").set_weights([kernel[None, None]])
    model.get_layer("logit").set_weights([np.array(head, np.float32)[:, None], np.array([bias], np.float32)])
    return model


@pytest.fixture
def patches() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (5, 6, 8, 3)).astype(np.uint8)


def test_with_a_linear_head_gradcam_is_cam(patches: NDArray[np.uint8]) -> None:
    kernel = np.array([[1.0, 0.0], [0.0, 1.0], [-0.5, 0.2]], np.float32)
    head = [2.0, -1.0]
    found = gradcam(small_model(kernel, head, bias=0.5), patches, "features", batch_size=2)
    activation = patches.astype(np.float64) @ kernel
    cam = np.maximum(activation @ head, 0)
    np.testing.assert_allclose(found.gradcam, cam / cam.max((1, 2), keepdims=True), atol=1e-5)
    np.testing.assert_allclose(found.logit, activation.mean((1, 2)) @ head + 0.5, rtol=1e-5)


def test_gradcam_plus_plus_is_its_formula(patches: NDArray[np.uint8]) -> None:
    kernel = np.array([[0.01, 0.0, 0.003], [0.0, 0.01, 0.001], [0.002, 0.0, 0.01]], np.float32)
    head = np.array([2.0, -1.0, 0.5])
    found = gradcam(small_model(kernel, head.tolist()), patches, "features")
    activation = patches.astype(np.float64) @ kernel
    gradient = head / 48  # of a mean over 6 x 8 places
    alpha = gradient**2 / (2 * gradient**2 + activation.sum((1, 2)) * gradient**3)
    weight = 48 * alpha * np.maximum(gradient, 0)
    cam = np.maximum((activation * weight[:, None, None, :]).sum(-1), 0)
    np.testing.assert_allclose(found.gradcam_plus_plus, cam / cam.max((1, 2), keepdims=True), atol=1e-4)


def test_a_map_without_evidence_stays_zero(patches: NDArray[np.uint8]) -> None:
    only_against = small_model(np.eye(3, dtype=np.float32), [-1.0, -1.0, -1.0])
    found = gradcam(only_against, patches, "features")
    assert not found.gradcam.any()
    assert not found.gradcam_plus_plus.any()
    assert not to_image(found.gradcam, 60, 80).any()
    blank = gradcam(small_model(np.eye(3, dtype=np.float32), [1.0, 1.0, 1.0]), np.zeros_like(patches), "features")
    assert not blank.gradcam.any()
    assert not blank.gradcam_plus_plus.any()


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_maps_do_not_depend_on_the_batch_size(patches: NDArray[np.uint8], batch_size: int) -> None:
    model = small_model(np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32), [1.0, -1.0, 0.5, 2.0])
    one, other = gradcam(model, patches, "features"), gradcam(model, patches, "features", batch_size=batch_size)
    np.testing.assert_allclose(one.gradcam, other.gradcam, atol=1e-5)
    np.testing.assert_allclose(one.gradcam_plus_plus, other.gradcam_plus_plus, atol=1e-5)


def test_every_layer_offered_by_an_architecture_can_be_explained() -> None:
    known = ARCHITECTURES["CamNetSmall"]
    model = build(known.name, 64, seed=1)
    patches = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    logit = model(patches.astype(np.float32), training=False).numpy()[:, 0]
    for layer in known.cam_layers:
        found = gradcam(model, patches, layer)
        assert found.gradcam.shape == (2, *model.get_layer(layer).output.shape[1:3])
        assert np.isfinite(found.gradcam).all()
        assert found.gradcam.max() == 1
        np.testing.assert_allclose(found.logit, logit, atol=1e-4)


def test_the_gradient_of_an_inner_layer_is_that_of_a_small_change() -> None:
    model = build("CamNetSmall", 32, seed=3)
    patches = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    layer = "stage2_relu2"
    found = gradcam(model, patches, layer).gradcam[0]
    inner = model.get_layer(layer).output
    activation = keras.Model(model.inputs[0], inner)(patches.astype(np.float32), training=False).numpy()
    rest = keras.Model(inner, model.output)
    step = 1e-2 * activation.max()
    channels = activation.shape[-1]
    moved = np.repeat(activation, 2 * channels, 0)
    for channel in range(channels):
        moved[2 * channel, ..., channel] += step
        moved[2 * channel + 1, ..., channel] -= step
    logits = rest(moved, training=False).numpy()[:, 0]
    weight = (logits[::2] - logits[1::2]) / (2 * step)
    cam = np.maximum(activation[0] @ weight, 0)
    assert np.corrcoef(found.ravel(), cam.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("layer", ["no_such_layer", "pool", "logit"])
def test_a_layer_without_a_map_is_refused_with_those_that_have_one(patches: NDArray[np.uint8], layer: str) -> None:
    model = small_model(np.eye(3, dtype=np.float32), [1.0, 1.0, 1.0])
    assert convolutional_layers(model) == ["features"]
    with pytest.raises(InputError, match=layer) as refused:
        gradcam(model, patches, layer)
    assert refused.value.remedy == "choose one of: features"


def test_nothing_to_explain_is_refused(patches: NDArray[np.uint8]) -> None:
    model = small_model(np.eye(3, dtype=np.float32), [1.0, 1.0, 1.0])
    with pytest.raises(InputError, match="no patch"):
        gradcam(model, patches[:0], "features")


def test_enlarged_maps_keep_their_place_and_their_maximum() -> None:
    maps = np.zeros((2, 7, 7), np.float32)
    maps[0, 1, 5] = 0.2
    image = to_image(maps, 224, 224)
    assert image.shape == (2, 224, 224)
    assert image[0].max() == 1
    assert not image[1].any()
    row, column = np.argwhere(image[0] > 0.9).mean(0)
    assert abs(row - 1.5 * 32) <= 1
    assert abs(column - 5.5 * 32) <= 1
    np.testing.assert_array_equal(normalised(maps)[0], maps[0] / np.float32(0.2))

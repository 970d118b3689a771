"""Stain normalisation against formulas written down once more, pixel by pixel in 64 bits."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.digests import file_digest
from tasks.errors import InputError, IntegrityError
from tasks.stain.change import ColourChange, change_colours
from tasks.stain.macenko import MacenkoStain, fit_macenko
from tasks.stain.reference import StainMethod, StainReference, measure_reference, picture_reference
from tasks.stain.reinhard import ReinhardStain, fit_reinhard
from tests.services.stained import PINK_DYES, VIOLET_DYES, tissue

METHODS: list[StainMethod] = ["reinhard", "macenko"]


def of_density(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    return -np.log((pixels.reshape(-1, 3).astype(float) + 1) / 256)


def reference_macenko(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Dyes (2, 3) and amounts (2,) by singular values of the scatter matrix, dye by dye."""
    density = of_density(pixels)
    stained = density[np.all(density > 0.15, axis=1)]
    centred = stained - stained.mean(axis=0)
    _, _, directions = np.linalg.svd(centred.T @ centred)
    first, second = (axis if axis[0] >= 0 else -axis for axis in directions[:2])
    angle = np.arctan2(stained @ second, stained @ first)
    found = [first * np.cos(at) + second * np.sin(at) for at in np.percentile(angle, [1, 99])]
    dyes = np.array(sorted(found, key=lambda dye: -dye[0]))
    amount = np.linalg.lstsq(dyes.T, stained.T, rcond=None)[0]
    return dyes, np.percentile(amount, 99, axis=1)


def reference_macenko_change(source: NDArray[np.uint8], target: NDArray[np.uint8]) -> NDArray[np.float64]:
    dyes, amount = reference_macenko(source)
    wanted, wanted_amount = reference_macenko(target)
    of_each = np.linalg.lstsq(dyes.T, of_density(source).T, rcond=None)[0]
    scaled = of_each / amount[:, None] * wanted_amount[:, None]
    changed: NDArray[np.float64] = np.clip(256 * np.exp(-(wanted.T @ scaled).T) - 1, 0, 255)
    return changed


def in_opponents(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Step by step after equations 2 to 6 of Reinhard et al., with natural logarithms."""
    red, green, blue = ((pixels.reshape(-1, 3).astype(float) + 1) / 256).T
    long = np.log(0.3811 * red + 0.5783 * green + 0.0402 * blue)
    middle = np.log(0.1967 * red + 0.7244 * green + 0.0782 * blue)
    short = np.log(0.0241 * red + 0.1288 * green + 0.8444 * blue)
    achromatic = (long + middle + short) / np.sqrt(3)
    yellow_blue = (long + middle - 2 * short) / np.sqrt(6)
    red_green = (long - middle) / np.sqrt(2)
    return np.stack([achromatic, yellow_blue, red_green], axis=1)


def reference_reinhard_change(source: NDArray[np.uint8], target: NDArray[np.uint8]) -> NDArray[np.float64]:
    def measured(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        seen = in_opponents(pixels)[of_density(pixels).mean(axis=1) > 0.15]
        return seen.mean(axis=0), seen.std(axis=0)

    (mean, deviation), (wanted, wanted_deviation) = measured(source), measured(target)
    achromatic, yellow_blue, red_green = ((in_opponents(source) - mean) / deviation * wanted_deviation + wanted).T
    long = achromatic / np.sqrt(3) + yellow_blue / np.sqrt(6) + red_green / np.sqrt(2)
    middle = achromatic / np.sqrt(3) + yellow_blue / np.sqrt(6) - red_green / np.sqrt(2)
    short = achromatic / np.sqrt(3) - 2 * yellow_blue / np.sqrt(6)
    cones = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
    light = np.linalg.solve(cones, np.exp(np.stack([long, middle, short])))
    changed: NDArray[np.float64] = np.clip(256 * light.T - 1, 0, 255)
    return changed


REFERENCES = {"reinhard": reference_reinhard_change, "macenko": reference_macenko_change}


@pytest.mark.parametrize("method", METHODS)
def test_a_slide_is_changed_as_the_papers_say(method: StainMethod) -> None:
    source, target = tissue(VIOLET_DYES, 1), tissue(PINK_DYES, 2)
    change = measure_reference(target, method, source="a test").change_of(source)
    assert change is not None
    changed = source.copy()
    change.apply(changed)
    expected = REFERENCES[method](source, target).reshape(source.shape)
    assert np.abs(changed - expected).max() < 0.6  # rounding, and 32 bits
    assert np.abs(changed.astype(int) - source).mean() > 3


@pytest.mark.parametrize("method", METHODS)
def test_a_changed_slide_has_the_stain_of_the_reference_and_is_left_alone_by_its_own(method: StainMethod) -> None:
    source, target = tissue(VIOLET_DYES, 1), tissue(PINK_DYES, 2)
    reference = measure_reference(target, method, source="a test")
    changed, own = source.copy(), target.copy()
    change_colours([changed], reference.change_of(source))
    change_colours([own], reference.change_of(target))
    again = measure_reference(changed, method, source="a test").stain
    for name in ("haematoxylin", "eosin", "amount") if method == "macenko" else ("mean", "deviation"):
        np.testing.assert_allclose(getattr(again, name), getattr(reference.stain, name), atol=0.03)
    assert np.abs(own.astype(int) - target).mean() < 1.5


def test_macenko_finds_the_dyes_that_tissue_was_made_of() -> None:
    found = fit_macenko(tissue(VIOLET_DYES, 3))
    assert found is not None
    unit = VIOLET_DYES / np.linalg.norm(VIOLET_DYES, axis=1, keepdims=True)
    np.testing.assert_allclose([found.haematoxylin, found.eosin], unit, atol=0.03)


def test_no_change_leaves_every_colour() -> None:
    colours = np.stack(np.meshgrid(*[np.arange(0, 256, 5)] * 3), axis=-1).reshape(-1, 52, 3).astype(np.uint8)
    kept = colours.copy()
    change_colours([kept], ColourChange(np.eye(3), np.eye(3), np.zeros(3)))
    assert np.array_equal(kept, colours)
    change_colours([kept], None)
    assert np.array_equal(kept, colours)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (180, 90, 160)])
def test_slides_without_measurable_stain_are_left(method: StainMethod, colour: tuple[int, int, int]) -> None:
    reference = measure_reference(tissue(VIOLET_DYES, 1), method, source="a test")
    flat = np.full((64, 64, 3), colour, np.uint8)
    assert reference.change_of(flat) is None
    assert reference.change_of(flat[:0]) is None
    with pytest.raises(InputError, match="too little stained tissue") as refused:
        measure_reference(flat, method, source="a picture")
    assert "stain_reference" in str(refused.value.remedy)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_pixels_are_changed_to_numbers_or_left(method: StainMethod, seed: int) -> None:
    generator = np.random.default_rng(seed)
    low, high = np.sort(generator.integers(0, 257, 2))
    pixels = generator.integers(low, max(high, low + 1), (48, 48, 3)).astype(np.uint8)
    reference = measure_reference(tissue(VIOLET_DYES, 1), method, source="a test")
    with np.errstate(all="raise"):
        change_colours([pixels], reference.change_of(pixels.copy()))


def test_a_reference_survives_json() -> None:
    for method in METHODS:
        reference = measure_reference(tissue(VIOLET_DYES, 1), method, source="a test")
        assert StainReference.model_validate_json(reference.model_dump_json()) == reference
    assert isinstance(fit_reinhard(tissue(PINK_DYES, 1)), ReinhardStain)
    assert isinstance(fit_macenko(tissue(PINK_DYES, 1)), MacenkoStain)


def test_a_picture_gives_a_reference_and_other_files_are_refused(tmp_path: Path) -> None:
    pixels, path = tissue(VIOLET_DYES, 1), tmp_path / "reference.png"
    cv2.imwrite(str(path), pixels[..., ::-1])
    reference = picture_reference(path, "macenko")
    assert reference.stain == measure_reference(pixels, "macenko", source="a test").stain
    assert reference.source == f"a picture ({file_digest(path)})"
    assert picture_reference(path, "macenko", digest=file_digest(path)) == reference
    with pytest.raises(IntegrityError, match=r"reference\.png.*not sha256:0"):
        picture_reference(path, "macenko", digest="sha256:0")
    for content in (b"", b"no picture"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is no picture"):
            picture_reference(path, "macenko")
    with pytest.raises(InputError, match="cannot be read"):
        picture_reference(tmp_path / "absent.png", "reinhard")

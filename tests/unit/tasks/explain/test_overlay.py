import numpy as np

from tasks.explain.overlay import overlay


def test_tissue_without_evidence_stays_as_it_is_and_evidence_is_coloured() -> None:
    patch = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    heat = np.zeros((16, 16), np.float32)
    heat[:, 8:] = 1
    image = overlay(patch, heat)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image[:, :8], patch[:, :8])
    # Full heat is viridis' yellow: little blue, whatever lies below.
    assert (image[:, 8:, 0].astype(int) > image[:, 8:, 2].astype(int) - 100).all()
    assert image[:, 8:, 0].mean() > image[:, 8:, 2].mean() + 80


def test_more_heat_moves_the_colour_further() -> None:
    patch = np.full((1, 50, 3), 200, np.uint8)
    image = overlay(patch, np.linspace(0, 1, 50, dtype=np.float32)[None]).astype(int)
    assert (np.abs(image - 200).sum(-1)[0, 5:] > 0).all()

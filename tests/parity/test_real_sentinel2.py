"""A real Sentinel-2 scene: what is water or vegetation there must be told apart by its embedding.

The scene is the sample that spyndex ships: the four 10 m bands of 300 x 300 pixels, reflectance x 10,000. What is
what comes from its spectral indices (NDWI, McFeeters 1996; NDVI), which the embedding never sees.
"""

from __future__ import annotations

import numpy as np
import pytest
import spyndex

from rs_embed_core import OutputSpec, UserData, get_embedding_from_data

CELL_PX = 8
OTHER, VEGETATION, WATER = range(3)


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """Digital numbers of B2, B3, B4, B8 as ``[4, 300, 300]``."""
    return spyndex.datasets.open("sentinel").to_numpy().astype(np.float32)


def field(pixels: np.ndarray) -> np.ndarray:
    """Embeddings of cells of 8 x 8 pixels, at native scale: ``[rows * columns, D]``."""
    data = UserData(pixels, "COPERNICUS/S2_SR_HARMONIZED", bands=("B2", "B3", "B4", "B8"))
    ours = get_embedding_from_data(
        "mosaiks", data, model_config={"features": 128}, output=OutputSpec.grid(), input_prep="tile", device="cpu"
    ).data
    assert ours.shape[1:] == (pixels.shape[1] // CELL_PX, pixels.shape[2] // CELL_PX)
    return ours.to_numpy().reshape(len(ours), -1).T


def cover(pixels: np.ndarray) -> np.ndarray:
    """Class of every cell, -1 where it is mixed: ``[rows, columns]``."""
    _, green, red, infrared = pixels
    ndwi, ndvi = (green - infrared) / (green + infrared), (infrared - red) / (infrared + red)
    rows, columns = green.shape[0] // CELL_PX, green.shape[1] // CELL_PX
    kinds = {OTHER: (ndvi < 0.35) & (ndwi < -0.2), VEGETATION: ndvi > 0.5, WATER: ndwi > 0}
    out = np.full((rows, columns), -1)
    for kind, mask in kinds.items():
        share = mask.reshape(rows, CELL_PX, columns, CELL_PX).mean(axis=(1, 3))
        out[share > 0.9] = kind
    return out


def nearest_centroid(features: np.ndarray, labels: np.ndarray, held_out: np.ndarray) -> float:
    """Balanced accuracy on the cells held out, of the nearest mean of standardised training features."""
    known = (labels >= 0) & ~held_out
    train = features[known]
    scaled = (features - train.mean(axis=0)) / (train.std(axis=0) + 1e-9)
    kinds = np.unique(labels[known])
    means = np.stack([scaled[known & (labels == kind)].mean(axis=0) for kind in kinds])
    guesses = kinds[((scaled[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)]
    return float(np.mean([(guesses == kind)[held_out & (labels == kind)].mean() for kind in kinds]))


def shuffled(features: np.ndarray, labels: np.ndarray, held_out: np.ndarray) -> float:
    """The same with the labels of the cells dealt out anew, mean of twenty deals."""
    scores = []
    for seed in range(20):
        dealt = labels.copy()
        for part in (held_out, ~held_out):
            places = np.flatnonzero(part & (labels >= 0))
            dealt[places] = np.random.default_rng(seed).permutation(labels[places])
        scores.append(nearest_centroid(features, dealt, held_out))
    return float(np.mean(scores))


def test_the_scene_is_what_it_is_taken_for(scene):
    assert scene.shape == (4, 300, 300)
    assert 100 < scene.min() < scene.max() < 10_000
    assert np.median(scene[3]) > 2 * np.median(scene[2])  # it is green


def test_vegetation_is_told_from_bare_ground(scene):
    pixels = scene[:, :256, :256]
    features, labels = field(pixels), cover(pixels)
    east = np.indices(labels.shape)[1].ravel() >= labels.shape[1] // 2
    labels = np.where(labels == WATER, -1, labels).ravel()
    assert min((labels[east] == kind).sum() for kind in (OTHER, VEGETATION)) > 50
    assert nearest_centroid(features, labels, east) > 0.97  # measured: 1.0
    assert shuffled(features, labels, east) < 0.6


def test_a_pond_is_found_by_what_a_reservoir_looks_like(scene):
    """The only water is some 10 m pixels wide, so pixels are repeated: a cell is 2 x 2 of them."""
    pixels = scene[:, :152, :152].repeat(4, axis=1).repeat(4, axis=2)
    features, labels = field(pixels), cover(pixels)
    south = np.indices(labels.shape)[0].ravel() >= 30
    labels = labels.ravel()
    assert (labels[~south] == WATER).sum() > 10  # the reservoir in the north
    assert (labels[south] == WATER).sum() > 3  # the pond
    assert nearest_centroid(features, labels, south) > 0.97  # measured: 0.99
    assert shuffled(features, labels, south) < 0.5

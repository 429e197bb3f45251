from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rs_embed_core.errors import InvalidInput
from rs_embed_core.providers import get_provider
from rs_embed_core.quicklook import input_rgb, pca_rgb, rgb, save_png
from rs_embed_core.specs.request import Ask, EmbedRequest
from rs_embed_core.specs.spatial import BBox, PointBuffer
from rs_embed_core.specs.temporal import TemporalSpec


def _grid(depth: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(depth, height, width)).astype(np.float32)


@pytest.mark.parametrize("shape", [(8, 16, 12), (200, 5, 6)])
def test_pca_is_the_projection_on_the_leading_axes(shape: tuple[int, int, int]) -> None:
    grid = _grid(*shape)
    cells = grid.reshape(shape[0], -1).T.astype(np.float64)
    centred = cells - cells.mean(axis=0)
    expected = np.linalg.svd(centred, full_matrices=False)
    scores = expected.U[:, 0] * expected.S[0]
    scores *= np.sign(scores[np.abs(scores).argmax()])
    low, high = np.percentile(scores, (2, 98))
    red = np.rint(255 * np.clip((scores - low) / (high - low), 0, 1)).reshape(shape[1:])
    picture = pca_rgb(grid)
    assert picture.shape == (*shape[1:], 3)
    assert picture.dtype == np.uint8
    assert np.abs(picture[..., 0].astype(int) - red).max() <= 1


def test_pca_sign_does_not_depend_on_the_sign_of_the_axes() -> None:
    grid = _grid(6, 9, 9)
    mirrored = grid.copy()
    mirrored[3] *= -1  # the same scores, another basis
    assert np.abs(pca_rgb(grid).astype(int) - pca_rgb(mirrored)).max() <= 1


def test_pca_of_a_constant_grid_is_grey_and_missing_cells_are_black() -> None:
    grid = np.full((4, 3, 3), 7, np.float32)
    grid[2, 0, 0] = np.nan
    picture = pca_rgb(grid)
    assert picture[0, 0].tolist() == [0, 0, 0]
    assert set(picture.reshape(-1, 3)[1:].ravel().tolist()) == {128}


def test_pca_of_one_or_two_channels_fills_the_others_with_grey() -> None:
    picture = pca_rgb(_grid(1, 8, 8))
    assert np.ptp(picture[..., 0]) == 255
    assert set(picture[..., 1:].ravel().tolist()) == {128}


@pytest.mark.parametrize("bad", [np.zeros((3, 4)), np.full((2, 2, 2), np.nan), np.zeros((0, 2, 2))])
def test_pca_refuses_what_is_no_grid(bad: np.ndarray) -> None:
    with pytest.raises(InvalidInput):
        pca_rgb(bad)


def test_rgb_picks_bands_by_name_with_one_stretch() -> None:
    ramp = np.linspace(0, 1000, 100).reshape(10, 10)
    image = np.stack([ramp * 0.25, ramp * 0.5, ramp])  # B2, B3, B4
    picture = rgb(image, ("B2", "B3", "B4"), stretch=(0, 100))
    assert picture[-1, -1].tolist() == [255, 128, 64]
    image[0, 0, 5] = np.nan
    assert rgb(image, ("B2", "B3", "B4"))[0, 5].tolist() == [0, 0, 0]
    with pytest.raises(InvalidInput, match="B4"):
        rgb(image, ("B2", "B3", "B8"))


def test_pictures_side_by_side_are_scaled_by_nearest_neighbour(tmp_path: Path) -> None:
    left = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 9, 9]]], np.uint8)
    right = np.full((4, 2, 3), 50, np.uint8)
    path = save_png(tmp_path / "deep" / "both.png", left, right, height=40, gap=10)
    sheet = np.asarray(Image.open(path))
    assert sheet.shape == (40, 40 + 10 + 20, 3)
    assert sheet[19, 19].tolist() == [255, 0, 0]
    assert sheet[20, 20].tolist() == [9, 9, 9]
    assert sheet[5, 45].tolist() == [255, 255, 255]
    assert sheet[39, 69].tolist() == [50, 50, 50]
    with pytest.raises(InvalidInput):
        save_png(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("spatial", "tall"),
    [(PointBuffer(8.5, 47.4, 320), False), (BBox(8.50, 47.40, 8.503, 47.406), True)],
)
def test_the_input_is_shown_where_the_roi_is(spatial: BBox | PointBuffer, tall: bool) -> None:
    ask = Ask(model="mosaiks", temporal=TemporalSpec.range("2022-06-01", "2022-09-01"))
    picture = input_rgb(EmbedRequest(ask, spatial), get_provider("synthetic"))
    height, width, _ = picture.shape
    assert (height > 1.5 * width) is tall
    assert np.ptp(picture) > 100

"""Squares of whole patches, by hand: golden/thor/spec.md, "Geometry"."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rs_embed_core.preprocessing.snap import NoteGroundCover, SnapToPatches, StretchUnsnapped
from rs_embed_core.sample import Sample

S2, S1 = (80, 160), (80,)  # patches of 8 pixels of 10 m and 20 m


def snap(patches_m: tuple[int, ...] = S2, **changed: Any) -> SnapToPatches:
    limits = {"adjust": "crop", "fill": 0.0, "tolerance_px": 8, "largest_px": 384, "most_tokens": 3000}
    return SnapToPatches(patches_m, **limits | changed)


def numbered(height: int, width: int, **more: Any) -> Sample:
    """Pixels that are 1, 2, 3, ... row by row."""
    image = np.arange(1, height * width + 1, dtype=np.float32).reshape(1, 1, height, width)
    return Sample({"image": image}, ("B4",), **more)


@pytest.mark.parametrize(
    ("patches_m", "scale_m", "side", "snapped"),
    [
        (S2, 10, 100, 96),  # golden case tiny
        (S1, 10, 90, 88),  # golden case tiny_s1
        (S2, 10, 24, 16),  # a tie goes down
        (S2, 10, 25, 32),
        (S2, 10, 3, 16),  # at least one unit
        (S2, 10, 384, 384),
        (S2, 10, 391, 384),
        (S2, 10, 393, None),  # 400: over the longest side
        (S2, 20, 96, 96),  # 8 pixels of 20 m are a patch of 160 m: 24 x 24 + 12 x 12 tokens
        (S2, 20, 195, 192),  # 2880 tokens
        (S2, 20, 197, None),  # 200: 3125 tokens
        (S2, 7, 150, 160),  # no multiple of 7 m below 160 px is a whole patch
        (S2, 10.4, 100, 96),  # whole metres count
        (S2, 0.2, 150, 160),
        ((60, 120), 10, 100, 96),  # patches of 6
    ],
)
def test_the_nearest_side_of_whole_patches(patches_m, scale_m, side, snapped):
    sample = numbered(side, side, scale_m=scale_m)
    ours = snap(patches_m)(sample)
    if snapped is None:
        assert ours is sample
    else:
        assert ours.image.shape == (1, 1, snapped, snapped)
        assert ours.extent is not None


def test_a_rectangle_is_cropped_twice_from_its_centre():
    sample = numbered(103, 100)
    ours = snap()(sample)  # 1 row above, 2 below; then 2 rows and columns on every side
    np.testing.assert_array_equal(ours.image, sample.image[..., 3:99, 2:98])
    assert ours.extent == (3, 99, 2, 98)
    assert ours.arrays.keys() == {"image"}


def test_what_was_cropped_does_not_come_back_as_padding():
    sample = numbered(93, 90)  # rows 1 to 91, then 3 more on every side
    ours = snap(fill=-1.0)(sample)
    assert ours.extent == (-2, 94, -3, 93)
    np.testing.assert_array_equal(ours.image[..., 3:93, 3:93], sample.image[..., 1:91, :])
    assert np.count_nonzero(ours.image == -1) == 96**2 - 90**2


def test_of_an_odd_pixel_of_padding_the_smaller_half_comes_first():
    ours = snap()(numbered(91, 91))
    assert ours.extent == (-2, 94, -2, 94)
    assert (ours.image[..., :2, :] == 0).all()
    assert (ours.image[..., 93:, :] == 0).all()
    assert (ours.image[..., 2:93, 2:93] > 0).all()


def test_a_rectangle_may_be_padded():
    sample = numbered(93, 96)
    ours = snap(adjust="pad")(sample)
    assert ours.extent == (-1, 95, 0, 96)
    np.testing.assert_array_equal(ours.image[..., 1:94, :], sample.image)


@pytest.mark.parametrize(
    ("sample", "step"),
    [
        (numbered(96, 105), snap()),
        (numbered(96, 97), snap(tolerance_px=0)),
        (numbered(96, 96, tiled=True), snap()),
        (numbered(96, 96), snap(largest_px=95)),
        (numbered(96, 96), snap(most_tokens=179)),
    ],
)
def test_what_is_not_snapped_is_stretched(sample, step):
    left = step(sample)
    assert left is sample
    assert StretchUnsnapped(32)(left).image.shape == (1, 1, 32, 32)


def test_what_is_snapped_keeps_its_pixels():
    ours = snap()(numbered(96, 96))
    assert ours.extent == (0, 96, 0, 96)
    assert StretchUnsnapped(32)(ours) is ours


@pytest.mark.parametrize(
    ("scale_m", "metres"),
    [(10, 960), (20, 1920), (9.6, 960), (14, 1280), (0.3, 160)],  # 1344 m are 8.4 patches, 96 m less than one
)
def test_the_ground_cover_is_one_more_parameter(scale_m, metres):
    sample = numbered(96, 96, scale_m=scale_m, params=(("patch_size", 8),))
    assert NoteGroundCover("ground_cover_m", S2)(sample).params == (("patch_size", 8), ("ground_cover_m", metres))

"""What steps make of shapes, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rs_embed_core.errors import RoiTooLarge
from rs_embed_core.preprocessing.fit import (
    CentreCrop,
    CropToSquare,
    PadToMultiple,
    PadToSquare,
    PadToSquareAndBack,
    RefuseLarger,
    Resize,
    Resize8Bit,
    ResizeShorterSide8Bit,
    ShrinkTo,
)
from rs_embed_core.sample import View
from tests.contracts.step_samples import sample_of


def test_an_image_too_large_to_be_taken_as_it_is():
    for image in (np.zeros((1, 2, 31, 5)), np.zeros((1, 2, 5, 31))):
        with pytest.raises(RoiTooLarge, match="At most 30 a side"):
            RefuseLarger(30)(sample_of(image.astype(np.float32)))


def test_shapes_by_hand():
    row = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4).repeat(2, axis=1)
    assert PadToSquare()(sample_of(row)).image[0, 0].tolist() == [[0, 1, 2, 3]] * 4  # too thin to reflect
    assert Resize(2)(sample_of(row)).image[0, 0].tolist() == [[0.5, 2.5]] * 2  # midway between two pixels
    assert PadToMultiple(3, 9.0)(sample_of(row)).image[0, 0].tolist() == [[0, 1, 2, 3, 9, 9]] + [[9] * 6] * 2
    assert CropToSquare()(sample_of(row)).image[0, 0].tolist() == [[1]]  # of four, the odd one goes at the right
    assert CropToSquare()(sample_of(np.swapaxes(row, 2, 3)[:, :, :3])).image[0, 0].tolist() == [[1]]
    assert CentreCrop(1)(sample_of(row)).image[0, 0].tolist() == [[2]]  # 1.5 rounds to even
    assert ShrinkTo(2)(sample_of(row)).image.shape == (1, 2, 1, 2)  # at least one row
    tall = ShrinkTo(10)(sample_of(np.zeros((1, 2, 40, 30), np.float32)))
    assert tall.image.shape == (1, 2, 10, 8)  # 7.5 rounds to even
    grey = ResizeShorterSide8Bit(8)(sample_of(np.full((1, 2, 20, 30), 77, np.float32)))
    assert np.unique(grey.image).tolist() == [77]
    stretched = Resize8Bit(8)(sample_of(np.full((1, 2, 20, 30), 77, np.float32)))
    assert stretched.image.shape == (1, 2, 8, 8)
    assert np.unique(stretched.image).tolist() == [77]


@pytest.mark.parametrize(
    "step",
    [
        PadToSquare(),
        PadToSquareAndBack(),
        CropToSquare(),
        PadToMultiple(10, 0.0),
        Resize(20),
        ShrinkTo(20),
        ShrinkTo(30),
    ],
)
def test_what_fits_already_is_not_copied(step):
    image = np.zeros((1, 2, 20, 20), np.float32)
    assert step(sample_of(image)).image is image


def test_padding_is_cut_off_again_unless_an_inset_is_asked_for():
    image = np.zeros((1, 2, 4, 8), np.float32)
    padded = PadToSquareAndBack()(sample_of(image))
    assert padded.view == View(head=False, inset=(0.25, 0.75, 0.0, 1.0))
    np.testing.assert_array_equal(padded.image, PadToSquare()(sample_of(image)).image)
    asked = View("grid", inset=(0.1, 0.2, 0.3, 0.4))
    assert PadToSquareAndBack()(sample_of(image, view=asked)).view is asked
    assert PadToSquareAndBack()(sample_of(image[..., :4])).view == View()

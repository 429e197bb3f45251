"""What the card of Galileo says, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rs_embed_core import PointBuffer, TemporalSpec
from rs_embed_core.chip import Chip
from rs_embed_core.plan import plan
from rs_embed_core.prepare import prepare
from rs_embed_core.prepared import Prepared
from rs_embed_core.specs.request import Ask

PLACE = PointBuffer(121.5, 31.2, 320)
JUNE = TemporalSpec.range("2022-06-01", "2022-07-01")
# golden/galileo/spec.md, "Preprocessing": B2 and B12, the first and the last band
MEAN, STD = np.array([1395.3408730676722, 1474.5311266077113]), np.array([917.7041440370853, 980.2429840007796])


def _prepared(pixels: NDArray[np.float64], **options: str) -> Prepared:
    """One frame of bands that are the same everywhere."""
    request = plan(Ask("galileo", temporal=JUNE, model_config=tuple(options.items())).at(PLACE))
    read = request.fetch
    data = np.broadcast_to(pixels.astype(np.float32)[None, :, None, None], (1, 10, 64, 64)).copy()
    return prepare(Chip(data, read.grid.with_shape(64, 64), read.bands, read.frames, "test", read.collection), request)


def _ends(prepared: Prepared) -> NDArray[np.float32]:
    """What became of B2 and B12."""
    image = prepared.samples[0].image
    assert np.ptp(image, axis=(2, 3)).max() == 0
    return image[0, [0, -1], 0, 0]


def _pixels(first: float, last: float) -> NDArray[np.float64]:
    return np.array([first, *[2000.0] * 8, last])


@pytest.mark.parametrize(("deviations", "expected"), [(-2, 0), (0, 0.5), (2, 1), (12, 3.5)])
def test_official_preprocessing_maps_two_deviations_around_the_mean(deviations: int, expected: float) -> None:
    """As the authors' Normalizer: ``(x - (mean - 2 std)) / (4 std)``, also of more than 10000 and less than 0."""
    pixels = MEAN + deviations * STD
    for normalization in ("none", "unit_scale"):  # stands in its place
        after = _ends(_prepared(_pixels(*pixels), preprocessing="official", normalization=normalization))
        np.testing.assert_allclose(after, [expected] * 2, atol=1e-6)


def test_by_default_the_numbers_go_in_as_they_are() -> None:
    np.testing.assert_array_equal(_ends(_prepared(_pixels(-50, 12_000))), [0, 10_000])
    np.testing.assert_array_equal(_ends(_prepared(_pixels(0, 2500), normalization="unit_scale")), [0, 0.25])


def test_the_default_is_said_to_depart_from_training() -> None:
    for options, said in (({}, 1), ({"normalization": "unit_scale"}, 1), ({"preprocessing": "official"}, 0)):
        notices = _prepared(_pixels(100, 2500), **options).info.notices
        texts = [notice.text for notice in notices if notice.code == "preprocessing"]
        assert len(texts) == said
        assert all("preprocessing=official" in text for text in texts)

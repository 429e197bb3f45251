"""What olmoearth makes of the caller's own pixels: golden/olmoearth/spec.md, "Provider input", "Options and errors"."""

from __future__ import annotations

import numpy as np
import pytest

from rs_embed_core import OutputSpec, TemporalSpec, UserData, configure, describe_model, get_embedding_from_data
from tests.parity.golden import load_case
from tests.parity.published import SMALL, publish
from tests.unit.own_pixels import S2, SUMMER, pixels
from tests.unit.small_cards import registered

IMAGE = {"image_size": 32}
BANDS = tuple(describe_model("olmoearth")["inputs"][0]["bands"])


@pytest.fixture(autouse=True)
def olmoearth(tmp_path):
    configure(checkpoints_root=tmp_path, offline=True)
    with registered(publish(load_case("olmoearth", SMALL["olmoearth"]), tmp_path)):
        yield
    configure(offline=False)


def embed(data, temporal=SUMMER, **how):
    return get_embedding_from_data("olmoearth", UserData(data, S2, bands=BANDS, temporal=temporal), device="cpu", **how)


def test_an_image_without_a_time_axis_is_a_single_one_however_long_the_window():
    image = pixels(12, height=32, width=32)
    long = embed(image, model_config=IMAGE)
    assert long.meta["frames"] == {"requested": 1, "used": 1, "distinct": 1, "empty": 0}
    short = embed(image, TemporalSpec.range("2022-07-16", "2022-07-18"), model_config=IMAGE)  # the same middle, one bin
    np.testing.assert_array_equal(long.data, short.data)
    assert embed(pixels(4, 12, height=32, width=32), model_config=IMAGE).meta["frames"]["used"] == 4


@pytest.mark.parametrize(
    ("mode", "config", "size"),
    [("tile", {}, 32), ("auto", {}, 32), ("resize", {}, 256), ("tile", {"image_size": 64}, 64)],
)
def test_own_pixels_keep_their_size_where_they_are_not_resized(mode, config, size):
    image = pixels(12, height=30, width=30)
    grid = embed(image, output=OutputSpec.grid(), model_config={"patch_size": 8, **config}, input_prep=mode)
    assert grid.meta["image_size"] == size
    assert grid.data.shape[1:] == (size // 8, size // 8)

from __future__ import annotations

import time

import numpy as np
import pytest

from rs_embed_core.chip import FetchPlan
from rs_embed_core.errors import ProviderError
from rs_embed_core.geo import WEB_MERCATOR, Grid, bounds_of
from rs_embed_core.providers.base import Provider
from rs_embed_core.providers.synthetic import SyntheticProvider
from rs_embed_core.specs.spatial import PointBuffer
from tests.unit.synthetic.places import BAVARIA, JULY, PROVIDER, S2, S2_BANDS, SOME_BANDS, around, fetch


def test_it_is_a_provider_and_says_what_it_drew():
    assert isinstance(PROVIDER, Provider)
    grid = Grid.on_lattice(bounds_of(PointBuffer(*BAVARIA, 320.0)), 10.0)
    chip = fetch(grid, JULY)
    assert (chip.provider, chip.collection, chip.bands) == (PROVIDER.name, S2, SOME_BANDS[S2])
    assert PROVIDER.name == "synthetic"
    assert chip.grid == grid
    assert chip.frames == (JULY,)
    assert chip.empty_frames == chip.facts == ()


def test_band_aliases_name_the_same_pixels():
    plain, aliased = ("B2", "B8A", "B11"), ("BLUE", "NIR_NARROW", "SWIR_1")
    chip = fetch(around(BAVARIA), bands=aliased)
    assert chip.bands == aliased
    assert np.array_equal(chip.data, fetch(around(BAVARIA), bands=plain).data)


def test_an_unknown_band_lists_the_known_ones():
    with pytest.raises(ProviderError, match="'B13'") as caught:
        fetch(around(BAVARIA), bands=("B4", "B13"))
    assert caught.value.code == "unknown_band"
    assert not caught.value.retryable
    assert caught.value.hint is not None
    assert all(band in caught.value.hint for band in S2_BANDS)
    with pytest.raises(ProviderError, match="'B10'"):  # L1C has it, L2A does not
        fetch(around(BAVARIA), bands=("B10",))


def test_an_unknown_collection_lists_the_known_ones():
    with pytest.raises(ProviderError, match="'COPERNICUS/S3'") as caught:
        fetch(around(BAVARIA), collection="COPERNICUS/S3", bands=("B1",))
    assert caught.value.code == "unknown_collection"
    assert caught.value.hint is not None
    assert S2 in caught.value.hint


@pytest.mark.parametrize(
    "grid",
    [
        Grid("EPSG:4326", (1e-4, 0.0, 11.0, 0.0, -1e-4, 48.0), 4, 4),
        Grid(WEB_MERCATOR, (10.0, 1.0, 0.0, 0.0, -10.0, 0.0), 4, 4),
        Grid(WEB_MERCATOR, (10.0, 0.0, 0.0, 0.0, 10.0, 0.0), 4, 4),
    ],
)
def test_only_north_up_mercator_grids_are_drawn(grid):
    with pytest.raises(ProviderError, match="north-up") as caught:
        fetch(grid)
    assert caught.value.code == "unsupported_grid"


def test_delay_stands_in_for_latency():
    plan = FetchPlan(S2, ("B4",), around(BAVARIA, 1), (JULY,))
    before = time.monotonic()
    slow = SyntheticProvider(delay_s=0.05).fetch(plan)
    assert time.monotonic() - before >= 0.05
    assert np.array_equal(slow.data, PROVIDER.fetch(plan).data)

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from rs_embed_core import FetchSpec, PointBuffer, TemporalSpec
from rs_embed_core.chip import Acquisition, Chip, FetchPlan
from rs_embed_core.embedding import FrameCount
from rs_embed_core.errors import NoImagery, ProviderTimeout
from rs_embed_core.fetch import fetch
from rs_embed_core.inputs import Source
from rs_embed_core.plan import Plan, plan, recipe
from rs_embed_core.prepare import prepare
from rs_embed_core.providers.base import Provider
from rs_embed_core.registry import get_card, register_model
from rs_embed_core.specs.request import Ask

SUMMER = TemporalSpec.range("2022-06-01", "2022-09-01")


@dataclass
class FrameProvider:
    """Imagery of one value per frame; None where a frame has no acquisition.

    ``whole`` is the value of a read of one frame: the composite of the window, if there is one.
    """

    values: tuple[float | None, ...]
    whole: float | None = None
    holes: tuple[int, ...] = ()
    failure: Exception | None = None
    name: str = "frames"
    reads: list[FetchPlan] = field(default_factory=list)

    def fetch(self, read: FetchPlan) -> Chip:
        self.reads.append(read)
        values = self.values
        if len(read.frames) == 1 and len(self.values) > 1:
            if self.failure is not None:
                raise self.failure
            if self.whole is None:
                raise NoImagery("nothing in the whole window.")
            values = (self.whole,)
        empty = tuple(i for i, value in enumerate(values) if value is None)
        shape = (len(read.frames), len(read.bands), read.grid.height, read.grid.width)
        data = np.empty(shape, np.float32)
        for i, value in enumerate(values):
            data[i] = read.fill_value if value is None else value
        valid = np.ones((shape[0], *shape[2:]), np.bool_)
        valid[list(empty)] = False
        valid[list(self.holes), 0, 0] = False
        seen = tuple(Acquisition(f"id{i}", read.frames[i].start.isoformat(), i) for i in range(len(values)))
        seen = tuple(item for item in seen if item.frame not in empty)
        mask = None if valid.all() else valid
        return Chip(data, read.grid, read.bands, read.frames, self.name, read.collection, mask, empty, seen)


def series(frames: int = 4) -> Plan:
    ask = Ask("galileo", temporal=SUMMER, model_config=(("n_frames", frames),))
    return plan(ask.at(PointBuffer(11.5, 48.1, 320)))


def levels(chip: Chip) -> list[float]:
    """The value of each frame, at a pixel that has no hole."""
    return chip.data[:, 0, 1, 1].tolist()


def test_it_is_a_provider():
    assert isinstance(FrameProvider((1,)), Provider)


def test_a_full_series_is_read_once():
    provider = FrameProvider((1, 2, 3, 4))
    chip = fetch(series(), provider)
    assert levels(chip) == [1, 2, 3, 4]
    assert provider.reads == [series().fetch]


def test_empty_frames_get_the_composite_of_the_whole_window():
    provider = FrameProvider((1, None, 3, None), whole=7)
    chip = fetch(series(), provider)
    assert levels(chip) == [1, 7, 3, 7]
    assert chip.valid is None
    assert chip.empty_frames == (1, 3)  # still reported
    assert [item.frame for item in chip.acquisitions] == [0, 2]
    assert [read.frames for read in provider.reads] == [series().fetch.frames, (series().window,)]
    assert len({(read.grid, read.bands, read.collection) for read in provider.reads}) == 1


@pytest.mark.parametrize(("values", "scenes"), [((1, None, 3, None), False), ((None,) * 4, True)])
def test_the_composite_lists_acquisitions_only_where_no_frame_had_any(values, scenes):
    provider = FrameProvider(values, whole=7)
    fetch(series(), provider)
    assert [read.scenes for read in provider.reads] == [True, scenes]


def test_holes_stay_where_they_are():
    chip = fetch(series(), FrameProvider((1, None, 3, 4), whole=7, holes=(0,)))
    assert chip.valid is not None
    assert np.argwhere(~chip.valid).tolist() == [[0, 0, 0], [1, 0, 0]]  # the composite has one too


def test_without_a_composite_the_nearest_frame_stands_in():
    chip = fetch(series(6), FrameProvider((None, None, 3, None, None, 6)))
    assert levels(chip) == [3, 3, 3, 3, 6, 6]
    assert chip.valid is None
    assert chip.empty_frames == (0, 1, 3, 4)
    assert levels(fetch(series(3), FrameProvider((1, None, 3)))) == [1, 1, 3]  # as near: the earlier one


def test_nothing_at_all_is_no_imagery():
    with pytest.raises(NoImagery, match="whole window"):
        fetch(series(), FrameProvider((None, None, None, None)))


def test_a_composite_that_fails_is_not_a_composite_that_is_empty():
    with pytest.raises(ProviderTimeout):
        fetch(series(), FrameProvider((1, None, 3, 4), failure=ProviderTimeout("too slow.")))


def test_the_chip_of_the_provider_is_left_alone():
    provider = FrameProvider((1, None, 3, 4), whole=7)
    kept = provider.fetch(series().fetch)
    before = kept.data.copy()
    fetch(series(), provider)
    np.testing.assert_array_equal(kept.data, before)


def test_a_model_of_one_frame_takes_what_comes():
    request = plan(Ask("mosaiks", temporal=SUMMER).at(PointBuffer(11.5, 48.1, 320)))
    provider = FrameProvider((5,))
    assert levels(fetch(request, provider)) == [5]
    assert len(provider.reads) == 1
    with pytest.raises(NoImagery, match="missing here"):
        prepare(fetch(request, FrameProvider((None,))), request)


def test_empty_frames_are_said_in_the_meta():
    info = prepare(fetch(series(), FrameProvider((1000, None, 3000, None), whole=700)), series()).info
    assert info.frames == FrameCount(requested=4, used=4, distinct=3, empty=2)
    (notice,) = [notice for notice in info.notices if notice.code == "empty_frames"]
    assert notice.text.startswith("2 of 4 frames")
    assert "repeated_frames" not in {notice.code for notice in info.notices}


# --- several collections -----------------------------------------------------------------------------------

RADAR = Source("COPERNICUS/S1_GRD", ("VV", "VH"), cloudy_pct=None, linear=False)


@pytest.fixture
def both() -> Iterator[None]:
    """mosaiks reads radar too."""
    card, _ = get_card("mosaiks")
    (entry,) = card.inputs
    register_model(replace(card, inputs=(replace(entry, bands=(*entry.bands, *RADAR.bands), also=(RADAR,)),)))
    yield
    register_model(card)


@dataclass
class TwoProvider:
    """Optical pixels of 1000 but for the last row, radar pixels of -12 but for the first."""

    name: str = "two"
    reads: list[FetchPlan] = field(default_factory=list)

    def fetch(self, read: FetchPlan) -> Chip:
        self.reads.append(read)
        radar = read.collection == RADAR.collection
        shape = (len(read.frames), len(read.bands), read.grid.height, read.grid.width)
        valid = np.ones((shape[0], *shape[2:]), np.bool_)
        valid[:, 0 if radar else -1] = False
        data = np.full(shape, -12 if radar else 1000, np.float32)
        seen = (Acquisition("radar" if radar else "optical", "2022-06-02" if radar else "2022-06-03", 0),)
        facts = (("requests", 2), ("s1_iw_relaxed", False)) if radar else (("requests", 3),)
        return Chip(data, read.grid, read.bands, read.frames, self.name, read.collection, valid, (), seen, facts)


@pytest.mark.usefixtures("both")
def test_collections_are_read_on_one_grid_and_joined() -> None:
    request = plan(Ask("mosaiks", temporal=SUMMER, fetch=FetchSpec(scale_m=20)).at(PointBuffer(11.5, 48.1, 320)))
    provider = TwoProvider()
    chip = fetch(request, provider)
    optical, radar = sorted(provider.reads, key=lambda read: read.collection == RADAR.collection)
    assert radar == replace(optical, collection=RADAR.collection, bands=RADAR.bands, cloudy_pct=None, linear=False)
    assert optical.grid.transform[0] == 20
    assert chip.bands == (*optical.bands, "VV", "VH") == recipe(request.ask).bands
    assert chip.data[0, :, 5, 5].tolist() == [1000] * len(optical.bands) + [-12, -12]
    assert np.isnan(chip.data[0, -2:, 0]).all()  # no radar here
    assert np.isnan(chip.data[0, :-2, -1]).all()  # nothing optical here
    assert chip.valid is None  # every pixel has some band
    assert [seen.id for seen in chip.acquisitions] == ["radar", "optical"]
    assert dict(chip.facts) == {"requests": 5, "s1_iw_relaxed": False}
    assert chip.collection == "COPERNICUS/S2_SR_HARMONIZED + COPERNICUS/S1_GRD"
    assert request.pixels == chip.data.size
    ready = prepare(chip, request)
    assert ready.samples[0].image.shape[0] == len(chip.bands)
    assert np.isfinite(ready.samples[0].image).all()


@pytest.mark.usefixtures("both")
def test_a_collection_that_has_nothing_is_no_imagery() -> None:
    request = plan(Ask("mosaiks", temporal=SUMMER).at(PointBuffer(11.5, 48.1, 320)))

    @dataclass
    class NoRadar(TwoProvider):
        def fetch(self, read: FetchPlan) -> Chip:
            if read.collection == RADAR.collection:
                raise NoImagery(f"no {read.collection} here.")
            return super().fetch(read)

    with pytest.raises(NoImagery, match="S1_GRD"):
        fetch(request, NoRadar())

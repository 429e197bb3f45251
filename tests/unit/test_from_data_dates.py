"""When the caller's own pixels were taken, as the network is told."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
import xarray as xr

from rs_embed_core import UserData, configure, get_embedding_from_data
from rs_embed_core.errors import InvalidInput
from tests.parity.golden import load_case
from tests.parity.published import publish
from tests.unit.own_pixels import BANDS, S2, SUMMER, assert_same, embed, pixels
from tests.unit.small_cards import registered

DAYS = ("2020-01-15", "2020-04-15", "2020-10-15")


@pytest.fixture(autouse=True)
def galileo(tmp_path):
    """A model that is told the month of each frame."""
    configure(checkpoints_root=tmp_path, offline=True)
    with registered(publish(load_case("galileo", "nano"), tmp_path)):
        yield
    configure(offline=False)


def series(*days: str, times: object = None) -> xr.DataArray:
    data = pixels(len(days), 10, height=16, width=16)
    times = np.array(days, "datetime64[ns]") if times is None else times
    return xr.DataArray(data, dims=("time", "band", "y", "x"), coords={"time": times, "band": list(BANDS)})


def test_the_times_of_a_data_array_are_the_days_of_its_frames():
    ours = embed(series(*DAYS), model="galileo")
    assert ours.meta["temporal"] == {"mode": "range", "start": "2020-01-15", "end": "2020-10-16"}
    assert ours.meta["frames"] == {"requested": 3, "used": 3, "distinct": 3, "empty": 0}
    assert "default_window" not in [notice["code"] for notice in ours.meta["notices"]]
    assert_same(ours, embed(series("2011-01-01", "2013-04-30", "2022-10-31"), model="galileo"))  # the same months
    winters = embed(series("2020-01-15", "2021-01-20", "2022-01-25"), model="galileo")
    assert (winters.data != ours.data).any()
    forced = get_embedding_from_data("galileo", UserData(series(*DAYS), S2), model_config={"month": 1}, device="cpu")
    assert_same(winters, forced)


def test_an_image_keeps_its_day():
    array = series(*DAYS)
    taken = UserData(array.isel(time=1), S2).resolved()
    assert taken.values.shape == (10, 16, 16)
    assert taken.dates == (dt.date(2020, 4, 15),)
    ours = embed(array.isel(time=1), model="galileo")
    assert ours.meta["temporal"]["start"] == "2020-04-15"
    assert_same(ours, embed(array.isel(time=[1]), model="galileo"))


def test_what_stands_beside_the_axes_is_a_day_or_nothing():
    array = series(*DAYS)
    assert len(UserData(array.assign_coords(t=21.5), S2).resolved().dates) == 3
    assert UserData(array.isel(time=0, drop=True).assign_coords(t=21.5), S2).resolved().dates == ()
    mosaic = array.drop_vars("time").rename(time="t").assign_coords(time=np.datetime64(DAYS[0], "ns"))
    assert UserData(mosaic, S2).resolved().dates == (dt.date(2020, 1, 15),) * 3


@pytest.mark.parametrize(
    "times",
    [
        list(DAYS),
        [dt.date.fromisoformat(day) for day in DAYS],
        [dt.datetime.fromisoformat(f"{day}T10:16:00+00:00") for day in DAYS],
    ],
    ids=["text", "date", "datetime"],
)
def test_days_may_be_written_in_any_way(times):
    found = UserData(series(*DAYS, times=times), S2).resolved().dates
    assert [day.isoformat() for day in found] == list(DAYS)


@pytest.mark.parametrize(
    ("times", "says"),
    [
        (np.array(DAYS[::-1], "datetime64[ns]"), "in order: 2020-10-15, 2020-04-15"),
        (np.array(["2020-01-15", "NaT", "2020-10-15"], "datetime64[ns]"), "None, 2020-10-15: no dates"),
        ([0, 1, 2], "0, 1, 2: no dates"),
        (["spring", "summer", "autumn"], "no dates"),
    ],
)
def test_times_that_say_no_days_are_refused(times, says):
    array = series(*DAYS, times=times)
    with pytest.raises(InvalidInput, match=says) as caught:
        embed(array, model="galileo")
    assert caught.value.hint
    embed(array, model="galileo", temporal=SUMMER)  # said: then they do not matter


def test_temporal_wins_over_the_times():
    ours = embed(series(*DAYS), model="galileo", temporal=SUMMER)
    assert_same(ours, embed(pixels(3, 10, height=16, width=16), model="galileo", temporal=SUMMER))
    assert ours.meta["temporal"]["start"] == "2022-06-01"


def test_frames_divide_the_window_equally_however_many():
    four = pixels(4, 10, height=16, width=16)  # as many as galileo has bins of 30 days in those 92
    ours = embed(four, model="galileo", temporal=SUMMER)
    middles = ["2022-06-12", "2022-07-05", "2022-07-28", "2022-08-20"]
    days = xr.DataArray(four, dims=("t", "band", "y", "x"), coords={"t": np.array(middles, "datetime64[ns]")})
    assert_same(ours, embed(days, model="galileo"))

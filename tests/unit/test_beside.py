"""Models that are asked of the same ROIs at once and share what they read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from rs_embed_core import FetchSpec, PointBuffer, SensorSpec, TemporalSpec
from rs_embed_core.chip import Chip, FetchPlan
from rs_embed_core.errors import InvalidRequest, RSEmbedError, UnknownModel
from rs_embed_core.fetch import fetch
from rs_embed_core.plan import Plan, plan, recipe
from rs_embed_core.prepare import prepare
from rs_embed_core.specs.request import Ask, Beside, ask_from_dict, beside_from

PLACE = PointBuffer(11.5, 48.1, 320)
SUMMER = TemporalSpec.range("2022-06-01", "2022-09-01")


def planned(model: str, *beside: str | Beside, **ask: object) -> Plan:
    others = tuple(Beside(other) if isinstance(other, str) else other for other in beside)
    return plan(Ask(model, **{"temporal": SUMMER, "beside": others, **ask}).at(PLACE))


def test_models_of_the_same_imagery_share_one_read() -> None:
    models = ("mosaiks", "dofa", "remoteclip")
    reads = {model: planned(model, *(other for other in models if other != model)).fetch for model in models}
    assert len({read.key for read in reads.values()}) == 1
    alone = [set(planned(model).fetch.bands) for model in models]
    assert set(reads["mosaiks"].bands) == set.union(*alone)
    assert set(reads["mosaiks"].bands) > set(planned("remoteclip").fetch.bands)


def test_alone_a_model_reads_what_it_needs() -> None:
    assert planned("dofa").fetch == planned("dofa", "galileo").fetch  # a series has nothing to share with a composite


@pytest.mark.parametrize(
    "how",
    [
        {"fetch": FetchSpec(scale_m=20)},
        {"backend": "stac"},
        {"temporal": TemporalSpec.year(2021)},
    ],
)
def test_models_beside_are_asked_in_the_same_way(how: dict[str, object]) -> None:
    assert planned("mosaiks", "dofa", **how).fetch == planned("dofa", "mosaiks", **how).fetch


def test_what_differs_is_not_shared() -> None:
    sensor = SensorSpec("COPERNICUS/S2_SR_HARMONIZED", ("B4", "B3", "B2"), cloudy_pct=5)
    ours = planned("remoteclip", "dofa", sensor=sensor)
    assert ours.fetch.bands == ("B4", "B3", "B2")
    assert planned("prithvi", "mosaiks").fetch == planned("prithvi").fetch  # at 30 m


def test_a_model_s_own_configuration_counts() -> None:
    single = Beside("galileo", (("temporal_mode", "single"),))
    ours = planned("remoteclip", single).fetch
    assert set(ours.bands) == set(planned("galileo").fetch.bands)
    assert ours == planned("galileo", "remoteclip", model_config=single.model_config).fetch


class Numbered:
    """A pixel says which band it is of."""

    name = "numbered"

    def fetch(self, read: FetchPlan) -> Chip:
        shape = (len(read.frames), len(read.bands), read.grid.height, read.grid.width)
        numbers = [100.0 * int(band.strip("BA")) + band.endswith("A") for band in read.bands]
        data = np.broadcast_to(np.array(numbers, np.float32)[:, None, None], shape).copy()
        return Chip(data, read.grid, read.bands, read.frames, self.name, read.collection)


@pytest.mark.parametrize("model", ["mosaiks", "dofa", "remoteclip"])
def test_each_model_gets_its_own_bands_in_its_own_order(model: str) -> None:
    alone, shared = planned(model), planned(model, "mosaiks", "dofa", "remoteclip")
    ours, theirs = fetch(shared, Numbered()), fetch(alone, Numbered())
    assert ours.bands == theirs.bands == recipe(alone.ask).bands
    np.testing.assert_array_equal(ours.data, theirs.data)
    first, second = prepare(ours, shared), prepare(theirs, alone)
    for name, array in first.samples[0].arrays.items():
        np.testing.assert_array_equal(array, second.samples[0].arrays[name])
    assert first.info.bands == second.info.bands


def test_an_unknown_neighbour_is_said() -> None:
    with pytest.raises(UnknownModel):
        planned("mosaiks", "no_such_model")


def test_json_round_trip() -> None:
    ask = Ask("mosaiks", beside=(Beside("dofa"), Beside("clay", (("variant", "large"),), "s2")))
    assert ask_from_dict(ask.to_dict()) == ask
    assert (
        beside_from(["dofa", {"model": "clay", "model_config": {"variant": "large"}, "modality": "s2"}]) == ask.beside
    )
    assert "beside" not in replace(ask, beside=()).to_dict()


@pytest.mark.parametrize(
    "value", ["dofa", 3, {"model": "dofa"}, [3], [{"modality": "s2"}], [{"model": "dofa", "x": 1}], [{"model": ""}]]
)
def test_what_is_no_list_of_models_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest, match="beside") as caught:
        ask_from_dict({"model": "mosaiks", "beside": value})
    assert isinstance(caught.value, RSEmbedError)
    assert "list of models" in str(caught.value.hint)


def test_neighbours_are_hashable() -> None:
    fields: Mapping[str, object] = {"model": "mosaiks", "beside": ["dofa"]}
    assert hash(ask_from_dict(fields)) == hash(ask_from_dict(fields))

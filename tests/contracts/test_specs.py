"""True of every spec, and of the public names."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import inspect
import json
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rs_embed_core
from rs_embed_core import BBox, FetchSpec, InputPrepSpec, OutputSpec, PointBuffer, SensorSpec, TemporalSpec
from rs_embed_core.errors import InvalidRequest
from rs_embed_core.specs.output import input_prep_from_dict, output_from_dict
from rs_embed_core.specs.request import Ask, ask_from_dict, model_config_from
from rs_embed_core.specs.sensor import fetch_from_dict, sensor_from_dict
from rs_embed_core.specs.spatial import spatial_from_dict
from rs_embed_core.specs.temporal import temporal_from_dict
from tests.contracts import spec_strategies as every

READERS: list[tuple[str, st.SearchStrategy, Callable[[object], object]]] = [
    ("BBox", every.boxes, spatial_from_dict),
    ("PointBuffer", every.points, spatial_from_dict),
    ("TemporalSpec.range", every.ranges, temporal_from_dict),
    ("TemporalSpec.year", every.years, temporal_from_dict),
    ("SensorSpec", every.sensors, sensor_from_dict),
    ("FetchSpec", every.fetches, fetch_from_dict),
    ("OutputSpec", every.outputs, output_from_dict),
    ("InputPrepSpec", every.input_preps, input_prep_from_dict),
    ("Ask", every.asks, ask_from_dict),
]
every_spec = pytest.mark.parametrize(
    ("specs", "read"), [(specs, read) for _, specs, read in READERS], ids=[name for name, _, _ in READERS]
)


@every_spec
@given(data=st.data())
def test_a_spec_is_a_value(specs, read, data):
    spec = data.draw(specs)
    assert read(json.loads(json.dumps(spec.to_dict()))) == spec
    for twin in (pickle.loads(pickle.dumps(spec)), copy.deepcopy(spec), dataclasses.replace(spec)):  # noqa: S301
        assert twin == spec
        assert hash(twin) == hash(spec)
        assert type(twin) is type(spec)
        assert repr(twin) == repr(spec)
    for field in dataclasses.fields(spec):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(spec, field.name, None)


@every_spec
@given(data=st.data())
def test_a_spec_reads_itself(specs, read, data):
    spec = data.draw(specs)
    if not isinstance(spec, Ask):
        assert read(spec) is spec
        assert spec.validate() is None


@pytest.mark.parametrize("text", ["resize", "tile", "auto"])
def test_input_prep_by_name(text):
    assert InputPrepSpec.of(text) == input_prep_from_dict(text) == getattr(InputPrepSpec, text)()
    assert InputPrepSpec.of(InputPrepSpec(text)) == InputPrepSpec(text)


def test_output_by_name():
    assert output_from_dict("grid") == OutputSpec.grid() == OutputSpec("grid")
    assert OutputSpec.pooled("max") == OutputSpec("pooled", "max")


def test_year_is_a_constructor_and_a_field():
    assert TemporalSpec.year(2022).year == 2022
    assert TemporalSpec.range("2022-06-01", "2022-09-01").year is None
    assert TemporalSpec.year(2022).start is None
    assert [day.isoformat() for day in TemporalSpec.year(2022).window] == ["2022-01-01", "2023-01-01"]
    assert [day.isoformat() for day in TemporalSpec.range("2022-06-01", "2022-09-01").window] == [
        "2022-06-01",
        "2022-09-01",
    ]


def test_numbers_of_either_kind_are_the_same_place():
    assert BBox(11, 48, 12, 49) == BBox(11.0, 48.0, 12.0, 49.0)
    assert hash(PointBuffer(11, 48, 100)) == hash(PointBuffer(11.0, 48.0, 100.0))


NUMBERS = [
    (lambda of: PointBuffer(of(11), of(48), of(320)), (np.int64, np.uint16, np.float32, np.float64)),
    (lambda of: BBox(of(11), of(48), of(12), of(49)), (np.int32, np.float16, np.float64)),
    (lambda of: TemporalSpec.year(of(2022)), (np.int64, np.int16)),
    (lambda of: SensorSpec("C", ("B4",), scale_m=of(10), cloudy_pct=of(30), fill_value=of(0)), (np.int64,)),
    (lambda of: FetchSpec(scale_m=of(20), fill_value=of(0)), (np.float32, np.int8)),
    (lambda of: InputPrepSpec("tile", of(64), of(9), of(99), 0.1), (np.int64,)),
    (lambda of: InputPrepSpec(tile_snap_frac=of(0.5)), (np.float32,)),
    (lambda of: Ask("dofa", model_config=model_config_from({"features": of(256)})), (np.int64,)),
    (lambda of: Ask("dofa", model_config=model_config_from({"bias": of(-1)})), (np.float32,)),
    (lambda of: SensorSpec("C", ("VV",), use_float_linear=of(1)), (np.bool_,)),
]


@pytest.mark.parametrize(("build", "kind"), [(build, kind) for build, kinds in NUMBERS for kind in kinds])
def test_numpy_s_numbers_are_as_good_as_python_s(build, kind):
    spec, same = build(kind), build(lambda number: kind(number).item())
    assert spec == same
    assert repr(spec) == repr(same)  # also the kind of number: an option knows 1 from 1.0
    assert json.dumps(spec.to_dict()) == json.dumps(same.to_dict())


REFUSED: list[tuple[str, Callable[[], object], str]] = [
    ("west of", lambda: BBox(12, 48, 11, 49), "antimeridian"),
    ("no height", lambda: BBox(11, 48, 12, 48), "height"),
    ("longitude", lambda: BBox(11, 48, 181, 49), "181"),
    ("swapped", lambda: PointBuffer(48.1, 95.0, 100), "swapped"),
    ("not finite", lambda: PointBuffer(float("nan"), 48, 100), "finite"),
    ("huge", lambda: PointBuffer(11, 48, 10**400), "finite"),
    ("no number", lambda: BBox("11", 48, 12, 49), "'11'"),
    ("true is no number", lambda: PointBuffer(True, 48, 100), "True"),
    ("true of numpy", lambda: PointBuffer(np.True_, 48, 100), "True"),
    ("nan of numpy", lambda: PointBuffer(np.float32("nan"), 48, 100), "finite"),
    ("no extent", lambda: PointBuffer(11, 48, 0), "above 0"),
    ("antimeridian", lambda: PointBuffer(179.99, 48, 5000), "180"),
    ("crs", lambda: BBox(11, 48, 12, 49, crs="EPSG:3857"), "EPSG:4326"),
    ("crs number", lambda: BBox(11, 48, 12, 49, crs=4326), "EPSG:4326"),
    ("spatial keys", lambda: spatial_from_dict({"lat": 1, "lon": 2}), "buffer_m"),
    ("spatial list", lambda: spatial_from_dict([1, 2, 3, 4]), "minlon"),
    ("year", lambda: TemporalSpec.year(1960), "1972"),
    ("year text", lambda: TemporalSpec.year("2022"), "whole number"),
    ("reversed", lambda: TemporalSpec.range("2022-09-01", "2022-06-01"), "half-open"),
    ("empty", lambda: TemporalSpec.range("2022-09-01", "2022-09-01"), "half-open"),
    ("no date", lambda: TemporalSpec.range("summer", "2022-09-01"), "ISO date"),
    ("both", lambda: TemporalSpec("year", year=2022, start="2022-01-01"), "either"),
    ("mode", lambda: TemporalSpec("month"), "range"),
    ("temporal keys", lambda: temporal_from_dict({"from": 1}), '"start"'),
    ("no bands", lambda: SensorSpec("C", ()), "at least one"),
    ("bands text", lambda: SensorSpec("C", "B4"), "list"),
    ("bands twice", lambda: SensorSpec("C", ("B4", "B4")), "once"),
    ("bands number", lambda: SensorSpec("C", 5), "bands is 5"),
    ("bands set", lambda: SensorSpec("C", {"B4"}), "list"),
    ("bands object", lambda: sensor_from_dict({"collection": "C", "bands": {"B4": 1}}), "list"),
    ("band list", lambda: SensorSpec("C", [["B4"]]), "name"),
    ("sensor modality", lambda: SensorSpec("C", ("B4",), modality=["s2"]), "modality is ['s2']"),
    ("no modality", lambda: SensorSpec("C", ("B4",), modality=""), "s2"),
    ("linear", lambda: SensorSpec("C", ("VV",), use_float_linear="no"), "use_float_linear is 'no'"),
    ("iw", lambda: SensorSpec("C", ("VV",), s1_require_iw=1), "s1_require_iw is 1"),
    ("relaxed iw", lambda: SensorSpec("C", ("VV",), s1_relax_iw_on_empty=None), "true or false"),
    ("no collection", lambda: SensorSpec("", ("B4",)), "COPERNICUS"),
    ("orbit", lambda: SensorSpec("C", ("VV",), orbit="up"), "ASCENDING"),
    ("scale", lambda: SensorSpec("C", ("B4",), scale_m=0), "scale_m"),
    ("cloud", lambda: FetchSpec(cloudy_pct=101), "0..100"),
    ("cloud part", lambda: FetchSpec(cloudy_pct=1.5), "whole"),
    ("fill", lambda: FetchSpec(fill_value=float("inf")), "finite"),
    ("composite", lambda: FetchSpec(composite="mean"), "median"),
    ("sensor keys", lambda: sensor_from_dict({"collection": "C", "bands": ["B4"], "scale": 10}), "scale_m"),
    ("sensor short", lambda: sensor_from_dict({"collection": "C"}), "required"),
    ("fetch keys", lambda: fetch_from_dict({"bands": ["B4"]}), "cloudy_pct"),
    ("output mode", lambda: OutputSpec("vector"), "OutputSpec.grid()"),
    ("pooling", lambda: OutputSpec.pooled("median"), "max"),
    ("orientation", lambda: OutputSpec.grid(grid_orientation="south_up"), "native"),
    ("output keys", lambda: output_from_dict({"kind": "grid"}), "mode"),
    ("prep mode", lambda: InputPrepSpec.of("crop"), "tile"),
    ("tile size", lambda: InputPrepSpec.tile(tile_size=0), "above 0"),
    ("tile size true", lambda: InputPrepSpec.tile(tile_size=True), "whole"),
    ("tiles text", lambda: input_prep_from_dict({"mode": "tile", "max_tiles": "a"}), "max_tiles_hard"),
    ("tiles part", lambda: InputPrepSpec.tile(max_tiles=2.5), "Whole"),
    ("tiles order", lambda: InputPrepSpec("tile", None, 2000), "max_tiles_hard"),
    ("snap", lambda: InputPrepSpec(tile_snap_frac=0.6), "0..0.5"),
    ("snap text", lambda: input_prep_from_dict({"mode": "tile", "tile_snap_frac": "a"}), "0..0.5"),
    ("sensor and fetch", lambda: Ask("dofa", sensor=SensorSpec("C", ("B4",)), fetch=FetchSpec()), "replaces"),
    ("no model", lambda: Ask(""), "model"),
    ("ask output", lambda: Ask("dofa", output="pooled"), "OutputSpec"),
    ("ask temporal", lambda: Ask("dofa", temporal="2022"), "TemporalSpec"),
    ("ask fetch", lambda: Ask("dofa", fetch={"scale_m": 10}), "FetchSpec"),
    ("ask modality", lambda: Ask("dofa", modality=2), "s2"),
    ("ask keys", lambda: ask_from_dict({"model": "dofa", "size": 3}), "model_config"),
    ("ask without model", lambda: ask_from_dict({}), "list_models"),
    ("config list", lambda: model_config_from(["variant"]), "object"),
    ("config nested", lambda: model_config_from({"variant": {"a": 1}}), "text, numbers"),
]


@pytest.mark.parametrize(("build", "says"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_spec_that_makes_no_sense_is_refused_when_built(build, says):
    with pytest.raises(InvalidRequest) as caught:
        build()
    assert caught.value.hint
    assert says in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=8), values, max_size=3),
    max_leaves=5,
)
NESTED = ("sensor", "fetch", "output", "input_prep", "temporal")
KINDS = dict(zip(NESTED, (SensorSpec, FetchSpec, OutputSpec, InputPrepSpec, TemporalSpec), strict=True))


@given(data=st.data())
def test_json_of_any_shape_is_read_or_refused(data):
    name = data.draw(st.sampled_from([field.name for field in dataclasses.fields(Ask)]))
    value = data.draw(JSON)
    if name in KINDS and data.draw(st.booleans()):
        known = [field.name for field in dataclasses.fields(KINDS[name])]
        given = data.draw(st.dictionaries(st.sampled_from(known), JSON, max_size=2))
        value = {"collection": "C", "bands": ["B4"], **given} if name == "sensor" else given
    with contextlib.suppress(InvalidRequest):  # and no other
        assert isinstance(ask_from_dict({"model": "dofa", name: value}), Ask)


# --- the public names --------------------------------------------------------------------------------------

_REQUIRED = inspect.Parameter.empty
_ASKED = {  # design.md, section 1
    "temporal": None,
    "sensor": None,
    "fetch": None,
    "model_config": None,
    "modality": None,
    "output": OutputSpec.pooled(),
    "backend": "auto",
    "device": "auto",
    "input_prep": "resize",
}
_GIVEN = {name: _ASKED[name] for name in ("modality", "model_config", "output", "device", "input_prep")}
SIGNATURES = {
    "get_embedding": (["model"], {"spatial": _REQUIRED, **_ASKED}),
    "get_embeddings_batch": (["model"], {"spatials": _REQUIRED, **_ASKED}),
    "get_embedding_from_data": (["model", "data"], _GIVEN),
    "get_embeddings_batch_from_data": (["model", "data"], _GIVEN),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_signature_is_fixed(name):
    positional, keywords = SIGNATURES[name]
    parameters = inspect.signature(getattr(rs_embed_core, name)).parameters
    assert list(parameters) == [*positional, *keywords]
    for key in positional:
        assert parameters[key].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        assert parameters[key].default is _REQUIRED
    for key, default in keywords.items():
        assert parameters[key].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[key].default == default


def test_user_data_is_built_as_designed():
    parameters = inspect.signature(rs_embed_core.UserData).parameters
    optional = ("spatial", "bands", "temporal", "scale_m", "crs", "transform")
    assert list(parameters) == ["data", "collection", *optional]
    assert all(parameters[name].default is None for name in optional)


def test_every_public_name_is_there():
    for name in rs_embed_core.__all__:
        value = getattr(rs_embed_core, name)
        assert value.__name__ == name
        assert value.__doc__
    assert dir(rs_embed_core) == sorted(rs_embed_core.__all__)
    with pytest.raises(AttributeError, match="get_embeding"):
        rs_embed_core.get_embeding  # noqa: B018


@pytest.mark.parametrize(
    ("value", "said"), [(float("nan"), "lon is nan"), (-float("inf"), "lon is -inf"), (10**400, "lon is too large")]
)
def test_a_number_that_is_none_is_said_as_it_is(value, said):
    with pytest.raises(InvalidRequest, match=said):
        PointBuffer(value, 1, 1)

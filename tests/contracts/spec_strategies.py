"""Every value that a spec takes, for Hypothesis."""

from __future__ import annotations

import datetime as dt

from hypothesis import strategies as st

from rs_embed_core import BBox, FetchSpec, InputPrepSpec, OutputSpec, PointBuffer, SensorSpec, TemporalSpec
from rs_embed_core.specs.request import Ask, model_config_from

_names = st.text(min_size=1, max_size=12)
_composites = st.sampled_from(["median", "mosaic"])
_clouds = st.none() | st.integers(0, 100)
_fills = st.floats(-1e30, 1e30)
_scales = st.floats(0.01, 1e6)


def _between(low: float, high: float) -> st.SearchStrategy[tuple[float, float]]:
    return st.tuples(st.floats(low, high), st.floats(low, high)).map(sorted).filter(lambda pair: pair[0] < pair[1])


boxes = st.builds(lambda xs, ys: BBox(xs[0], ys[0], xs[1], ys[1]), _between(-180, 180), _between(-90, 90))
points = st.builds(PointBuffer, st.floats(-179, 179), st.floats(-90, 90), st.floats(1e-3, 1e5))
ranges = st.builds(
    lambda start, days: TemporalSpec.range(start.isoformat(), (start + dt.timedelta(days)).isoformat()),
    st.dates(dt.date(1972, 1, 1), dt.date(2099, 1, 1)),
    st.integers(1, 4000),
)
years = st.integers(1972, 2100).map(TemporalSpec.year)
sensors = st.builds(
    SensorSpec,
    _names,
    st.lists(_names, min_size=1, max_size=5, unique=True).map(tuple),
    _scales,
    _clouds,
    _fills,
    _composites,
    st.none() | _names,
    st.sampled_from([None, "ASCENDING", "DESCENDING"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
fetches = st.builds(FetchSpec, st.none() | _scales, _clouds, st.none() | _fills, st.none() | _composites)
outputs = st.builds(
    OutputSpec,
    st.sampled_from(["pooled", "grid"]),
    st.sampled_from(["mean", "max"]),
    st.sampled_from(["north_up", "native"]),
)
input_preps = st.builds(
    InputPrepSpec,
    st.sampled_from(["resize", "tile", "auto"]),
    st.none() | st.integers(1, 4096),
    st.integers(1, 64),
    st.integers(64, 4096),
    st.floats(0, 0.5),
)
_values = _names | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
_common = {
    "model": _names,
    "temporal": st.none() | ranges | years,
    "model_config": st.dictionaries(_names, _values, max_size=3).map(model_config_from),
    "modality": st.none() | _names,
    "output": outputs,
    "input_prep": input_preps,
    "backend": _names,
}
asks = st.builds(Ask, sensor=st.none() | sensors, **_common) | st.builds(Ask, fetch=fetches, **_common)

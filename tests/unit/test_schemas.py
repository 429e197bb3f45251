"""A request body becomes a job, and a job a body."""

from __future__ import annotations

import json

import pytest

from rs_embed_core.errors import BatchTooLong, InvalidRequest, MalformedBody, UnsupportedMedia
from rs_embed_core.specs.output import InputPrepSpec, OutputSpec
from rs_embed_core.specs.request import Ask
from rs_embed_core.specs.sensor import FetchSpec, SensorSpec
from rs_embed_core.specs.spatial import BBox, PointBuffer
from rs_embed_core.specs.temporal import TemporalSpec
from serve_app.wire.rows import Job
from serve_app.wire.schemas import FIELDS, Limits, decode, decode_job, encode_job

POINT = {"lon": 11.5, "lat": 48.1, "buffer_m": 640}
LIMITS = Limits(max_rois=3, max_body_mb=0.001)


def _decode(fields: object, content_type: str | None = "application/json") -> Job:
    return decode(json.dumps(fields).encode(), content_type=content_type, limits=LIMITS)


def _pointers(error: InvalidRequest) -> list[str]:
    return [entry["pointer"] for entry in error.context["errors"]]


def test_one_roi():
    job = _decode({"model": "mosaiks", "spatial": POINT})
    assert job == Job(Ask("mosaiks"), (POINT,), single=True)


def test_many_rois_stay_as_they_came():
    job = _decode({"model": "mosaiks", "spatials": [POINT, {"lon": "east"}, 7]})
    assert job.spatials == (POINT, {"lon": "east"}, 7)
    assert not job.single


def test_everything_that_can_be_said():
    job = _decode(
        {
            "model": "galileo",
            "spatials": [POINT],
            "temporal": {"year": 2022},
            "fetch": {"scale_m": 20},
            "model_config": {"variant": "tiny"},
            "modality": "s2",
            "output": "grid",
            "input_prep": {"mode": "tile", "max_tiles": 4},
            "backend": "synthetic",
            "ordered": True,
            "timeout_s": 30,
            "dtype": "float16",
        }
    )
    assert job.ask == Ask(
        "galileo",
        temporal=TemporalSpec.year(2022),
        fetch=FetchSpec(scale_m=20),
        model_config=(("variant", "tiny"),),
        modality="s2",
        output=OutputSpec.grid(),
        input_prep=InputPrepSpec.tile(max_tiles=4),
        backend="synthetic",
    )
    assert (job.ordered, job.timeout_s, job.dtype) == (True, 30.0, "float16")


def test_null_means_not_given():
    nulls = dict.fromkeys(FIELDS)
    assert _decode(nulls | {"model": "mosaiks", "spatial": POINT}) == _decode({"model": "mosaiks", "spatial": POINT})


@pytest.mark.parametrize(
    "job",
    [
        Job(Ask("mosaiks"), (PointBuffer(1, 2, 3),), single=True),
        Job(Ask("mosaiks"), (PointBuffer(1, 2, 3), BBox(0, 0, 1, 1)), ordered=True, timeout_s=5.0),
        Job(
            Ask(
                "dofa",
                temporal=TemporalSpec.range("2022-06-01", "2022-09-01"),
                sensor=SensorSpec("COPERNICUS/S2_SR_HARMONIZED", ("B4", "B3"), orbit="ASCENDING"),
                model_config=(("flag", True), ("size", 1.5)),
                output=OutputSpec.pooled("max"),
                input_prep=InputPrepSpec.auto(tile_size=64),
            ),
            (POINT,),
            dtype="float16",
        ),
    ],
)
def test_a_job_survives_the_wire(job):
    body = encode_job(job)
    back = _decode(body)
    assert encode_job(back) == body
    assert (back.ask, back.single, back.ordered, back.timeout_s, back.dtype) == (
        (job.ask, job.single, job.ordered, job.timeout_s, job.dtype)
    )


def test_a_handles_caller_may_give_specs():
    job = decode_job({"model": "mosaiks", "spatials": (BBox(0, 0, 1, 1),), "output": OutputSpec.grid()}, limits=LIMITS)
    assert job.ask.output.mode == "grid"
    assert job.spatials == (BBox(0, 0, 1, 1),)


@pytest.mark.parametrize("body", [b"", b"{", b"[1, 2", b"\xff\xfe", b"{'model': 1}", b'{"timeout_s": NaN}', b"[" * 500])
def test_a_body_that_is_not_json(body):
    with pytest.raises(MalformedBody, match="not JSON"):
        decode(body, content_type="application/json", limits=LIMITS)


@pytest.mark.parametrize(
    ("body", "said"), [([], "an array"), ("x", "text"), (3, "a number"), (None, "null"), (True, "a boolean")]
)
def test_a_body_that_is_no_object(body, said):
    with pytest.raises(MalformedBody, match=said):
        _decode(body)


@pytest.mark.parametrize(
    "content_type", [None, "application/json", "Application/JSON; charset=utf-8", "application/geo+json"]
)
def test_declared_as_json(content_type):
    assert _decode({"model": "mosaiks", "spatial": POINT}, content_type).single


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "", "jsonish", "image/svg+json"]
)
def test_declared_as_something_else(content_type):
    with pytest.raises(UnsupportedMedia) as caught:
        _decode({"model": "mosaiks", "spatial": POINT}, content_type)
    assert "application/json" in str(caught.value)


@pytest.mark.parametrize("spatials", [{}, {"spatial": POINT, "spatials": [POINT]}])
def test_one_of_spatial_and_spatials(spatials):
    with pytest.raises(InvalidRequest, match="spatial"):
        _decode({"model": "mosaiks"} | spatials)


@pytest.mark.parametrize("value", [[], {}, "x", 3])
def test_spatials_is_a_list_with_something_in_it(value):
    with pytest.raises(InvalidRequest) as caught:
        _decode({"model": "mosaiks", "spatials": value})
    assert _pointers(caught.value) == ["/spatials"]


def test_too_many_rois():
    with pytest.raises(BatchTooLong) as caught:
        _decode({"model": "mosaiks", "spatials": [POINT] * 4})
    assert caught.value.context == {"max_rois": 3, "rois": 4}


def test_too_many_bytes():
    with pytest.raises(BatchTooLong, match=r"0\.001 MB"):
        _decode({"model": "m" * 1000, "spatial": POINT})


def test_unknown_fields_are_named_with_the_known_ones():
    with pytest.raises(InvalidRequest) as caught:
        _decode({"model": "mosaiks", "spatial": POINT, "inputprep": "tile", "a/b~c": 1})
    assert "Did you mean input_prep?" in str(caught.value)
    assert "timeout_s" in str(caught.value)
    assert _pointers(caught.value) == ["/inputprep", "/a~1b~0c"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", 3), ("model", ""), ("temporal", "2022"), ("temporal", {"year": "2022"}), ("temporal", {}),
        ("sensor", {"collection": "X"}), ("sensor", {"collection": "X", "bands": 5}), ("fetch", {"scale": 1}),
        ("fetch", {"scale_m": -1}), ("model_config", []), ("model_config", {"a": []}), ("modality", 2),
        ("output", "vector"), ("output", 1), ("output", {"pooling": ["mean"]}), ("input_prep", "cut"),
        ("input_prep", {"tile_size": "big"}), ("input_prep", {"max_tiles": None}), ("backend", 0),
        ("ordered", 1), ("ordered", "yes"), ("timeout_s", 0), ("timeout_s", -1), ("timeout_s", "1"),
        ("timeout_s", True), ("timeout_s", 1e9), ("dtype", "float64"), ("dtype", []),
    ],
)  # fmt: skip
def test_a_wrong_value_is_pointed_at(field, value):
    with pytest.raises(InvalidRequest) as caught:
        _decode({"model": "mosaiks", "spatial": POINT, field: value})
    assert _pointers(caught.value) == [f"/{field}"]
    assert caught.value.hint


def test_all_wrong_specs_are_pointed_at():
    with pytest.raises(InvalidRequest) as caught:
        _decode({"spatial": POINT, "output": "vector", "temporal": 3})
    assert sorted(_pointers(caught.value)) == ["/model", "/output", "/temporal"]


def test_sensor_and_fetch_exclude_each_other():
    fields = {"sensor": {"collection": "X", "bands": ["B1"]}, "fetch": {"scale_m": 5}}
    with pytest.raises(InvalidRequest, match="both") as caught:
        _decode({"model": "mosaiks", "spatial": POINT} | fields)
    assert _pointers(caught.value) == [""]


def test_long_values_are_cut_in_messages():
    with pytest.raises(InvalidRequest) as caught:
        _decode({"model": "mosaiks", "spatial": POINT, "dtype": "x" * 500})
    assert len(str(caught.value)) < 200

"""The OpenAPI description of ``POST /v1/embeddings``: schemas, made from the specs, and examples."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from rs_embed_core.errors import JSONValue
from rs_embed_core.specs.output import InputPrepSpec, OutputSpec
from rs_embed_core.specs.sensor import FetchSpec, SensorSpec
from rs_embed_core.specs.spatial import BBox, PointBuffer
from serve_app.wire.codecs import ARROW, JSON, NDJSON
from serve_app.wire.problems import PROBLEM_JSON
from serve_app.wire.schemas import LONGEST_TIMEOUT_S, Limits

type Schema = dict[str, JSONValue]

DESCRIPTION = "Earth embeddings: many models, one interface. Errors are RFC 9457 problems, explained at /problems."

EXAMPLES: dict[str, Schema] = {
    "one": {
        "summary": "One point, one vector",
        "value": {
            "model": "mosaiks",
            "spatial": {"lon": 11.58, "lat": 48.14, "buffer_m": 640},
            "temporal": {"start": "2022-06-01", "end": "2022-09-01"},
        },
    },
    "many": {
        "summary": "Two places, half precision, in order",
        "value": {
            "model": "mosaiks",
            "spatials": [
                {"lon": 11.58, "lat": 48.14, "buffer_m": 640},
                {"minlon": 8.50, "minlat": 47.35, "maxlon": 8.52, "maxlat": 47.37},
            ],
            "temporal": {"year": 2022},
            "output": {"mode": "pooled", "pooling": "max"},
            "dtype": "float16",
            "ordered": True,
            "timeout_s": 120,
        },
    },
    "grid": {
        "summary": "A georeferenced field of vectors from other imagery",
        "value": {
            "model": "mosaiks",
            "spatial": {"minlon": 8.50, "minlat": 47.35, "maxlon": 8.52, "maxlat": 47.37},
            "output": "grid",
            "input_prep": {"mode": "tile", "max_tiles": 16},
            "fetch": {"scale_m": 20, "cloudy_pct": 10},
            "backend": "auto",
        },
    },
}


def request_body(limits: Limits) -> dict[str, Any]:  # Any: FastAPI's own type for OpenAPI fragments
    """The ``requestBody`` of the operation."""
    return {
        "required": True,
        "content": {"application/json": {"schema": request_schema(limits), "examples": EXAMPLES}},
    }


def request_schema(limits: Limits) -> Schema:
    """The JSON schema of a request; a test holds it to what ``decode`` takes."""
    roi: Schema = {
        "oneOf": [_spec(BBox), _spec(PointBuffer)],
        "description": "Degrees and metres, EPSG:4326.",
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["model"],
        "oneOf": [{"required": ["spatial"]}, {"required": ["spatials"]}],
        "properties": {
            "model": _text("Model id or alias; GET /v1/models lists them."),
            "spatial": roi,
            "spatials": {
                "type": "array",
                "items": roi,
                "minItems": 1,
                "maxItems": limits.max_rois,
                "description": "Many ROIs; a bad one becomes a problem at its index.",
            },
            **_question(),
            **_delivery(),
        },
    }


def _question() -> Schema:
    """The fields that say what is wanted of every ROI."""
    return {
        "temporal": _TEMPORAL,
        "sensor": _spec(SensorSpec, "Other imagery than the model's own; not together with fetch."),
        "fetch": _spec(FetchSpec, "Changes to the model's own imagery."),
        "model_config": _CONFIG,
        "modality": _MODALITY,
        "output": _named(["pooled", "grid"], OutputSpec, "One vector, or a field of them."),
        "input_prep": _named(
            ["resize", "tile", "auto"],
            InputPrepSpec,
            "What becomes of an ROI larger than the model's input.",
        ),
        "backend": _text("Where imagery comes from.") | {"default": "auto"},
        "beside": {
            "type": "array",
            "items": {"oneOf": [_text("Model id or alias."), _BESIDE]},
            "description": "Models asked of the same ROIs in requests of their own, at the same time: what they "
            "need of the same imagery is read along, once for all.",
        },
    }


def _delivery() -> Schema:
    """The fields that say how the answer comes."""
    return {
        "ordered": {
            "type": "boolean",
            "default": False,
            "description": "Rows in the order of spatials rather than as they complete.",
        },
        "timeout_s": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": LONGEST_TIMEOUT_S,
            "description": "Deadline of the whole request; what is not done by then becomes problems.",
        },
        "dtype": {
            "enum": ["float32", "float16"],
            "default": "float32",
            "description": "Of the numbers on the wire.",
        },
    }


_TEMPORAL: Schema = {
    "description": "A year, or a half-open window of ISO dates; without it the model's default window.",
    "oneOf": [
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["year"],
            "properties": {"year": {"type": "integer", "minimum": 1972, "maximum": 2100}},
        },
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["start", "end"],
            "properties": {
                "start": {"type": "string", "format": "date"},
                "end": {"type": "string", "format": "date"},
            },
        },
    ],
}


def _text(description: str) -> Schema:
    return {"type": "string", "minLength": 1, "description": description}


_CONFIG: Schema = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number", "boolean"]},
    "description": "variant, and what GET /v1/models/{id} declares.",
}
_MODALITY = _text("One of the model's modalities, such as s2.")
_BESIDE: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["model"],
    "properties": {"model": _text("Model id or alias."), "model_config": _CONFIG, "modality": _MODALITY},
}


def _spec(spec: type[object], description: str | None = None) -> Schema:
    """The schema of a spec's dataclass."""
    schema: Schema = TypeAdapter(spec).json_schema() | {"additionalProperties": False}
    schema.pop("description", None)  # the docstring, for programmers
    return schema if description is None else schema | {"description": description}


def _named(names: list[JSONValue], spec: type[object], description: str) -> Schema:
    return {"oneOf": [{"enum": names}, _spec(spec)], "description": description}


_PROBLEM: Schema = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457.",
    "required": ["type", "title", "status", "detail", "code", "retryable"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "description": "The page that explains it."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What was wrong, with the value."},
        "instance": {"type": "string", "description": "The request id."},
        "code": {"type": "string", "description": "Stable name for programs."},
        "error": {"type": "string", "description": "Class that the Python client raises."},
        "hint": {"type": "string", "description": "What would be right."},
        "retryable": {"type": "boolean", "description": "Whether the same request may succeed later."},
        "context": {"type": "object", "description": "The values concerned."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
            "description": "JSON pointers into the request.",
        },
    },
}

# Any: FastAPI's own type for OpenAPI fragments.
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {"description": "A problem.", "content": {PROBLEM_JSON: {"schema": _PROBLEM}}},
}

_NUMBERS: Schema = {"type": "array", "description": "(D), or nested (D, h, w) for a grid."}
_RESULT: Schema = {
    "type": "object",
    "properties": {
        "index": {"type": "integer", "description": "Position in spatials; not with a single ROI."},
        "embedding": _NUMBERS,
        "meta": {"type": "object", "description": "Provenance."},
        "problem": _PROBLEM,
    },
}
_SUMMARY: Schema = {
    "type": "object",
    "properties": {
        "status": {"const": "complete"},
        "rows": {"type": "integer"},
        "problems": {"type": "integer"},
    },
}
_DOCUMENT: Schema = {
    "type": "object",
    "properties": {"embeddings": {"type": "array", "items": _RESULT}, "summary": _SUMMARY},
}

EMBEDDINGS_RESPONSES: dict[int | str, dict[str, Any]] = {  # Any: as PROBLEM_RESPONSES
    200: {
        "description": "One object for `spatial`, a document for `spatials`.",
        "content": {
            JSON: {"schema": {"oneOf": [_RESULT, _DOCUMENT]}},
            NDJSON: {"schema": {"type": "string", "description": "One object per line, last the summary."}},
            ARROW: {
                "schema": {"type": "string", "format": "binary"},
            },
        },
    },
    **PROBLEM_RESPONSES,
}

"""Stage request: a request body becomes a ``Job``, and a ``Job`` a body."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic_core import from_json

from rs_embed_core.errors import (
    BatchTooLong,
    InvalidRequest,
    JSONValue,
    MalformedBody,
    SpecError,
    UnsupportedMedia,
)
from rs_embed_core.specs.request import ASK_FIELDS, Ask, ask_from_dict
from rs_embed_core.specs.spatial import BBox, PointBuffer
from serve_app.wire.rows import Job

JOB_FIELDS = ("spatial", "spatials", "ordered", "timeout_s", "dtype")
FIELDS = (*ASK_FIELDS, *JOB_FIELDS)
LONGEST_TIMEOUT_S = 86_400.0  # a day: beyond it a caller wants several requests

type Dtype = Literal["float32", "float16"]


@dataclass(frozen=True)
class Limits:
    """What one request may bring.

    Attributes:
        max_rois: ROIs per request.
        max_body_mb: size of the body, in 10^6 bytes.
    """

    max_rois: int
    max_body_mb: float

    @property
    def max_body_bytes(self) -> int:
        """The size of the body in bytes."""
        return int(self.max_body_mb * 1e6)


def decode(body: bytes, *, content_type: str | None, limits: Limits) -> Job:
    """The ``Job`` that a request body describes; its ROIs stay as they came.

    Raises:
        UnsupportedMedia: the body is not declared as JSON.
        MalformedBody: it is not JSON, or not an object.
        BatchTooLong: too many ROIs, or too many bytes.
        InvalidRequest: an unknown field, or a value that its spec refuses; ``context["errors"]`` has a JSON
            pointer to each of them.
    """
    _check_media(content_type)
    if len(body) > limits.max_body_bytes:
        raise body_too_large(limits)
    return decode_job(_parse(body), limits=limits)


def decode_job(request: Mapping[str, object], *, limits: Limits) -> Job:
    """The ``Job`` that the fields of a body describe; a handle's caller may give specs as their values.

    Raises:
        BatchTooLong: too many ROIs.
        InvalidRequest: as ``decode``.
    """
    fields = {name: value for name, value in request.items() if value is not None}
    if unknown := [name for name in fields if name not in FIELDS]:
        raise _unknown_fields(unknown)
    spatials, single = _spatials(fields, limits)
    return Job(
        ask=_ask({name: fields[name] for name in ASK_FIELDS if name in fields}),
        spatials=spatials,
        single=single,
        ordered=_ordered(fields.get("ordered", False)),
        timeout_s=_timeout(fields.get("timeout_s")),
        dtype=_dtype(fields.get("dtype", "float32")),
    )


def encode_job(job: Job) -> dict[str, JSONValue]:
    """The JSON fields of a request body, defaults left out; ``decode`` reads it back."""
    body: dict[str, JSONValue] = job.ask.to_dict()
    spatials = [_spatial_json(spatial) for spatial in job.spatials]
    if job.single:
        body["spatial"] = spatials[0]
    else:
        body["spatials"] = spatials
    if job.ordered:
        body["ordered"] = True
    if job.timeout_s is not None:
        body["timeout_s"] = job.timeout_s
    if job.dtype != "float32":
        body["dtype"] = job.dtype
    return body


def body_too_large(limits: Limits) -> BatchTooLong:
    """The error of a body over the limit (also raised before all of it has been read)."""
    msg = f"the body has more than {limits.max_body_mb:g} MB."
    hint = f"Send at most {limits.max_rois} ROIs per request, in several requests."
    return BatchTooLong(msg, hint=hint, context={"max_body_mb": limits.max_body_mb})


def _check_media(content_type: str | None) -> None:
    if content_type is None:  # a body without a type may be guessed (RFC 9110, 8.3); JSON is all we speak
        return
    media = content_type.partition(";")[0].strip().lower()
    if media == "application/json" or (media.startswith("application/") and media.endswith("+json")):
        return
    msg = f"the body is declared as {media or 'nothing'!r}."
    hint = "Send JSON with the header Content-Type: application/json (curl: -H or --json)."
    raise UnsupportedMedia(msg, hint=hint, context={"content_type": content_type})


def _parse(body: bytes) -> dict[str, JSONValue]:
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        msg = f"the body is not JSON: {error}."
        raise MalformedBody(msg, hint="Send one JSON object, UTF-8.") from error
    if not isinstance(value, dict):
        msg = f"the body is {_json_type(value)}."
        raise MalformedBody(msg, hint='Send one JSON object: {"model": ..., "spatial": {...}}.')
    return value


def _json_type(value: object) -> str:
    names = {list: "an array", str: "text", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def _unknown_fields(unknown: list[str]) -> InvalidRequest:
    near = [match for name in unknown for match in difflib.get_close_matches(name, FIELDS, n=1)]
    guess = f"Did you mean {' or '.join(near)}? " if near else ""
    msg = f"unknown fields {', '.join(map(repr, unknown))}."
    errors: list[JSONValue] = [{"pointer": _pointer(name), "detail": "unknown field."} for name in unknown]
    hint = f"{guess}Known fields are {', '.join(FIELDS)}."
    return InvalidRequest(msg, hint=hint, context={"errors": errors})


def _pointer(name: str) -> str:
    return "/" + name.replace("~", "~0").replace("/", "~1")  # RFC 6901


def _wrong(name: str, message: str, hint: str) -> InvalidRequest:
    return InvalidRequest(message, hint=hint, context={"errors": [{"pointer": _pointer(name), "detail": message}]})


def _spatials(fields: Mapping[str, object], limits: Limits) -> tuple[tuple[object, ...], bool]:
    if ("spatial" in fields) == ("spatials" in fields):
        found = "both spatial and spatials are" if "spatial" in fields else "neither spatial nor spatials is"
        msg = f"{found} given."
        raise _wrong("spatials", msg, "Give spatial (one ROI) or spatials (a list of them).")
    if "spatial" in fields:
        return (fields["spatial"],), True
    value = fields["spatials"]
    if not isinstance(value, list | tuple) or not value:
        empty = isinstance(value, list | tuple)
        msg = "spatials is empty." if empty else f"spatials is {_brief(value)}, not a list."
        raise _wrong("spatials", msg, "Give at least one ROI.")
    if len(value) > limits.max_rois:
        msg = f"spatials has {len(value)} ROIs; one request may have {limits.max_rois}."
        context: dict[str, JSONValue] = {"max_rois": limits.max_rois, "rois": len(value)}
        raise BatchTooLong(msg, hint="Send them in several requests.", context=context)
    return tuple(value), False


def _ask(fields: Mapping[str, object]) -> Ask:
    try:
        return ask_from_dict(fields)
    except SpecError as error:
        error.context["errors"] = _culprits(fields) or [{"pointer": "", "detail": error.message}]
        raise
    except (TypeError, ValueError, OverflowError) as error:
        # A spec compared or counted a value of a JSON type that it does not expect.
        culprits = _culprits(fields)
        msg = "a field has a value of the wrong type."
        hint = "/openapi.json has the schema of every field."
        raise InvalidRequest(msg, hint=hint, context={"errors": culprits}) from error


def _culprits(fields: Mapping[str, object]) -> list[JSONValue]:
    """Every field that is wrong by itself, so that one answer lists them all."""
    found: list[JSONValue] = []
    for name, value in fields.items():
        try:
            ask_from_dict({"model": "any", name: value})
        except SpecError as error:
            found.append({"pointer": _pointer(name), "detail": error.message})
        except (TypeError, ValueError, OverflowError):
            found.append({"pointer": _pointer(name), "detail": f"{name} is {_brief(value)}."})
    if "model" not in fields:
        found.append({"pointer": "/model", "detail": "model is missing."})
    return found


def _ordered(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise _wrong("ordered", f"ordered is {_brief(value)}.", "ordered is true or false.")


def _timeout(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, bool) and isinstance(value, int | float) and 0 < value <= LONGEST_TIMEOUT_S:
        return float(value)
    hint = f"timeout_s is seconds from the request's arrival: above 0, at most {LONGEST_TIMEOUT_S:g}."
    raise _wrong("timeout_s", f"timeout_s is {_brief(value)}.", hint)


def _dtype(value: object) -> Dtype:
    if value == "float32":
        return "float32"
    if value == "float16":
        return "float16"
    raise _wrong("dtype", f"dtype is {_brief(value)}.", "dtype is float32 or float16.")


def _brief(value: object) -> str:
    """A value for a message, cut: a caller's mistake may be megabytes long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _spatial_json(spatial: object) -> JSONValue:
    if isinstance(spatial, BBox | PointBuffer):
        return spatial.to_dict()
    json: JSONValue = spatial  # type: ignore[assignment]  # a job holds specs or the JSON it was decoded from
    return json

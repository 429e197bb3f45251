"""Errors as RFC 9457 problems and back: class to status in one table; the client raises the same class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pydantic_core import to_json

from rs_embed_core import errors as e
from rs_embed_core.errors import JSONValue, RSEmbedError, error_classes

PROBLEM_JSON = "application/problem+json"


class Entry(NamedTuple):
    """What HTTP says about a class: status, the fixed title, and what a reader of its page should do."""

    status: int
    title: str
    advice: str


_TABLE: dict[type[RSEmbedError], Entry] = {
    RSEmbedError: Entry(
        500,
        "Internal error",
        "Report it with the request id (`instance`): the service's log has the details.",
    ),
    e.SpecError: Entry(422, "Invalid specification", "Correct the field that `detail` names."),
    e.InvalidRequest: Entry(
        422, "Invalid request", "Correct the fields that `errors` points at; `hint` says what would be right."
    ),
    e.MalformedBody: Entry(400, "Malformed body", "Send one JSON object, UTF-8, without NaN or trailing commas."),
    e.UnsupportedMedia: Entry(
        415,
        "Unsupported media type",
        "Send `Content-Type: application/json`, and accept application/vnd.apache.arrow.stream, "
        "application/json or application/x-ndjson.",
    ),
    e.RoiTooLarge: Entry(
        413, "ROI too large", "Ask for a smaller ROI, a coarser `scale_m`, or split it and merge the results."
    ),
    e.BatchTooLong: Entry(
        413, "Request too large", "Send fewer ROIs per request; the Python client splits and joins by itself."
    ),
    e.ModelError: Entry(422, "The model cannot do this", "`GET /v1/models/{id}` says what the model accepts."),
    e.UnknownModel: Entry(404, "Unknown model", "`GET /v1/models` lists ids and aliases."),
    e.UnknownOption: Entry(
        422, "Unknown option", "`GET /v1/models/{id}` has the schema of `model_config` and the modalities."
    ),
    e.Unsupported: Entry(
        422, "Not supported by this model", "Choose another model, or what `hint` offers for this one."
    ),
    e.InvalidInput: Entry(
        422, "Invalid input pixels", "Give raw sensor values in the band order that the model's page lists."
    ),
    e.CheckpointError: Entry(
        503,
        "Weights not available",
        "Ask the operator to provide the file that `detail` names; the service's other models keep working.",
    ),
    e.ForwardError: Entry(
        500, "The model failed", "Send the request again without this ROI and report the request id."
    ),
    e.OutOfMemory: Entry(
        500,
        "Out of device memory",
        "Use `input_prep: tile`, fewer frames, or a smaller variant of the model.",
    ),
    e.ProviderError: Entry(502, "The imagery provider failed", "Send the request again later."),
    e.UnknownProvider: Entry(422, "Unknown backend", "Use `auto`, or one of the backends that `hint` lists."),
    e.NoImagery: Entry(
        404,
        "No imagery",
        "Widen `temporal`, raise `cloudy_pct`, or ask for a place that the collection covers.",
    ),
    e.ProviderQuota: Entry(
        503, "Provider quota spent", "Wait before sending again, or ask the operator for more quota."
    ),
    e.ProviderAuth: Entry(503, "Provider refused access", "Ask the operator to renew the provider's credentials."),
    e.ProviderTimeout: Entry(504, "Provider too slow", "Send the request again."),
    e.DeadlineExceeded: Entry(
        504, "Deadline exceeded", "Raise `timeout_s` or send fewer ROIs; what was done before it is kept."
    ),
    e.Overloaded: Entry(429, "Too many requests", "Send again after the seconds in `Retry-After`."),
    e.Unavailable: Entry(503, "Not available", "Send again later; `GET /readyz` says which models are up and why not."),
    e.IncompleteStream: Entry(502, "Result stream cut off", "Send again the ROIs whose rows did not arrive."),
}

# Answers that a proxy, and not this service, gave: they have a status and no code.
_BY_STATUS: dict[int, type[RSEmbedError]] = {
    400: e.MalformedBody,
    406: e.UnsupportedMedia,
    408: e.DeadlineExceeded,
    413: e.BatchTooLong,
    415: e.UnsupportedMedia,
    422: e.InvalidRequest,
    429: e.Overloaded,
    502: e.Unavailable,
    503: e.Unavailable,
    504: e.DeadlineExceeded,
}


def entry_of(cls: type[RSEmbedError]) -> Entry:
    """The table's row of a class: its own or its nearest parent's."""
    return next(_TABLE[parent] for parent in cls.__mro__ if parent in _TABLE)


def status_of(error: RSEmbedError) -> int:
    """The HTTP status of an error."""
    return entry_of(type(error)).status


def to_problem(
    error: RSEmbedError,
    *,
    instance: str | None = None,
    pointer: str | None = None,
    status: int | None = None,
) -> dict[str, JSONValue]:
    """The RFC 9457 object of an error, with its class under ``error`` for ``from_problem``.

    ``type`` names the page of the class; ``code`` may be finer. ``errors`` lists JSON pointers into the
    request's body: what the error's context has under ``errors``, else ``pointer``.

    Args:
        error: what happened.
        instance: the request id.
        pointer: the part of the body that the error is about, such as ``/spatials/3``.
        status: instead of the table's (406 and 415 share a class).
    """
    entry = entry_of(type(error))
    context = dict(error.context)
    pointers = context.pop("errors", None)
    if pointers is None and pointer is not None:
        pointers = [{"pointer": pointer, "detail": error.message}]
    problem: dict[str, JSONValue] = {
        "type": f"/problems/{type(error).default_code}",
        "title": entry.title,
        "status": status or entry.status,
        "detail": error.message,
        "code": error.code,
        "error": type(error).__name__,
        "retryable": error.retryable,
    }
    optional = {"instance": instance, "hint": error.hint, "context": context or None, "errors": pointers}
    return problem | {key: value for key, value in optional.items() if value is not None}


def problem_json(problem: Mapping[str, JSONValue]) -> bytes:
    """A problem as JSON text; never fails, whatever an error's context holds."""
    return to_json(dict(problem), inf_nan_mode="null", fallback=str)


def from_problem(problem: Mapping[str, JSONValue]) -> RSEmbedError:
    """The error that a problem describes: its class by name, else by code, else the root.

    An answer without a code did not come from this service (a proxy's 503, say): its status decides. Never
    raises: what is missing or of another type is left out.
    """
    code, context, errors = _text(problem, "code"), problem.get("context"), problem.get("errors")
    facts = dict(context) if isinstance(context, dict) else {}
    if isinstance(errors, list):
        facts["errors"] = errors
    retryable = problem.get("retryable")
    message = _text(problem, "detail") or _text(problem, "title") or "the service gave no reason."
    return _class_of(problem, code)(
        message,
        code=code,
        hint=_text(problem, "hint"),
        retryable=retryable if isinstance(retryable, bool) else None,
        context=facts,
    )


def _class_of(problem: Mapping[str, JSONValue], code: str | None) -> type[RSEmbedError]:
    name = problem.get("error")
    classes = list(error_classes())  # each time: subclasses may have been defined since
    for cls in classes:
        if cls.__name__ == name:
            return cls
    for cls in classes:
        if cls.default_code == code:
            return cls
    status = problem.get("status")
    return _BY_STATUS.get(status, RSEmbedError) if code is None and isinstance(status, int) else RSEmbedError


def _text(problem: Mapping[str, JSONValue], key: str) -> str | None:
    value = problem.get(key)
    return value if isinstance(value, str) and value else None


def unexpected(exc: BaseException) -> RSEmbedError:
    """The error that stands for any other exception: it tells nothing of the service's inside.

    Log ``exc`` where this is called; the caller only learns that it is not their fault.
    """
    retryable = isinstance(exc, ConnectionError | TimeoutError)
    hint = "The service's log has the details under the request id."
    return RSEmbedError("something unexpected went wrong in the service.", hint=hint, retryable=retryable)


_ROOT_MEANING = "The service failed in a way that it has no name for."  # the docstring is for programmers


class Page(NamedTuple):
    """What the page of one problem says."""

    code: str
    name: str
    status: int
    title: str
    meaning: str
    advice: str
    retryable: bool
    parent: str | None


def problem_pages() -> dict[str, Page]:
    """The pages by code, one per class of the tree."""
    pages: dict[str, Page] = {}
    for cls in error_classes():
        if cls.default_code in pages:  # a subclass without a code of its own shares its parent's page
            continue
        entry, parent = entry_of(cls), cls.__mro__[1]
        pages[cls.default_code] = Page(
            code=cls.default_code,
            name=cls.__name__,
            status=entry.status,
            title=entry.title,
            meaning=_ROOT_MEANING if cls is RSEmbedError else (cls.__doc__ or entry.title).splitlines()[0],
            advice=entry.advice,
            retryable=cls.default_retryable,
            parent=parent.default_code if issubclass(parent, RSEmbedError) else None,
        )
    return pages

"""What a call means, pure: its requests, what arrived of them, and whether to ask again. No I/O here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

from rs_embed_core.embedding import Embedding
from rs_embed_core.errors import (
    IncompleteStream,
    InvalidRequest,
    JSONValue,
    RSEmbedError,
    Unavailable,
    Unsupported,
)
from rs_embed_core.specs.output import InputPrepSpec, OutputSpec
from rs_embed_core.specs.request import Ask, Beside, OptionValue, ask_from_dict, beside_from
from rs_embed_core.specs.sensor import FetchSpec, SensorSpec
from rs_embed_core.specs.spatial import Spatial, spatial_from_dict
from rs_embed_core.specs.temporal import TemporalSpec
from serve_app.wire.codecs import to_embedding
from serve_app.wire.problems import from_problem
from serve_app.wire.rows import Job, Row

_FRUITLESS_TRIES = 4  # in 2 s: the address may be wrong
_PATIENT_TRIES = 14  # in half a minute: a service that has answered is back by then, whatever process died
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 3.0
type Place = Spatial | Mapping[str, JSONValue]
"""An ROI: a spec, or its JSON object."""

RETRY_AFTER = "retry_after_s"  # in an error's context: how long the service asked to wait


@dataclass(frozen=True, eq=False)
class StreamItem:
    """The one outcome of one ROI: its embedding or its error.

    Attributes:
        index: position in ``spatials``.
    """

    index: int
    embedding: Embedding | None = None
    error: RSEmbedError | None = None


@dataclass(frozen=True)
class Splitting:
    """How a long batch becomes requests.

    Attributes:
        rois: most ROIs of one request.
        in_flight: requests under way at once.
    """

    rois: int = 1024
    in_flight: int = 2

    def __post_init__(self) -> None:
        if self.rois < 1 or self.in_flight < 1:
            msg = f"the client was given {self}."
            raise InvalidRequest(msg, hint="Both are at least 1.")


@dataclass(frozen=True)
class Call:
    """What the caller asked, checked."""

    ask: Ask
    spatials: tuple[Spatial, ...]
    ordered: bool = False

    def split(self, rois: int) -> list[Part]:
        """The requests of the call, in order."""
        starts, contact = range(0, len(self.spatials), rois), Contact()
        return [Part(self, range(start, min(start + rois, len(self.spatials))), contact) for start in starts]


class How(TypedDict, total=False):
    """What a method may say besides the model and the places; specs may also be their JSON."""

    temporal: TemporalSpec | None
    sensor: SensorSpec | None
    fetch: FetchSpec | None
    model_config: Mapping[str, OptionValue] | None
    modality: str | None
    output: OutputSpec
    backend: str
    input_prep: str | InputPrepSpec
    beside: Sequence[Beside]


def call_of(model: str, spatials: object, device: str, *, ordered: bool = False, **how: Unpack[How]) -> Call:
    """The arguments of a method as a ``Call``; specs may also be JSON objects.

    Raises:
        Unsupported: a device was chosen.
        InvalidRequest: what a spec refuses; for an ROI its ``index`` is in the context.
    """
    if device != "auto":
        msg = f"device is {device!r}."
        raise Unsupported(msg, hint="The service computes where it runs: leave device at auto.")
    if isinstance(spatials, str | Mapping) or not isinstance(spatials, Sequence):
        msg = f"spatials is a {type(spatials).__name__}."
        raise InvalidRequest(msg, hint="Give a list of BBox or PointBuffer.")
    if not spatials:
        msg = "spatials is empty."
        raise InvalidRequest(msg, hint="Give at least one BBox or PointBuffer.")
    return Call(ask_from_dict({"model": model, **how}), tuple(_checked(spatials)), ordered)


type Models = Sequence[str] | Mapping[str, Mapping[str, object]]
"""Models by id; or, by names of the caller's own, what each is: ``model``, ``model_config`` and ``modality``."""


def calls_of(models: Models, spatials: object, device: str, *, ordered: bool, **how: Unpack[How]) -> dict[str, Call]:
    """The calls of several models over the same ROIs, each of which knows the others.

    Raises:
        InvalidRequest: no model, one that is named twice, or what ``call_of`` refuses.
    """
    if isinstance(models, str) or not models or not isinstance(models, Sequence | Mapping):
        raise InvalidRequest(f"models is {models!r}.", hint='Give a list of models, such as ["clay", "dofa"].')
    named = dict(models) if isinstance(models, Mapping) else {name: {"model": name} for name in models}
    if len(named) < len(models):
        msg = f"models has one twice: {', '.join(map(str, models))}."
        raise InvalidRequest(
            msg, hint='Give a mapping of names of your own: {"a": {"model": ..., "model_config": ...}}.'
        )
    who = beside_from([{"model": name, **given} for name, given in named.items()])
    calls = {}
    for name, own in zip(named, who, strict=True):
        others = [other for other in who if other is not own]
        asked: How = {**how, "model_config": dict(own.model_config), "modality": own.modality, "beside": others}
        calls[name] = call_of(own.model, spatials, device, ordered=ordered, **asked)
    return calls


def _checked(spatials: Iterable[object]) -> Iterator[Spatial]:
    for index, spatial in enumerate(spatials):
        try:
            yield spatial_from_dict(spatial)
        except RSEmbedError as error:
            error.context["index"] = index
            raise


@dataclass
class Contact:
    """Whether the service has answered any part of a call."""

    made: bool = False


class Part:
    """The ROIs of one request: which have an outcome, and whether to ask again for the others.

    Indices on the wire count what was asked last; here they are the caller's.
    """

    def __init__(self, call: Call, indices: Iterable[int], contact: Contact) -> None:
        self._call = call
        self._contact = contact
        self._missing = dict.fromkeys(indices)  # a set that keeps its order
        self._asked: list[int] = []
        self._started = False
        self._fruitless = 0

    @property
    def done(self) -> bool:
        """Whether every ROI has its outcome."""
        return not self._missing

    @property
    def started(self) -> bool:
        """Whether any outcome has arrived."""
        return self._started

    def job(self, timeout_s: float) -> Job:
        """The request for what is missing."""
        self._asked = list(self._missing)
        spatials = tuple(self._call.spatials[index] for index in self._asked)
        return Job(self._call.ask, spatials, ordered=self._call.ordered, timeout_s=timeout_s)

    def accept(self, rows: Iterable[Row]) -> list[StreamItem]:
        """The outcomes that rows bring; an ROI that has one keeps it.

        Raises:
            IncompleteStream: a row of an ROI that was not asked for.
        """
        items = []
        for row in rows:
            if not 0 <= row.index < len(self._asked):
                msg = f"the service sent a row {row.index}; {len(self._asked)} ROIs were asked."
                raise IncompleteStream(msg, retryable=False)
            index = self._asked[row.index]
            if index in self._missing:
                del self._missing[index]
                items.append(_item(index, row))
        if items:
            self._started, self._fruitless = True, 0
            self._contact.made = True
        return items

    def check_done(self) -> None:
        """Refuse the end of a stream while ROIs are missing.

        Raises:
            IncompleteStream: some are.
        """
        if self._missing:
            msg = f"the stream ended without {len(self._missing)} of {len(self._asked)} ROIs."
            raise IncompleteStream(msg, hint="Ask again for the missing ROIs.")

    def wait_s(self, error: RSEmbedError, left_s: float) -> float | None:
        """How long to wait before asking again for what is missing; None: do not.

        A wait that the service asked for counts only against the time; a lost connection or a cut stream is
        tried again a few times as long as nothing arrives, more often where the service has answered before.
        """
        asked = error.context.get(RETRY_AFTER)
        if isinstance(asked, int | float):
            wait = float(asked)
        elif isinstance(error, IncompleteStream | Unavailable) and error.retryable:
            self._fruitless += 1
            if self._fruitless >= (_PATIENT_TRIES if self._contact.made else _FRUITLESS_TRIES):
                return None
            wait = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** (self._fruitless - 1))
        else:
            return None
        return wait if wait < left_s else None

    def give_up(self, error: RSEmbedError) -> list[StreamItem]:
        """The error as the outcome of every ROI that is missing."""
        items = [StreamItem(index, error=error) for index in self._missing]
        self._missing.clear()
        return items


def _item(index: int, row: Row) -> StreamItem:
    if row.error is None and row.data is not None:
        return StreamItem(index, to_embedding(row))
    error = row.error or RSEmbedError("the service sent neither numbers nor an error.")
    if isinstance(error.context.get("index"), int):  # it counted its own request's
        error.context["index"] = index
    return StreamItem(index, error=error)


def embeddings_of(items: Iterable[StreamItem], count: int) -> list[Embedding]:
    """The embeddings of ``count`` ROIs in their order.

    Raises:
        RSEmbedError: of the first ROI that failed; ``context`` has its ``index`` and how many ``failed``.
    """
    results: dict[int, Embedding] = {}
    errors: dict[int, RSEmbedError] = {}
    for item in items:
        if item.embedding is not None:
            results[item.index] = item.embedding
        elif item.error is not None:
            errors[item.index] = item.error
    if errors:
        first = min(errors)
        raise _first_of(errors[first], first, len(errors), count)
    return [results[index] for index in range(count)]


def _first_of(error: RSEmbedError, index: int, failed: int, count: int) -> RSEmbedError:
    others = f"{failed} of {count} ROIs failed, this is the first; stream_embeddings() gives the others."
    hint = None if count == 1 else " ".join(filter(None, (error.hint, others)))
    return error.again(hint=hint, index=index, failed=failed)


def response_error(status: int, problem: object, retry_after: str | None) -> RSEmbedError:
    """The error of an answer that is not a result.

    Args:
        problem: the body as JSON; anything but an object is not this service's, and the status decides.
        retry_after: the header.
    """
    known: dict[str, JSONValue] = problem if isinstance(problem, dict) else {}
    detail = f"the service answered {status}."
    error = from_problem({"status": status, **known} if known else {"status": status, "detail": detail})
    if status in (429, 503) and retry_after is not None:
        error.context[RETRY_AFTER] = _seconds(retry_after)
    return error


def _seconds(retry_after: str) -> float:
    try:
        return max(0.0, float(retry_after))
    except ValueError:  # a date (RFC 9110, 10.2.3): this service sends seconds, a gateway may not
        return 1.0

"""OpenTelemetry traces across the service's processes: off unless the settings name a collector.

    request (router) -> fetch (fetch actor) -> read, prepare
                     -> encode (encoder replica) -> forward
                     -> assemble (router)

A span's context travels as ``Origin.traceparent``, with the work, so a process without that work's trace does
nothing at all. The library is imported when traces are turned on, and only then.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from rs_embed_core.errors import RSEmbedError
from serve_app.observe.origin import NOBODY, Origin, origin, under

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

type Fact = str | bool | int | float | None

_EXPORT_EVERY_MS: Final = 1000  # the library's 5 s lose more when a process is killed
_PREFIX: Final = "rs_embed."
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class _Process:
    """The tracer of this process."""

    tracer: Tracer | None = None


@dataclass(frozen=True)
class Work:
    """A span under way, or nothing where the work is not traced.

    Attributes:
        origin: of what is done inside it.
    """

    origin: Origin
    _span: Span | None = None

    def note(self, facts: Mapping[str, Fact]) -> None:
        """Say more about it."""
        if self._span is not None:
            self._span.set_attributes(_named(facts))

    def fail(self, kind: str, code: str | None = None) -> None:
        """Say that it failed: as what, and with which code. What a message says may be the caller's alone."""
        if self._span is not None:
            _fail(self._span, kind, code)

    def end(self, error: BaseException | None = None) -> None:
        """It is done, or failed."""
        if self._span is None:
            return
        if error is not None:
            _fail_with(self._span, error)
        self._span.end()


_request: ContextVar[Work | None] = ContextVar("request", default=None)


def set_up(process: str, endpoint: str | None, ratio: float) -> None:
    """Turn traces on in this process, once.

    Args:
        process: which of the service's processes it is.
        endpoint: OTLP over HTTP, without the path; None leaves traces off.
        ratio: share of the requests to trace whose caller has not decided.

    Raises:
        ImportError: the extra ``traces`` is not installed.
    """
    if endpoint is None or _Process.tracer is not None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    resource = Resource({"service.name": "rs-embed", "service.instance.id": uuid4().hex, f"{_PREFIX}process": process})
    resource = resource.merge(OTELResourceDetector().detect())  # OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME
    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(ratio), resource=resource)
    exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_EXPORT_EVERY_MS))
    _Process.tracer = provider.get_tracer("rs_embed")


def begin_request(name: str, request_id: str, traceparent: str | None) -> Work:
    """The span of a whole request; whether it is traced, its caller or the sampler decides.

    Args:
        traceparent: as the caller sent it, right or wrong; one that is wrong counts as none.
    """
    untraced = Work(Origin(request_id, callers_trace=_trace_of(traceparent)))
    if _Process.tracer is None:
        return untraced
    from opentelemetry.trace import SpanKind

    started = _Process.tracer.start_span(name, context=_context(traceparent), kind=SpanKind.SERVER)
    if not started.is_recording():
        return untraced
    work = _work(started, untraced.origin)
    work.note({"request_id": request_id})
    _request.set(work)
    return work


def _trace_of(traceparent: str | None) -> str:
    found = _TRACEPARENT.fullmatch(traceparent or "")
    return found[1] if found else ""


def note_request(facts: Mapping[str, Fact], failed: str | None = None) -> None:
    """Say more about the request that this task works for.

    Args:
        failed: the code of the failure; None where there was none of the service's.
    """
    if (work := _request.get()) is not None:
        work.note(facts)
        if failed is not None:
            work.fail("problems", failed)


def begin(name: str, parent: Origin, **facts: Fact) -> Work:
    """The span of a part of the work; the caller ends it."""
    if _Process.tracer is None or parent.traceparent is None:
        return Work(parent)
    return _work(
        _Process.tracer.start_span(name, context=_context(parent.traceparent), attributes=_named(facts)), parent
    )


_UNTRACED = nullcontext(Work(NOBODY))


def span(name: str, **facts: Fact) -> AbstractContextManager[Work]:
    """The span of a block that does not yield; what is done inside is its child."""
    if _Process.tracer is None or origin().traceparent is None:
        return _UNTRACED
    return _span(name, facts)


@contextmanager
def _span(name: str, facts: Mapping[str, Fact]) -> Iterator[Work]:
    work = begin(name, origin(), **facts)
    failure: BaseException | None = None
    try:
        with under(work.origin):
            yield work
    except BaseException as error:
        failure = error
        raise
    finally:
        work.end(failure)


def past(
    name: str, parent: Origin, *, when: tuple[int, int], facts: Mapping[str, Fact], error: BaseException | None = None
) -> None:
    """Write the span of something that is over.

    Args:
        when: it began and ended, as ``time.time_ns()`` says it.
        error: that it failed with.
    """
    if _Process.tracer is None or parent.traceparent is None:
        return
    context = _context(parent.traceparent)
    done = _Process.tracer.start_span(name, context=context, attributes=_named(facts), start_time=when[0])
    if error is not None:
        _fail_with(done, error)
    done.end(when[1])


def caller_headers() -> dict[str, str]:
    """The header that makes a request part of the span which the calling program is in; empty where there is none.

    Nobody has a span who has not loaded the library, so it need not be loaded to look.
    """
    if "opentelemetry.trace" not in sys.modules:
        return {}
    headers: dict[str, str] = {}
    _propagator().inject(headers)
    return {name: value for name, value in headers.items() if name == "traceparent"}


def _work(started: Span, caller: Origin) -> Work:
    carrier: dict[str, str] = {}
    _propagator().inject(carrier, _with(started))
    return Work(replace(caller, traceparent=carrier["traceparent"]), started)


def _context(traceparent: str | None) -> Context:
    """What the library calls the place of a span below another."""
    return _propagator().extract({} if traceparent is None else {"traceparent": traceparent}, _nowhere())


def _nowhere() -> Context:
    from opentelemetry.context import Context

    return Context()


def _propagator() -> TraceContextTextMapPropagator:
    from opentelemetry.trace.propagation.tracecontext import (
        TraceContextTextMapPropagator,
    )

    return TraceContextTextMapPropagator()


def _with(started: Span) -> Context:
    from opentelemetry.trace import set_span_in_context

    return set_span_in_context(started)


def _named(facts: Mapping[str, Fact]) -> dict[str, str | bool | int | float]:
    return {f"{_PREFIX}{name}": value for name, value in facts.items() if value is not None}


def _fail_with(started: Span, error: BaseException) -> None:
    _fail(started, type(error).__name__, error.code if isinstance(error, RSEmbedError) else None)


def _fail(started: Span, kind: str, code: str | None) -> None:
    from opentelemetry.trace import Status, StatusCode

    started.set_attributes({"error.type": kind} | ({} if code is None else {f"{_PREFIX}code": code}))
    started.set_status(Status(StatusCode.ERROR, code or kind))

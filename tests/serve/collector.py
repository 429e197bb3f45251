"""A small OpenTelemetry collector: takes spans over OTLP/HTTP and keeps them."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    """A span as it arrived."""

    trace: str
    id: str
    parent: str
    name: str
    process: str
    facts: dict[str, object]


@dataclass
class Collector:
    """What has arrived so far."""

    url: str
    spans: list[Span] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def take(self, body: bytes) -> None:
        with self.arrived:
            self.spans += _spans(body)
            self.arrived.notify_all()

    def trace(self, trace: str, enough: Callable[[list[Span]], bool], *, within_s: float = 30) -> list[Span]:
        """The spans of a trace when they are enough: each process sends its own, once a second."""
        deadline = time.monotonic() + within_s
        with self.arrived:
            while not enough(found := [span for span in self.spans if span.trace == trace]):
                assert self.arrived.wait(max(0.0, deadline - time.monotonic())), f"not enough: {found}"
            return found


def _spans(body: bytes) -> Iterator[Span]:
    for sent in ExportTraceServiceRequest.FromString(body).resource_spans:
        (process,) = (a.value.string_value for a in sent.resource.attributes if a.key == "rs_embed.process")
        for scope in sent.scope_spans:
            for span in scope.spans:
                facts = {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}
                ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                yield Span(*ids, name=span.name, process=process, facts=facts)


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector on a free port while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            running.take(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

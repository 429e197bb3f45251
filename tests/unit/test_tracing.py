"""Traces where they are off: nothing is loaded, nothing is made. On, they are tested across processes (tests/serve)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from serve_app.observe import tracing
from serve_app.observe.origin import NOBODY, Origin, origin, under

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_nothing_is_traced_while_traces_are_off() -> None:
    work = tracing.begin_request("request", "abc", TRACE)
    assert work.origin == Origin("abc", callers_trace=TRACE.split("-")[1])
    assert work.origin.trace_id == TRACE.split("-")[1]  # log lines name it all the same
    work.note({"rois": 1})
    work.end()
    with under(Origin("abc", TRACE)), tracing.span("part", index=1) as part:
        part.note({"rois": 1})
        assert origin() == Origin("abc", TRACE)
    assert tracing.begin("part", NOBODY).origin == NOBODY
    tracing.past("part", Origin("abc", TRACE), when=(1, 2), facts={}, error=ValueError("mine"))
    tracing.note_request({"rows": 1})


def test_an_error_inside_a_span_goes_on() -> None:
    with pytest.raises(ValueError, match="mine"), tracing.span("part"):
        raise ValueError("mine")


_OFF = """
import sys
from serve_app.observe import tracing
tracing.set_up("router", None, 1.0)
work = tracing.begin_request("request", "abc", None)
with tracing.span("part"): pass
assert tracing.caller_headers() == {}
sys.exit("opentelemetry" in sys.modules)
"""


def test_the_library_is_not_even_loaded_while_traces_are_off() -> None:
    assert subprocess.run([sys.executable, "-c", _OFF], check=False).returncode == 0


_ON = """
import sys
from serve_app.observe import tracing
from serve_app.observe.origin import Origin, origin
tracing.set_up("router", "http://127.0.0.1:9", 0.0)
known = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"
work = tracing.begin_request("request", "abc", known + "01")
assert work.origin.trace_id == known.split("-")[1]
assert work.origin.traceparent != known + "01", "a span of its own"
assert tracing.begin("part", work.origin).origin.trace_id == work.origin.trace_id
for unwanted in ("nonsense", None):
    assert tracing.begin_request("request", "abc", unwanted).origin == Origin("abc"), unwanted
unsampled = tracing.begin_request("request", "abc", known + "00").origin
assert (unsampled.traceparent, unsampled.trace_id) == (None, known.split("-")[1])
assert tracing.begin("part", Origin("abc")).origin == Origin("abc")
import os
os._exit(0)  # the spans have nowhere to go
"""


def test_who_is_traced_the_caller_decides() -> None:
    done = subprocess.run([sys.executable, "-c", _ON], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

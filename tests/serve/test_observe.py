"""What operators see of a running service: metrics, one trace across processes, log lines."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from ray import serve

from rs_embed_core.errors import UnknownModel
from serve_app.client import EmbeddingClient
from serve_app.observe import metrics
from serve_app.observe.measures import Level, Measure, Spread
from serve_app.serving import Serving
from tests.emulator.control import Emulator
from tests.k8s.monitoring import WITHOUT_A_FAULT_NEVER, asked_metrics, not_here
from tests.serve.calls import ONE, POINT, SUMMER, many, places, post
from tests.serve.collector import Collector, Span
from tests.serve.scrape import at_rest, exposed, scrape, scrape_until, value

_OURS = [measure for measure in metrics.ALL if measure not in WITHOUT_A_FAULT_NEVER]
_STAGES = {"/v1/embeddings", "fetch", "read", "prepare", "encode", "forward", "assemble"}


def _names(measures: list[Measure]) -> set[str]:
    return {name for measure in measures for name in measure.exported}


_MODEL = {"model": "mosaiks-gaussian"}
_AT_LEAST = (  # after what ``page`` asks; a process tells its newest numbers a few seconds later
    (14, "ray_rs_embed_request_rois_total", _MODEL),
    (14, "ray_rs_embed_stream_rows_total", {"outcome": "ok", **_MODEL}),
    (2, "ray_rs_embed_fetch_chips_total", {"provider": "gee", "outcome": "ok"}),
    (2, "ray_rs_embed_fetch_requests_total", {"provider": "gee"}),
    (1, "ray_rs_embed_request_refused_total", {"code": "model_not_served"}),
)


def _missing(page: str) -> set[str]:
    small = {name for least, name, labels in _AT_LEAST if value(page, name, **labels) < least}
    return small | (_names(_OURS) - exposed(page))


@pytest.fixture(scope="module")
def page(service: Serving, client: EmbeddingClient, earth_engine: Emulator) -> str:
    """A scrape after requests of every kind."""
    earth_engine.reset()
    client.get_embeddings_batch("mosaiks", spatials=places(12), temporal=SUMMER)
    client.get_embeddings_batch("mosaiks", spatials=places(2), temporal=SUMMER, backend="gee")
    with pytest.raises(UnknownModel):
        client.get_embedding("clay", spatial=places(1)[0], temporal=SUMMER)
    return scrape_until(_missing)


def test_every_metric_that_needs_no_fault_is_exposed(page: str) -> None:
    assert _names(_OURS) <= exposed(page)
    counted = {name for name in exposed(page) if name.startswith("ray_rs_embed_")}
    made_up = {f"ray_{measure.name}_sum" for measure in metrics.ALL if isinstance(measure, Spread)}  # see ``measures``
    assert counted <= _names(list(metrics.ALL)) | made_up


def test_numbers_add_up(page: str, service: Serving) -> None:
    for least, name, labels in _AT_LEAST:
        assert value(page, name, **labels) >= least
    assert value(page, "ray_rs_embed_forward_weights_loaded", model="remoteclip-vit-b-32") == 0
    for name, told in (
        ("ray_rs_embed_fetch_wanted_actors", service.settings.fetch.actors),
        ("ray_rs_embed_request_limit_jobs", service.settings.http.max_ongoing_requests),
    ):
        assert value(page, name, application="main") == told  # there is one router
    area = value(page, "ray_rs_embed_stream_km2_total", **_MODEL)
    assert 0 < area / value(page, "ray_rs_embed_stream_rows_total", outcome="ok", **_MODEL) < 1  # 160 m to half a km


def test_everything_says_of_which_application_it_is(page: str) -> None:
    total = value(page, "ray_rs_embed_request_rois_total", application="main")
    assert total == value(page, "ray_rs_embed_request_rois_total") - value(
        page, "ray_rs_embed_request_rois_total", application="slow"
    )
    for measure in _OURS:
        assert 'application=""' not in "".join(re.findall(rf"^ray_{measure.name}.*$", page, re.MULTILINE))


def test_reads_that_fail_are_paid_for_and_their_spans_say_so(
    page: str, service: Serving, earth_engine: Emulator, collector: Collector
) -> None:
    number, header = _sampled()
    name, gee = "ray_rs_embed_fetch_requests_total", {"provider": "gee"}
    earth_engine.reset()
    before = at_rest(name, **gee)
    wrong = {"kind": "pixels", "status": 400, "message": "Nothing that we know.", "times": None}
    earth_engine.set(faults=[{"kind": "pixels", "status": 500, "times": 2}, wrong])
    try:
        place = places(40)[39].to_dict()
        reply = post(service.url, {**ONE, "spatial": place, "backend": "gee"}, traceparent=header)
        sent = sum(earth_engine.counters()["requests"].values())
    finally:
        earth_engine.reset()
    assert (reply.status_code, reply.json()["code"], sent > 1) == (502, "provider_rejected", True)
    spans = {span.name: span.facts for span in collector.trace(number, _names_are("/v1/embeddings", "read"))}
    for span, kind in (("read", "ProviderError"), ("/v1/embeddings", "502")):
        assert (spans[span]["error.type"], spans[span]["rs_embed.code"]) == (kind, "provider_rejected")
    assert "Nothing that we know" not in str(spans)
    assert at_rest(name, **gee) == before + sent


def test_levels_are_told_while_nothing_happens(service: Serving, page: str) -> None:
    """Ray forgets one that has not been told for 20 s."""
    time.sleep(25)
    assert {measure.exported[0] for measure in _OURS if isinstance(measure, Level)} <= exposed(scrape())


def test_dashboard_and_rules_ask_for_what_is_exposed(page: str) -> None:
    known = exposed(page) | _names(list(WITHOUT_A_FAULT_NEVER))
    for where, name in asked_metrics():
        assert name in known or not_here(name), f"{where} asks for {name}, which the service does not expose"


def _sampled() -> tuple[str, str]:
    """A new trace, and the header that puts a request into it."""
    number = secrets.token_hex(16)
    return number, f"00-{number}-{secrets.token_hex(8)}-01"


def _names_are(*names: str) -> Callable[[list[Span]], bool]:
    """Whether spans of all these names are there."""
    return lambda spans: set(names) <= {span.name for span in spans}


def _assert_one_tree(spans: list[Span]) -> None:
    ids = {span.id for span in spans}
    outside = [span for span in spans if span.parent not in ids]
    assert [span.name for span in outside] in (["/v1/embeddings"], ["embed_stream"])


def test_a_trace_goes_through_every_process(service: Serving, collector: Collector) -> None:
    number, header = _sampled()
    response = post(service.url, ONE, traceparent=header, **{"x-request-id": "traced"})
    assert response.headers["traceresponse"].split("-")[1] == number
    spans = collector.trace(number, _names_are(*_STAGES))
    _assert_one_tree(spans)
    assert {(span.name, span.process) for span in spans} == {
        ("/v1/embeddings", "router"),
        ("assemble", "router"),
        ("fetch", "fetch"),
        ("read", "fetch"),
        ("prepare", "fetch"),
        ("encode", "mosaiks-gaussian"),
        ("forward", "mosaiks-gaussian"),
    }
    (request,) = (span for span in spans if span.name == "/v1/embeddings")
    assert request.facts["rs_embed.request_id"] == "traced"
    assert (request.facts["rs_embed.rois"], request.facts["rs_embed.end"]) == (1, "complete")


def test_a_forward_that_failed_is_so_in_its_trace(service: Serving, collector: Collector) -> None:
    number, header = _sampled()
    small = {**ONE, "spatial": {**POINT, "buffer_m": 50}, "model_config": {"kernel_size": 15}}
    reply = post(service.url, small, traceparent=header)
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_input"), reply.text
    spans = {span.name: span.facts for span in collector.trace(number, _names_are("encode", "forward"))}
    for name in ("encode", "forward"):
        assert (spans[name]["error.type"], spans[name]["rs_embed.code"]) == ("InvalidInput", "invalid_input")


def test_a_long_job_has_no_span_for_each_place(service: Serving, collector: Collector) -> None:
    number, header = _sampled()
    post(service.url, many(40), traceparent=header)

    def whole(spans: list[Span]) -> bool:
        rois = sum(int(span.facts["rs_embed.rois"]) for span in spans if span.name == "fetch")
        parents = {span.parent for span in spans if span.name != "/v1/embeddings"}
        return rois == 40 and _names_are("/v1/embeddings")(spans) and parents <= {span.id for span in spans}

    spans = collector.trace(number, whole)
    _assert_one_tree(spans)
    assert not {span.name for span in spans} & {"read", "prepare"}


def test_nobody_is_traced_who_did_not_ask(service: Serving, collector: Collector) -> None:
    """The share of requests that the service chooses itself is 0 here."""
    assert "traceresponse" not in post(service.url, ONE).headers
    wrong = post(service.url, ONE, traceparent="00-nonsense")
    assert wrong.status_code == 200
    assert "traceresponse" not in wrong.headers


@pytest.mark.parametrize("over", ["client", "handle"])
def test_the_client_sends_the_span_that_it_is_called_in(
    over: str, collector: Collector, request: pytest.FixtureRequest
) -> None:
    asked: EmbeddingClient = request.getfixturevalue(over)
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("notebook") as notebook:
        asked.get_embedding("mosaiks", spatial=places(1)[0], temporal=SUMMER)
    number = trace.format_trace_id(notebook.get_span_context().trace_id)
    root = "/v1/embeddings" if over == "client" else "embed_stream"
    spans = collector.trace(number, _names_are(root, "fetch", "encode", "assemble"))
    _assert_one_tree(spans)


def test_log_lines_are_json_with_the_request_s_id(service: Serving) -> None:
    post(service.url, many(3), **{"x-request-id": "look-me-up"})
    (router,) = serve.get_app_handle(service.settings.name).processes.remote().result(timeout_s=60)["router"]
    log = Path(f"/proc/{router}/fd/2").resolve()
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    (line,) = (line for line in lines if line.get("request_id") == "look-me-up")
    assert line["message"] == "request ended"
    assert (line["process"], line["level"], line["model"]) == ("router", "INFO", "mosaiks-gaussian")
    assert (line["rois"], line["rows"], line["problems"], line["end"]) == (3, 3, 0, "complete")

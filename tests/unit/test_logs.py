"""Log lines, and whose they are."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import numpy as np
import pytest

from rs_embed_core import PointBuffer, TemporalSpec
from rs_embed_core.chip import Chip, FetchPlan
from rs_embed_core.embedding import EncoderInfo
from rs_embed_core.plan import plan
from rs_embed_core.providers import get_provider, register_provider
from rs_embed_core.providers.base import Provider
from rs_embed_core.sample import Batch, View
from rs_embed_core.specs.request import Ask
from rs_embed_core.tokens import Tokens
from serve_app.deployments.batcher import Batcher, Forwarded
from serve_app.deployments.fetcher import Fetcher
from serve_app.observe import logs
from serve_app.observe.origin import NOBODY, Origin, origin, together, under
from serve_app.settings import FetchSettings, ProviderSettings
from serve_app.wire.blocks import Hurry, Item

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_log = logging.getLogger("serve_app.test")


@pytest.fixture(params=["json"])
def written(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What the service's loggers write; afterwards they are as before."""
    loggers = [logging.getLogger(name) for name in logs.LOGGERS]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    stream = io.StringIO()
    logs.set_up("router", request.param, "INFO", stream)
    yield stream
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def _lines(written: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_a_line_has_the_request_and_what_was_said(written: io.StringIO) -> None:
    with under(Origin("abc", TRACE)):
        _log.warning("a thing happened to %s", "somebody", extra={"model": "dofa", "samples": 3})
    (line,) = _lines(written)
    assert list(line)[:3] == ["time", "level", "message"]
    assert str(line["time"]).endswith("+00:00")
    assert (line["level"], line["message"]) == ("WARNING", "a thing happened to somebody")
    assert (line["process"], line["logger"]) == ("router", "serve_app.test")
    assert (line["request_id"], line["trace_id"]) == ("abc", TRACE.split("-")[1])
    assert (line["model"], line["samples"]) == ("dofa", 3)


def test_a_line_of_nobody_names_no_request(written: io.StringIO) -> None:
    _log.info("started")
    _log.debug("too much")
    (line,) = _lines(written)
    assert not {"request_id", "trace_id"} & set(line)


def test_an_exception_stays_on_its_line(written: io.StringIO) -> None:
    try:
        int("two\nlines")
    except ValueError:
        _log.exception("it failed", extra={"where": object})
    (line,) = _lines(written)
    assert "ValueError: invalid literal" in str(line["exception"])
    assert "\n" in str(line["exception"])
    assert line["where"] == "<class 'object'>"


@pytest.mark.parametrize("written", ["text"], indirect=True)
def test_text_for_a_reader_without_tools(written: io.StringIO) -> None:
    with under(Origin("abc")):
        _log.info("done", extra={"rows": 2})
    assert written.getvalue().endswith("INFO router serve_app.test: done request_id=abc rows=2\n")


def test_the_core_s_lines_are_written_too(written: io.StringIO) -> None:
    logging.getLogger("rs_embed_core.checkpoints").info("weights loaded")
    logging.getLogger("somebody.else").warning("not ours")
    assert [line["message"] for line in _lines(written)] == ["weights loaded"]


class Talking:
    """A provider that logs, as the real ones do, in the thread that reads."""

    name = "synthetic"

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def fetch(self, plan: FetchPlan) -> Chip:
        logging.getLogger("rs_embed_core.providers.talking").warning("reading")
        return self._provider.fetch(plan)


@pytest.mark.parametrize("bulk", [False, True])
async def test_lines_of_a_fetch_actor_s_threads_name_the_request(written: io.StringIO, *, bulk: bool) -> None:
    ask = Ask(model="mosaiks", temporal=TemporalSpec.range("2022-06-01", "2022-09-01"))
    item = Item(0, plan(ask.at(PointBuffer(11.0, 48.0, 80.0))))
    fetcher = Fetcher(FetchSettings(), ProviderSettings())
    quiet = get_provider("synthetic")
    register_provider("synthetic", Talking(quiet))
    try:
        async for _ in fetcher.blocks([item], Hurry(bulk=bulk), Origin("abc")):
            pass
    finally:
        register_provider("synthetic", quiet)
    (line,) = _lines(written)
    assert line["request_id"] == "abc"


def test_work_for_several_requests_names_them_all() -> None:
    one, other = Origin("a", TRACE), Origin("b")
    assert together([one, one]) == one
    assert together([one, other, one]) == Origin("a,b")
    assert together([one, other]).trace_id == ""


def test_an_origin_ends_with_its_block() -> None:
    with under(Origin("outer")):
        with under(Origin("inner")):
            assert origin().request_id == "inner"
        assert origin().request_id == "outer"
    assert origin() == NOBODY


async def test_lines_of_a_forward_name_every_request_in_it(written: io.StringIO) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    forwards: list[Forwarded] = []

    async def run(batch: Batch, needs: str) -> tuple[list[Tokens], EncoderInfo]:
        _log.info("forward")
        begun.set()
        await go_on.wait()
        return [Tokens(row, (1, 1)) for row in batch.arrays["image"]], EncoderInfo("cpu", "float32", None, ())

    batcher: Batcher[str] = Batcher(run, max_batch=8, on_forward=forwards.append)

    async def ask(request_id: str) -> None:
        with under(Origin(request_id)):
            await batcher.submit(Batch({"image": np.zeros((1, 2), np.float32)}, (), (View(),)), "m")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ask("first"))
        await begun.wait()
        tasks.create_task(ask("second"))
        tasks.create_task(ask("third"))
        await asyncio.sleep(0)
        go_on.set()
    assert [line["request_id"] for line in _lines(written)] == ["first", "second,third"]
    assert [[one.request_id for one in done.origins] for done in forwards] == [["first"], ["second", "third"]]
    assert [done.samples for done in forwards] == [1, 2]
    assert all(done.waited_s >= 0 and done.when[1] >= done.when[0] for done in forwards)

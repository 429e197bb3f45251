"""Bulk reads and interactive ones at one gate, on the files of a static catalogue."""

from __future__ import annotations

import datetime as dt
import threading
import time
from dataclasses import dataclass, field

from rs_embed_core.chip import Period
from rs_embed_core.providers.calls import Terms, Verdict, under
from rs_embed_core.providers.gate import Gate, Quota
from rs_embed_core.providers.stac import StacProvider, StacSettings
from tests.unit.stac.rule import JUNE, read
from tests.unit.stac.written import around

BANDS = ("B2", "B3", "B5")
ONE_SCENE = Period(dt.date(2022, 6, 16), dt.date(2022, 6, 17))


@dataclass
class Noting:
    """A gate with one slot that notes who passes: True for bulk."""

    gate: Gate = field(default_factory=lambda: Gate(Quota(1, 1e6), name="files"))
    passed: list[bool] = field(default_factory=list)

    def enter(self, terms: Terms) -> None:
        self.gate.enter(terms)
        self.passed.append(terms.bulk)

    def leave(self, verdict: Verdict | None) -> None:
        self.gate.leave(verdict)

    def may_retry(self) -> bool:
        return self.gate.may_retry()


def waiting(gate: Gate, count: int) -> bool:
    """Whether so many requests come to wait, and soon."""
    until = time.monotonic() + 10
    while gate.demand[1] < count and time.monotonic() < until:
        time.sleep(0.002)
    return gate.demand[1] == count


def test_files_of_an_interactive_read_do_not_queue_behind_those_of_a_bulk_read(catalogue):
    turnstile = Noting()
    settings = StacSettings(preset="planetary-computer", path=str(catalogue), at_once=2)
    provider = StacProvider(settings, turnstile)
    read(provider, around(), ONE_SCENE, bands=("B2",))
    turnstile.passed.clear()

    def work(period: Period, *, bulk: bool) -> None:
        with under(Terms(bulk=bulk)):
            read(provider, around(), period, bands=BANDS)

    turnstile.gate.enter(Terms())
    threads = [
        threading.Thread(target=work, args=(JUNE,), kwargs={"bulk": True}),
        threading.Thread(target=work, args=(ONE_SCENE,), kwargs={"bulk": False}),
    ]
    try:
        for thread, count in zip(threads, (3, 6), strict=True):  # two of the pool and the thread that reads
            thread.start()
            assert waiting(turnstile.gate, count)
    finally:
        turnstile.gate.leave(None)
        for thread in threads:
            thread.join()
    assert turnstile.passed[:3] == [False] * 3
    assert set(turnstile.passed[3:]) == {True}

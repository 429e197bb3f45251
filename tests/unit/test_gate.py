from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from rs_embed_core.errors import ProviderAuth, ProviderError, ProviderQuota, ProviderTimeout
from rs_embed_core.providers.calls import Asking, Tally, Terms, Verdict, in_parallel, terms, under
from rs_embed_core.providers.gate import Allowance, Gate, Quota

QUICK = Quota(at_once=4, per_second=1e6)
BUSY = Verdict(ProviderQuota("too many."), tries=5, pressure="concurrency", retry_after_s=0.0)
DENIED = Verdict(ProviderAuth("no access."), breaks=True)


def soon(seconds: float = 0.05) -> Terms:
    return Terms(deadline=time.monotonic() + seconds)


def start(work: object) -> threading.Thread:
    thread = threading.Thread(target=work)  # type: ignore[arg-type]
    thread.start()
    return thread


def test_no_more_pass_than_there_are_slots() -> None:
    gate, inside, most, lock = Gate(QUICK, name="x"), 0, 0, threading.Lock()
    all_four = threading.Barrier(4)

    def work() -> None:
        nonlocal inside, most
        gate.enter(Terms())
        with lock:
            inside += 1
            most = max(most, inside)
        all_four.wait(10)
        with lock:
            inside -= 1
        gate.leave(None)

    for thread in [start(work) for _ in range(24)]:
        thread.join()
    assert most == 4
    assert gate.demand == (0, 0, 0)


def test_a_deadline_ends_the_wait_for_a_slot() -> None:
    gate = Gate(Quota(at_once=1, per_second=1e6), name="Earth Engine")
    gate.enter(Terms())
    with pytest.raises(ProviderTimeout, match="Earth Engine"):
        gate.enter(soon())
    gate.leave(None)
    gate.enter(soon())


def test_interactive_reads_pass_before_bulk_ones() -> None:
    gate, order = Gate(Quota(at_once=1, per_second=1e6), name="x"), []
    gate.enter(Terms())

    def work(*, bulk: bool) -> None:
        gate.enter(Terms(bulk=bulk))
        order.append(bulk)
        gate.leave(None)

    threads = [start(lambda: work(bulk=True)) for _ in range(3)]
    while gate.demand[1] < 3:
        time.sleep(0.001)
    threads.append(start(lambda: work(bulk=False)))
    while gate.demand[1] < 4:
        time.sleep(0.001)
    gate.leave(None)
    for thread in threads:
        thread.join()
    assert order == [False, True, True, True]


def test_the_rate_is_bounded() -> None:
    gate = Gate(Quota(at_once=100, per_second=100), name="x")
    began = time.monotonic()
    for _ in range(60):  # 25 at once, then 100 a second
        gate.enter(Terms())
        gate.leave(None)
    assert time.monotonic() - began > 0.3


def test_a_complaint_halves_the_limit_once_for_one_crowd_and_time_gives_it_back() -> None:
    clock = [100.0]
    allowance = Allowance(16, interval_s=2.0, now=lambda: clock[0])
    allowance.cut()
    clock[0] += 1.9
    allowance.cut()
    assert allowance.limit == 8
    clock[0] += 0.1
    assert allowance.limit == 9
    allowance.cut()
    assert allowance.limit == 4
    clock[0] += 100
    assert allowance.limit == 16


def test_a_part_of_the_quota_can_be_given_and_taken() -> None:
    gate = Gate(QUICK, name="x")
    gate.resize(1, 1e6)
    gate.enter(Terms())
    with pytest.raises(ProviderTimeout):
        gate.enter(soon())
    gate.resize(2, 1e6)
    gate.enter(soon())


def test_faults_of_configuration_open_the_circuit_for_a_while() -> None:
    gate = Gate(QUICK, name="x")
    for _ in range(3):
        assert not gate.broken
        gate.enter(Terms())
        gate.leave(DENIED)
    assert gate.broken
    with pytest.raises(ProviderAuth, match="no access"):
        gate.enter(Terms())


def test_one_request_tries_an_open_circuit_and_the_others_wait_for_it() -> None:
    gate = Gate(QUICK, name="x", open_s=0.0)
    for _ in range(3):
        gate.enter(Terms())
        gate.leave(DENIED)
    for _ in range(2):
        gate.enter(Terms())
        with pytest.raises(ProviderTimeout):
            gate.enter(soon())
        gate.leave(DENIED)
    gate.enter(Terms())
    others = [start(lambda: gate.enter(Terms())) for _ in range(3)]
    while gate.demand[1] < 3:
        time.sleep(0.001)
    gate.leave(Verdict(ProviderError("not found.")))  # it failed, but not of what opened the circuit
    for other in others:
        other.join(10)
    assert gate.demand == (3, 0, 0)


def test_the_open_circuit_s_error_is_a_new_one_for_everybody() -> None:
    gate = Gate(QUICK, name="x")
    for _ in range(3):
        gate.enter(Terms())
        gate.leave(DENIED)
    heard = []
    for _ in range(2):
        with pytest.raises(ProviderAuth) as caught:
            gate.enter(Terms())
        heard.append(caught.value)
    assert heard == [DENIED.error] * 2
    assert len({id(error) for error in (*heard, DENIED.error)}) == 3


def test_a_success_between_faults_keeps_the_circuit_closed() -> None:
    gate = Gate(QUICK, name="x")
    for verdict in (DENIED, DENIED, None, DENIED, DENIED):
        gate.enter(Terms())
        gate.leave(verdict)
    gate.enter(Terms())


def asking(verdict: Verdict, tally: Tally | None = None) -> Asking:
    return Asking(lambda _: verdict, Gate(QUICK, name="x"), tally or Tally())


def failing(times: int, seen: list[float]) -> object:
    def send(left_s: float) -> str:
        seen.append(left_s)
        if len(seen) <= times:
            raise ConnectionResetError("cut")
        return "answer"

    return send


def test_what_may_pass_is_sent_again_and_counted() -> None:
    tally, seen = Tally(), list[float]()
    verdict = Verdict(ProviderError("cut."), tries=3)
    assert asking(verdict, tally).ask(failing(1, seen)) == "answer"  # type: ignore[arg-type]
    facts = dict(tally.facts())
    assert (facts["requests"], facts["retries"]) == (2, 1)


def test_who_gives_up_in_the_line_has_waited_too() -> None:
    gate, tally = Gate(Quota(at_once=1, per_second=1e6), name="x"), Tally()
    gate.enter(Terms())
    with under(soon()), pytest.raises(ProviderTimeout):
        Asking(lambda _: BUSY, gate, tally).ask(lambda _: "answer")
    counts = tally.counts()
    assert counts["requests"] == 0
    assert counts["queued_ms"] > 0


def test_what_will_not_pass_is_sent_once() -> None:
    seen = list[float]()
    with pytest.raises(ProviderAuth) as raised:
        asking(DENIED).ask(failing(9, seen))  # type: ignore[arg-type]
    assert len(seen) == 1
    assert isinstance(raised.value.__cause__, ConnectionResetError)


def test_an_error_that_the_judge_does_not_know_is_no_success() -> None:
    def unknown(error: Exception) -> Verdict:
        raise error

    gate = Gate(QUICK, name="x")
    for _ in range(2):
        gate.enter(Terms())
        gate.leave(DENIED)
    with pytest.raises(ConnectionResetError):
        Asking(unknown, gate, Tally()).ask(failing(1, []))  # type: ignore[arg-type]
    assert gate.demand[0] == 0
    gate.enter(Terms())
    gate.leave(DENIED)
    with pytest.raises(ProviderAuth):
        gate.enter(Terms())


def test_nothing_is_sent_again_beyond_the_deadline() -> None:
    seen = list[float]()
    late = Verdict(ProviderError("busy."), tries=5, retry_after_s=30)
    with under(soon(0.5)), pytest.raises(ProviderError, match="busy"):
        asking(late).ask(failing(9, seen))  # type: ignore[arg-type]
    assert len(seen) == 1
    assert seen[0] <= 0.5


def test_a_service_that_fails_often_is_asked_again_seldom() -> None:
    gate, tally = Gate(QUICK, name="x"), Tally()
    allowed = sum(gate.may_retry() for _ in range(100))
    assert 0 < allowed < 50
    with pytest.raises(ProviderError, match="down"):
        Asking(lambda _: Verdict(ProviderError("down."), tries=2), gate, tally).ask(failing(9, []))  # type: ignore[arg-type]
    assert dict(tally.facts())["retries"] == 0
    for _ in range(5):  # successes are worth one more
        gate.enter(Terms())
        gate.leave(None)
    assert [gate.may_retry(), gate.may_retry()] == [True, False]


def test_complaints_reach_the_gate() -> None:
    gate = Gate(QUICK, name="x")
    with under(soon(0.2)), pytest.raises(ProviderQuota):
        Asking(lambda _: BUSY, gate, Tally()).ask(failing(99, []))  # type: ignore[arg-type]
    assert gate.demand[2] >= 1
    assert gate.demand[0] == 0


def test_terms_reach_every_thread_of_a_read() -> None:
    with ThreadPoolExecutor(2) as threads, under(Terms(bulk=True)):
        assert [t.bulk for t in in_parallel([terms, terms, terms], threads)] == [True] * 3
    assert not terms().bulk


def test_all_parts_end_before_the_first_error_is_raised() -> None:
    ended = threading.Event()

    def fail() -> None:
        raise ProviderError("one part failed.")

    def slow() -> None:
        time.sleep(0.05)
        ended.set()

    with ThreadPoolExecutor(2) as threads, pytest.raises(ProviderError, match="one part"):
        in_parallel([fail, slow], threads)
    assert ended.is_set()

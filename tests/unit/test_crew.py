from __future__ import annotations

import itertools
import threading

from serve_app.deployments.crew import Crew


def _run(crew: Crew, job: object, count: int) -> int:
    """Do the job ``count`` times; the most that were under way at once."""
    lock, done = threading.Lock(), threading.Semaphore(0)
    under_way = [0, 0]

    def counted() -> None:
        with lock:
            under_way[0] += 1
            under_way[1] = max(under_way)
        job()
        with lock:
            under_way[0] -= 1
        done.release()

    crew.do([counted] * count)
    for _ in range(count):
        assert done.acquire(timeout=30)
    return under_way[1]


class _Time(threading.local):
    """What each thread has spent: its jobs say so, no clock does."""

    wall_s = cpu_s = 0.0

    def compute(self) -> None:
        self.wall_s += 0.01
        self.cpu_s += 0.01

    def wait(self) -> None:
        self.wall_s += 0.02
        self.cpu_s += 0.0002

    def wait_long(self) -> None:
        self.wall_s += 1.0
        self.cpu_s += 0.01

    def crew(self, most: int) -> Crew:
        return Crew(most, wall=lambda: self.wall_s, cpu=lambda: self.cpu_s)


def test_jobs_that_wait_get_all_the_threads() -> None:
    spent, all_at_work = _Time(), threading.Barrier(8)
    crew = spent.crew(8)

    def wait() -> None:
        all_at_work.wait(30)
        spent.wait()

    assert _run(crew, wait, 64) == 8
    assert crew.wanted == 8


def test_jobs_that_compute_need_one_thread() -> None:
    spent = _Time()
    crew = spent.crew(64)
    _run(crew, spent.compute, 200)
    assert crew.wanted == 1


def test_the_crew_grows_again_when_jobs_wait() -> None:
    spent = _Time()
    crew = spent.crew(8)
    _run(crew, spent.compute, 50)
    assert crew.wanted == 1
    _run(crew, spent.wait, 60)
    assert crew.wanted == 8


def test_a_few_jobs_that_wait_among_many_that_do_not_get_all_the_threads() -> None:
    spent = _Time()
    crew = spent.crew(8)
    kinds = itertools.cycle([spent.compute] * 3 + [spent.wait_long])

    def either() -> None:
        next(kinds)()

    _run(crew, either, 200)
    assert crew.wanted == 8


def test_no_job_is_lost_when_many_are_given_at_once() -> None:
    crew = Crew(4)
    for _ in range(20):
        _run(crew, lambda: None, 50)


def test_jobs_that_are_not_bulk_go_first() -> None:
    crew, done = Crew(1), []
    started, go_on, finished = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        go_on.wait(30)

    crew.do([hold])
    assert started.wait(30)
    crew.do([lambda: done.append("bulk"), finished.set])
    crew.do([lambda: done.append("first"), lambda: done.append("second")], bulk=False)
    go_on.set()
    assert finished.wait(30)
    assert done == ["first", "second", "bulk"]

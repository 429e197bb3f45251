from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from serve_app.export.ticking import ticking


def test_items_come_in_order_and_nothing_comes_meanwhile() -> None:
    go_on = threading.Event()

    def items() -> Generator[int]:
        yield 1
        go_on.wait(60)
        yield from (2, 3)

    found: list[int | None] = []
    for item in ticking(items(), 0.01):
        found.append(item)
        if item is None:
            go_on.set()
    assert [item for item in found if item is not None] == [1, 2, 3]
    assert None in found


def test_an_error_is_raised_where_it_is_waited_for() -> None:
    def items() -> Generator[int]:
        yield 1
        raise ValueError("no more")

    found = ticking(items(), 60)
    assert next(found) == 1
    with pytest.raises(ValueError, match="no more"):
        next(found)


def test_items_that_nobody_wants_any_more_are_closed() -> None:
    closed = threading.Event()

    def items() -> Generator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    found = ticking(items(), 60)
    assert next(found) == 0
    found.close()
    assert closed.is_set()

"""Someone who asks the service over plain HTTP, without the client's retries: a request that fails has failed."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

MODEL = "mosaiks"
WIDTH = 512  # of mosaiks' vectors, as its card says
_TIMEOUT_S = 180
_MANY = 100


def place(number: int) -> dict[str, float]:
    """A small place of its own for each number."""
    return {"lon": 8.0 + number / 100, "lat": 47.0, "buffer_m": 160}


def vector(url: str, number: int) -> Sequence[float]:
    """The embedding of one place."""
    with _post(url, {"model": MODEL, "spatial": place(number)}, "application/json") as answer:
        return json.load(answer)["embedding"]


def ask_one(url: str, number: int) -> None:
    """One place, of fifty that come again and again."""
    assert len(vector(url, number % 50)) == WIDTH


def ask_many(url: str, number: int) -> None:
    """A stream for many places: it must be whole, and every place an embedding."""
    del number
    wanted = {"model": MODEL, "spatials": [place(each) for each in range(_MANY)]}
    with _post(url, wanted, "application/x-ndjson") as answer:
        *rows, last = map(json.loads, answer)
    assert sorted(row["index"] for row in rows) == list(range(_MANY))
    assert (last["summary"]["rows"], last["summary"]["problems"]) == (_MANY, 0)


def _post(url: str, body: dict[str, Any], accept: str) -> Any:
    headers = {"Content-Type": "application/json", "Accept": accept}
    request = urllib.request.Request(f"{url}/v1/embeddings", json.dumps(body).encode(), headers)  # noqa: S310 - ours
    return urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310


@dataclass
class Caller:
    """What it has seen so far."""

    answered: int = 0
    failures: list[str] = field(default_factory=list)


@contextmanager
def calling(url: str, ask: Callable[[str, int], None] = ask_one) -> Iterator[Caller]:
    """One request after the other while the block runs."""
    caller, enough = Caller(), threading.Event()

    def go_on() -> None:
        while not enough.is_set():
            try:
                ask(url, caller.answered)
                caller.answered += 1
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller had no answer
                caller.failures.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield caller
    finally:
        enough.set()
        thread.join()

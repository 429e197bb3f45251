"""One emulator for all tests of a process: the client has one endpoint per process, so they must share it."""

from __future__ import annotations

import atexit
from contextlib import ExitStack
from functools import cache

from rs_embed_core.providers.gee import GeeProvider, GeeSettings
from tests.emulator.control import Emulator, emulator

PROJECT = "test-project"


@cache
def small_emulator() -> Emulator:
    """The emulator of the ``small`` catalogue; it ends with the process."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(emulator("small"))


def provider(*, at_once: int = 32) -> GeeProvider:
    """A provider with a gate of its own, so that no test meets a circuit that another opened."""
    url = small_emulator().url
    settings = GeeSettings(project=PROJECT, url=url, credentials="anonymous", workload_tag="tests", at_once=at_once)
    return GeeProvider(settings)

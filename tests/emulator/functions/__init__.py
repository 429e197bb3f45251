"""The functions that an expression may call."""

from __future__ import annotations

from collections.abc import Mapping

from tests.emulator.evaluate import Function
from tests.emulator.functions import collections, filters, geometry, pixelwise, sampling
from tests.emulator.scenes import Catalogue

_FAMILIES = (geometry, filters, pixelwise, collections, sampling)
_FIXED: Mapping[str, Function] = {name: made for family in _FAMILIES for name, made in family.FUNCTIONS.items()}


def functions(catalogue: Catalogue) -> Mapping[str, Function]:
    """All of them; those that load read this catalogue."""
    return {**_FIXED, **collections.loaders(catalogue)}

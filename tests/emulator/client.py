"""The unmodified ``ee`` client in a process of its own: its state is one per process, and tests share theirs."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any  # a computed value is JSON

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.geo import Grid

PROJECT = "test-project"


@dataclass(frozen=True)
class Client:
    """Runs functions of importable modules where ``ee`` is initialised; they build their graphs there."""

    pool: ProcessPoolExecutor

    def call[T](self, function: Callable[..., T], *arguments: object) -> T:
        """What the function returns; what it raises is raised here."""
        return self.pool.submit(function, *arguments).result()

    def pixels(self, graph: Callable[..., Any], grid: Grid, *arguments: object) -> NDArray[Any]:
        """The pixels of the image that ``graph`` builds, ``[C, H, W]``."""
        structured = self.call(compute_pixels, graph, grid, *arguments)
        return np.stack([structured[name] for name in structured.dtype.names])

    def value(self, graph: Callable[..., Any], *arguments: object) -> Any:
        """The computed value of what ``graph`` builds."""
        return self.call(compute_value, graph, *arguments)


@contextmanager
def client(url: str) -> Iterator[Client]:
    """A client of the service at this address."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=initialise, initargs=(url,)) as pool:
        yield Client(pool)


def initialise(url: str) -> None:
    """Initialise ``ee`` in this process as production does, without an account and without a look outside."""
    import ee  # noqa: PLC0415 - a second of CPU, and only the other process needs it
    from google.auth.credentials import AnonymousCredentials  # noqa: PLC0415

    ee.deprecation.deprecated_assets = {"-": None}  # counts as loaded: nothing is fetched (earth_engine.md, 3.1)
    ee.Initialize(credentials=AnonymousCredentials(), project=PROJECT, url=url)
    ee.data.setMaxRetries(0)


def compute_pixels(
    graph: Callable[..., Any], grid: Grid, *arguments: object, file_format: str = "NUMPY_NDARRAY"
) -> Any:
    """A ``computePixels`` call in this process."""
    import ee  # noqa: PLC0415

    a, b, c, d, e, f = grid.transform
    affine = {"scaleX": a, "shearX": b, "translateX": c, "shearY": d, "scaleY": e, "translateY": f}
    where = {"dimensions": {"width": grid.width, "height": grid.height}, "affineTransform": affine}
    request = {"expression": graph(*arguments), "fileFormat": file_format, "grid": {**where, "crsCode": grid.crs}}
    return ee.data.computePixels({**request, "workloadTag": "emulator-tests"})


def compute_value(graph: Callable[..., Any], *arguments: object) -> Any:
    """A ``computeValue`` call in this process."""
    return graph(*arguments).getInfo()

"""The library's own answers over Earth Engine, from a process of its own: the client has one endpoint per process."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import rs_embed_core
from rs_embed_core import get_embedding, register_provider
from rs_embed_core.providers.gee import GeeProvider, GeeSettings


def _set_up(url: str, weights: Path) -> None:
    torch.set_num_threads(1)
    rs_embed_core.configure(checkpoints_root=weights, offline=True)
    settings = GeeSettings(url=url, project="emulated", credentials="anonymous")
    register_provider("gee", GeeProvider(settings))


def _embed(model: str, how: dict[str, Any]) -> np.ndarray:
    return np.asarray(get_embedding(model, device="cpu", **how).data)


@dataclass(frozen=True)
class Library:
    """The library in its process."""

    process: ProcessPoolExecutor

    def embed(self, model: str, **how: object) -> np.ndarray:
        """The numbers of one embedding; arguments as of ``get_embedding``."""
        return self.process.submit(_embed, model, how).result(timeout=120)


@contextmanager
def library(url: str, weights: Path) -> Iterator[Library]:
    """A library that reads from this emulator."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=_set_up, initargs=(url, weights)) as process:
        yield Library(process)

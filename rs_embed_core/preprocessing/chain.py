"""Stage prepare: ``Step``, one change of a sample, and ``Chain``, steps in a row."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from rs_embed_core.sample import Sample


class Step(Protocol):
    """A frozen dataclass that makes one change; its repr is how meta reports it."""

    def __call__(self, sample: Sample) -> Sample:
        """The changed sample."""


@dataclass(frozen=True, init=False)
class Chain:
    """Steps in a row, readable and hashable: ``Chain(FillMissing(0.0), Clip(0, 10000))``."""

    steps: tuple[Step, ...]

    def __init__(self, *steps: Step) -> None:
        object.__setattr__(self, "steps", steps)

    def __call__(self, sample: Sample) -> Sample:
        """The sample after every step."""
        for step in self.steps:
            sample = step(sample)
        return sample

    @cached_property
    def text(self) -> str:
        """The chain as it is written in a card."""
        return " -> ".join(map(repr, self.steps))

    @cached_property
    def digest(self) -> str:
        """A short hash of the text: equal chains prepare equally."""
        return hashlib.blake2b(self.text.encode(), digest_size=8).hexdigest()

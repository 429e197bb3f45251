"""What crosses processes inside the cluster: blocks of prepared ROIs, and the tokens that come back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from rs_embed_core.embedding import EncoderInfo
from rs_embed_core.errors import RSEmbedError
from rs_embed_core.plan import Plan
from rs_embed_core.prepared import ChipInfo
from rs_embed_core.sample import Batch
from rs_embed_core.tokens import TokenBlock, Tokens


@dataclass(frozen=True)
class Item:
    """One planned ROI on its way; ``attempts`` counts how often it was lost with a process."""

    index: int
    plan: Plan
    attempts: int = 0

    @property
    def rois(self) -> tuple[int, ...]:
        """Its own index."""
        return (self.index,)


@dataclass(frozen=True)
class Hurry:
    """How soon a span's ROIs are wanted.

    Attributes:
        patience_s: for so long nobody waits for a block, so it may fill up; the actor's own linger is the least.
        left_s: seconds until the request's deadline, counted from when this is sent.
        bulk: one span of a long job: reads of short ones go first.
    """

    patience_s: float = 0.0
    left_s: float = math.inf
    bulk: bool = True


@dataclass(frozen=True)
class Slot:
    """Where a sample of an ROI lies in a block: number of the batch, position in it."""

    batch: int
    position: int


@dataclass(frozen=True)
class BlockItem:
    """One ROI of a block: where its samples are, or why there are none."""

    index: int
    info: ChipInfo | None = None
    slots: tuple[Slot, ...] = ()
    fetch_ms: float = 0.0
    error: RSEmbedError | None = None


@dataclass(frozen=True)
class BlockInfo:
    """The light half of a block; the heavy half, ``Payload``, stays in the object store."""

    items: tuple[BlockItem, ...]
    samples: int

    @property
    def good(self) -> list[BlockItem]:
        """The ROIs that were read."""
        return [item for item in self.items if item.error is None]


@dataclass(frozen=True, eq=False)
class Payload:
    """The heavy half of a block: its samples, stacked by signature."""

    batches: tuple[Batch, ...]


@dataclass(frozen=True, eq=False)
class EncodedBatch:
    """What became of one batch of a payload: tokens where nothing failed, else an outcome each."""

    tokens: TokenBlock
    errors: tuple[tuple[int, RSEmbedError], ...] = ()
    """Position and error of the samples that failed; ``tokens`` holds the others, in order."""

    @classmethod
    def of(cls, outcomes: Sequence[Tokens | RSEmbedError]) -> Self:
        """One outcome for every sample of the batch."""
        errors = tuple((i, entry) for i, entry in enumerate(outcomes) if isinstance(entry, RSEmbedError))
        return cls(TokenBlock.pack([entry for entry in outcomes if isinstance(entry, Tokens)]), errors)


@dataclass(frozen=True, eq=False)
class Encoded:
    """What an encoder replica answers for a group of blocks: per block, per batch."""

    blocks: tuple[tuple[EncodedBatch, ...], ...]
    encoder: EncoderInfo
    encode_ms: float

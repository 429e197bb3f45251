"""Small real fetchers and encoders for the pipeline, in this process: no Ray, no network weights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from rs_embed_core.card import Selection
from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.embedding import EncoderInfo
from rs_embed_core.encoder import Encoder
from rs_embed_core.registry import get_card
from rs_embed_core.tokens import TokenBlock
from serve_app.deployments.fetcher import Fetcher
from serve_app.router import Lost, Reference
from serve_app.settings import FetchSettings, ProviderSettings
from serve_app.wire.blocks import BlockInfo, Encoded, EncodedBatch, Hurry, Item, Payload


@dataclass
class LocalFetchers:
    """The real ``Fetcher``, called directly; ``lose`` says after how many blocks a call dies."""

    size: int = 2
    delay_ms: float = 0
    block_items: int = 4
    linger_ms: float = 5
    lose: Callable[[int], int | None] = lambda call: None
    calls: int = 0
    homes: list[int | None] = field(default_factory=list)
    under_way: set[int] = field(default_factory=set)
    peak: int = 0

    def __post_init__(self) -> None:
        settings = FetchSettings(block_items=self.block_items, concurrency=4, linger_ms=self.linger_ms)
        self._fetcher = Fetcher(settings, ProviderSettings(synthetic_delay_ms=self.delay_ms))

    def share(self, left: int) -> int:
        return left

    async def blocks(
        self, span: Sequence[Item], hurry: Hurry, *, home: int | None = None
    ) -> AsyncIterator[tuple[BlockInfo, Reference]]:
        call, self.calls = self.calls, self.calls + 1
        self.homes.append(home)
        self.under_way |= {item.index for item in span}
        self.peak = max(self.peak, len(self.under_way))
        payload: Payload | None = None
        sent = 0
        async for part in self._fetcher.blocks(span, hurry):
            if isinstance(part, Payload):
                if self.lose(call) is not None and sent >= (self.lose(call) or 0):
                    raise Lost("the actor died")
                payload, sent = part, sent + 1
            elif payload is not None:
                yield part, payload


@dataclass
class LocalEncoder:
    """The real ``Encoder`` of mosaiks; ``fail`` may raise before a call is computed."""

    fail: Callable[[int], None] = lambda call: None
    delay_s: float = 0
    calls: int = 0
    seen: list[int] = field(default_factory=list)
    bulk: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._encoder = Encoder(get_card("mosaiks")[0], "gaussian", checkpoints=Checkpoints(), device="cpu")

    async def encode(self, payloads: Sequence[Reference], selection: Selection, *, bulk: bool = True) -> Encoded:
        self.bulk.append(bulk)
        call, self.calls = self.calls, self.calls + 1
        self.fail(call)
        await asyncio.sleep(self.delay_s)
        blocks = []
        info = EncoderInfo("cpu", "float32", None, ())
        for payload in payloads:
            assert isinstance(payload, Payload)
            batches = []
            for batch in payload.batches:
                self.seen.append(len(batch))
                tokens, info = self._encoder.forward(batch, selection)
                batches.append(EncodedBatch(TokenBlock.pack(tokens)))
            blocks.append(tuple(batches))
        return Encoded(tuple(blocks), info, 1.0)

    async def status(self) -> dict[str, object]:
        return {"status": "ready", "replicas": 1, "message": ""}

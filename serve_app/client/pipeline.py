"""One call: its requests in flight, repeated where they fail, as one stream of outcomes, for both clients."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing

from rs_embed_core.embedding import Embedding
from rs_embed_core.errors import RSEmbedError
from serve_app.client.calls import Call, Part, Splitting, StreamItem, embeddings_of
from serve_app.client.progress import progress_bar
from serve_app.client.transport import Transport
from serve_app.wire.catalogue import aliases_of

_AHEAD = 4  # lists of items a request may be ahead of its consumer

type _Results = asyncio.Queue[list[StreamItem] | Exception | None]
"""Items; None at the end of a part; the error that ends the call."""


class Pipeline:
    """Runs calls over a transport."""

    def __init__(self, transport: Transport, splitting: Splitting, timeout_s: float) -> None:
        self.transport = transport
        self._splitting = splitting
        self._timeout_s = timeout_s

    async def batch(self, call: Call, *, progress: bool | None = False) -> list[Embedding]:
        """The embeddings of a call, in order.

        Raises:
            RSEmbedError: of the first ROI that failed, or of the call as a whole.
        """
        async with aclosing(self.items(call, progress=progress)) as lists:
            items = [item async for some in lists for item in some]
        return embeddings_of(items, len(call.spatials))

    async def several(
        self, calls: Mapping[str, Call], *, progress: bool | None
    ) -> AsyncGenerator[list[tuple[str, StreamItem]]]:
        """Yield the outcomes of calls that run at once, each with the name of its call.

        Raises:
            RSEmbedError: of the first call that cannot be done at all; it ends the others.
        """
        found: asyncio.Queue[list[tuple[str, StreamItem]] | Exception | None] = asyncio.Queue(_AHEAD)

        async def one(name: str, call: Call) -> None:
            try:
                async with aclosing(self.items(call, progress=progress)) as lists:
                    async for items in lists:
                        await found.put([(name, item) for item in items])
            except Exception as error:  # noqa: BLE001 - handed to the consumer, who raises it
                await found.put(error)
            await found.put(None)

        workers = [asyncio.create_task(one(name, call)) for name, call in calls.items()]
        try:
            left = len(workers)
            while left:
                result = await found.get()
                if isinstance(result, Exception):
                    raise result
                if result is None:
                    left -= 1
                else:
                    yield result
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def items(self, call: Call, *, progress: bool | None) -> AsyncGenerator[list[StreamItem]]:
        """Yield every ROI's outcome once, as they come or in order.

        Args:
            progress: draw a bar; None does for a long batch on a terminal.

        Raises:
            RSEmbedError: a request cannot be done at all, and nothing of it arrived.
        """
        parts = call.split(self._splitting.rois)
        # Ordered: a queue for each part, emptied in turn. Else one for all; the loop below is the same.
        shared: _Results = asyncio.Queue(_AHEAD)
        queues = [asyncio.Queue(_AHEAD) if call.ordered else shared for _ in parts]
        todo = iter(list(zip(parts, queues, strict=True)))
        wanted = min(self._splitting.in_flight, len(parts))
        workers = [asyncio.create_task(self._work(todo)) for _ in range(wanted)]
        try:
            with progress_bar(len(call.spatials), wanted=progress) as count:
                for queue in queues:
                    while (result := await queue.get()) is not None:
                        if isinstance(result, Exception):
                            raise result
                        count(result)
                        yield result
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, todo: Iterator[tuple[Part, _Results]]) -> None:
        """Do parts until none is left."""
        for part, results in todo:
            try:
                async with aclosing(self._outcomes(part)) as outcomes:
                    async for items in outcomes:
                        await results.put(items)
            except Exception as error:  # noqa: BLE001 - handed to the consumer, who raises it
                await results.put(error)
                return
            await results.put(None)

    async def _outcomes(self, part: Part) -> AsyncGenerator[list[StreamItem]]:
        """Yield the outcomes of one part; ask again for what is missing."""
        deadline = time.monotonic() + self._timeout_s
        while not part.done:
            job = part.job(max(deadline - time.monotonic(), 1e-3))
            try:
                async with aclosing(self.transport.rows(job)) as stream:
                    async for rows in stream:
                        yield await asyncio.to_thread(part.accept, rows)
                part.check_done()
            except RSEmbedError as error:
                wait = part.wait_s(error, deadline - time.monotonic())
                if wait is not None:
                    await asyncio.sleep(wait)
                elif part.started:
                    yield part.give_up(error)
                else:
                    raise

    async def model_ids(self, *, include_aliases: bool) -> list[str]:
        """Ids of the models that the service knows, sorted; with their other names."""
        names = []
        for model in await self.transport.catalogue():
            names.append(str(model.get("id")))
            if include_aliases:
                names.extend(aliases_of(model))
        return sorted(names)

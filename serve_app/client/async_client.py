"""``AsyncEmbeddingClient``: the service from async code."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self

from rs_embed_core.embedding import Embedding
from rs_embed_core.errors import JSONValue
from rs_embed_core.specs.output import InputPrepSpec, OutputSpec
from rs_embed_core.specs.request import OptionValue
from rs_embed_core.specs.sensor import FetchSpec, SensorSpec
from rs_embed_core.specs.temporal import TemporalSpec
from serve_app.client.calls import Models, Place, Splitting, StreamItem, call_of, calls_of
from serve_app.client.pipeline import Pipeline
from serve_app.client.transport import HttpTransport, Transport


class AsyncEmbeddingClient:
    """``EmbeddingClient`` for async code: the same methods and arguments, awaited.

    Example:
        ```python
        async with AsyncEmbeddingClient("http://127.0.0.1:8000") as client:
            async for item in client.stream_embeddings("mosaiks", spatials=places):
                ...
        ```
    """

    def __init__(
        self,
        base_url: str | Transport,
        *,
        timeout_s: float = 600.0,
        splitting: Splitting = Splitting(),  # noqa: B008 - frozen
    ) -> None:
        transport = HttpTransport(base_url) if isinstance(base_url, str) else base_url
        self._pipeline = Pipeline(transport, splitting, timeout_s)

    @classmethod
    def from_handle(
        cls,
        app_name: str = "rs-embed",
        *,
        timeout_s: float = 600.0,
        splitting: Splitting = Splitting(),  # noqa: B008 - frozen
    ) -> Self:
        """A client for code that runs in the service's own Ray cluster: no HTTP.

        Raises:
            Unavailable: no such Serve application.
        """
        from serve_app.client.handle import HandleTransport  # noqa: PLC0415 - the only import of Ray

        return cls(HandleTransport(app_name), timeout_s=timeout_s, splitting=splitting)

    async def get_embedding(  # noqa: PLR0913 - the signature is rs-embed's
        self,
        model: str,
        *,
        spatial: Place,
        temporal: TemporalSpec | None = None,
        sensor: SensorSpec | None = None,
        fetch: FetchSpec | None = None,
        model_config: Mapping[str, OptionValue] | None = None,
        modality: str | None = None,
        output: OutputSpec = OutputSpec.pooled(),  # noqa: B008 - frozen, and rs-embed's signature
        backend: str = "auto",
        device: str = "auto",
        input_prep: str | InputPrepSpec = "resize",
    ) -> Embedding:
        """The embedding of one ROI; see ``EmbeddingClient.get_embedding``."""
        call = call_of(
            model,
            [spatial],
            device,
            temporal=temporal,
            sensor=sensor,
            fetch=fetch,
            model_config=model_config,
            modality=modality,
            output=output,
            backend=backend,
            input_prep=input_prep,
        )
        return (await self._pipeline.batch(call))[0]

    async def get_embeddings_batch(  # noqa: PLR0913 - the signature is rs-embed's
        self,
        model: str,
        *,
        spatials: Sequence[Place],
        temporal: TemporalSpec | None = None,
        sensor: SensorSpec | None = None,
        fetch: FetchSpec | None = None,
        model_config: Mapping[str, OptionValue] | None = None,
        modality: str | None = None,
        output: OutputSpec = OutputSpec.pooled(),  # noqa: B008 - frozen, and rs-embed's signature
        backend: str = "auto",
        device: str = "auto",
        input_prep: str | InputPrepSpec = "resize",
        progress: bool | None = None,
    ) -> list[Embedding]:
        """The embeddings of many ROIs; see ``EmbeddingClient.get_embeddings_batch``."""
        call = call_of(
            model,
            spatials,
            device,
            temporal=temporal,
            sensor=sensor,
            fetch=fetch,
            model_config=model_config,
            modality=modality,
            output=output,
            backend=backend,
            input_prep=input_prep,
        )
        return await self._pipeline.batch(call, progress=progress)

    def stream_embeddings(  # noqa: PLR0913 - the signature is rs-embed's
        self,
        model: str,
        *,
        spatials: Sequence[Place],
        temporal: TemporalSpec | None = None,
        sensor: SensorSpec | None = None,
        fetch: FetchSpec | None = None,
        model_config: Mapping[str, OptionValue] | None = None,
        modality: str | None = None,
        output: OutputSpec = OutputSpec.pooled(),  # noqa: B008 - frozen, and rs-embed's signature
        backend: str = "auto",
        device: str = "auto",
        input_prep: str | InputPrepSpec = "resize",
        ordered: bool = False,
        progress: bool | None = None,
    ) -> AsyncGenerator[StreamItem]:
        """Yield the outcome of every ROI; see ``EmbeddingClient.stream_embeddings``."""
        call = call_of(
            model,
            spatials,
            device,
            ordered=ordered,
            temporal=temporal,
            sensor=sensor,
            fetch=fetch,
            model_config=model_config,
            modality=modality,
            output=output,
            backend=backend,
            input_prep=input_prep,
        )
        return _flat(self._pipeline.items(call, progress=progress))

    def stream_models(  # noqa: PLR0913 - as ``stream_embeddings``
        self,
        models: Models,
        *,
        spatials: Sequence[Place],
        temporal: TemporalSpec | None = None,
        fetch: FetchSpec | None = None,
        output: OutputSpec = OutputSpec.pooled(),  # noqa: B008 - frozen, and rs-embed's signature
        backend: str = "auto",
        device: str = "auto",
        input_prep: str | InputPrepSpec = "resize",
        ordered: bool = False,
        progress: bool | None = None,
    ) -> AsyncGenerator[tuple[str, StreamItem]]:
        """Yield the outcome of every ROI of every model; see ``EmbeddingClient.stream_models``."""
        calls = calls_of(
            models,
            spatials,
            device,
            ordered=ordered,
            temporal=temporal,
            fetch=fetch,
            output=output,
            backend=backend,
            input_prep=input_prep,
        )
        return _flat(self._pipeline.several(calls, progress=progress))

    async def list_models(self, *, include_aliases: bool = False) -> list[str]:
        """Ids of the models that the service knows, sorted; ``include_aliases``: and their other names."""
        return await self._pipeline.model_ids(include_aliases=include_aliases)

    async def describe_model(self, model: str) -> dict[str, JSONValue]:
        """What the model is and takes, and under ``serving`` the state of its variants here."""
        return await self._pipeline.transport.describe(model)

    async def ready(self) -> dict[str, JSONValue]:
        """``{"ready": bool, "models": {...}}``: whether every model is up, and the state of each."""
        return await self._pipeline.transport.ready()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._pipeline.transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _flat[T](lists: AsyncGenerator[list[T]]) -> AsyncGenerator[T]:
    """Yield items one by one; closing it closes the lists, which ends the requests."""
    async with aclosing(lists):
        async for items in lists:
            for item in items:
                yield item

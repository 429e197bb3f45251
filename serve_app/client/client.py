"""``EmbeddingClient``: the service from blocking code, scripts and notebooks alike."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from types import TracebackType
from typing import Self

from rs_embed_core.embedding import Embedding
from rs_embed_core.errors import JSONValue
from rs_embed_core.specs.output import InputPrepSpec, OutputSpec
from rs_embed_core.specs.request import OptionValue
from rs_embed_core.specs.sensor import FetchSpec, SensorSpec
from rs_embed_core.specs.temporal import TemporalSpec
from serve_app.client.background import Background
from serve_app.client.calls import Models, Place, Splitting, StreamItem, call_of, calls_of
from serve_app.client.pipeline import Pipeline
from serve_app.client.transport import HttpTransport, Transport


class EmbeddingClient:
    """A client of the service with the library's own methods.

    ROIs are ``BBox``, ``PointBuffer`` or their JSON objects, and are checked before anything is sent. Long
    lists are split into several requests; what a lost connection left out is asked for again. Errors are
    the library's own classes.

    Args:
        base_url: of the service, such as ``http://127.0.0.1:8000``; or an ``HttpTransport`` with headers (a
            gateway's ``Authorization``) or TLS settings of your own.
        timeout_s: for each request, waiting and repeating included; the service is told.
        splitting: how a long list becomes requests.

    Example:
        ```python
        with EmbeddingClient("http://127.0.0.1:8000") as client:
            vector = client.get_embedding("mosaiks", spatial=PointBuffer(8.54, 47.37, 640)).data
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
        self._background = Background()

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

    def get_embedding(  # noqa: PLR0913 - the signature is rs-embed's
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
        """The embedding of one ROI; arguments as in ``rs_embed_core.get_embedding``.

        Args:
            device: only ``auto``: the service computes where it runs.

        Raises:
            SpecError, ModelError, ProviderError: with the finer class that says what went wrong.
        """
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
        return self._background.run(self._pipeline.batch(call))[0]

    def get_embeddings_batch(  # noqa: PLR0913 - the signature is rs-embed's
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
        """The embeddings of many ROIs, in the order of ``spatials``.

        Args:
            progress: draw a bar; None does for a long batch on a terminal.

        Raises:
            SpecError, ModelError, ProviderError: of the first ROI that failed; its ``index`` and how many
                ``failed`` are in the context.
        """
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
        return self._background.run(self._pipeline.batch(call, progress=progress))

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
    ) -> Generator[StreamItem]:
        """Yield the outcome of every ROI as it comes: its embedding or its error, once each.

        Args:
            ordered: in the order of ``spatials`` instead.
            progress: draw a bar; None does for a long batch on a terminal.

        Raises:
            SpecError, ModelError, ProviderError: the request as a whole cannot be done.
        """
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
        return _flat(self._background.iterate(self._pipeline.items(call, progress=progress)))

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
    ) -> Generator[tuple[str, StreamItem]]:
        """Yield the outcome of every ROI of every model, with the model's name, as they come.

        The models run at once and share their reads: imagery that several of them need is read once, with the bands
        of all, where the service caches what it reads.

        Args:
            models: ids; or a mapping of names of your own to ``{"model": ..., "model_config": ..., "modality": ...}``.
            ordered: each model's outcomes in the order of ``spatials``.

        Raises:
            SpecError, ModelError, ProviderError: the request of one of them cannot be done as a whole.
        """
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
        return _flat(self._background.iterate(self._pipeline.several(calls, progress=progress)))

    def list_models(self, *, include_aliases: bool = False) -> list[str]:
        """Ids of the models that the service knows, sorted; ``include_aliases``: and their other names."""
        return self._background.run(self._pipeline.model_ids(include_aliases=include_aliases))

    def describe_model(self, model: str) -> dict[str, JSONValue]:
        """What the model is and takes, and under ``serving`` the state of its variants here."""
        return self._background.run(self._pipeline.transport.describe(model))

    def ready(self) -> dict[str, JSONValue]:
        """``{"ready": bool, "models": {...}}``: whether every model is up, and the state of each."""
        return self._background.run(self._pipeline.transport.ready())

    def close(self) -> None:
        """End what is under way and let go of the connections; a second call does nothing."""
        self._background.close(self._pipeline.transport.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _flat[T](lists: Generator[list[T]]) -> Generator[T]:
    """Yield items one by one; closing it closes the lists, which ends the requests."""
    with closing(lists):
        for items in lists:
            yield from items

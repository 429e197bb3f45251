"""Stage route: alias -> card -> variant and modality -> encoder deployment; admission; readiness."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rs_embed_core.card import Selection
from rs_embed_core.errors import InvalidRequest, JSONValue, UnknownModel, UnknownProvider
from rs_embed_core.plan import backend_of, recipe
from rs_embed_core.registry import describe_model, get_card, list_models
from rs_embed_core.specs.request import Ask
from serve_app.settings import LimitSettings, ModelSettings, ProviderSettings
from serve_app.wire.blocks import BlockInfo, Encoded, Hurry, Item
from serve_app.wire.rows import Job


class Lost(Exception):
    """Work went down with a process; it may be sent again."""


class PayloadLost(Lost):
    """The imagery itself is gone: its ROIs must be fetched again."""


class Reference(Protocol):
    """A payload in the object store; only encoders read it."""


class FetchPool(Protocol):
    """The fetch actors, as the router sees them."""

    @property
    def size(self) -> int:
        """How many actors there are."""

    def share(self, left: int) -> int:
        """What the next actor may take of ``left`` ROIs so that in the end all have the same to do."""

    def blocks(
        self, span: Sequence[Item], hurry: Hurry, *, home: int | None = None
    ) -> AsyncIterator[tuple[BlockInfo, Reference]]:
        """Yield the blocks of a span as they are ready.

        Args:
            home: number of the actor that keeps what was read at these places; None takes the least loaded.

        Raises:
            Lost: the actor died; what was not yielded may be sent again.
        """


class EncoderClient(Protocol):
    """One encoder deployment, as the router sees it."""

    async def encode(self, payloads: Sequence[Reference], selection: Selection, *, bulk: bool = True) -> Encoded:
        """Compute a group of blocks.

        Args:
            bulk: of a long job: those of short ones go first.

        Raises:
            Lost: the replica died; the group may be sent again.
            RSEmbedError: the group failed for good (missing weights, no replica to be had).
        """

    async def status(self) -> dict[str, JSONValue]:
        """``{"status": ..., "replicas": n, "message": ...}``; never starts a sleeping model."""


@dataclass(frozen=True)
class Route:
    """Where one job goes.

    Attributes:
        homes: chips are kept for a while, so equal places should go to the same fetch actor.
        lanes: groups of this job under way at its encoder at once.
        deadline: ``time.monotonic()`` at which the job ends, done or not.
    """

    selection: Selection
    encoder: EncoderClient
    fetchers: FetchPool
    limits: LimitSettings
    homes: bool
    lanes: int
    group_samples: int
    deadline: float


@dataclass(frozen=True)
class Deployed:
    """An encoder deployment and the settings it runs with."""

    settings: ModelSettings
    client: EncoderClient


_GROUPS_PER_REPLICA = 3  # two keep a device busy while a third travels; more only adds latency (notes, 2)
_GROUP_SAMPLES = 64
_UP = ("ready", "busy", "sleeping")  # a model that works too hard to answer is up


class Router:
    """Resolves jobs to routes.

    Args:
        encoders: by ``Selection.encoder`` name.
        providers: names that ``backend=`` may say, and what ``auto`` is.
    """

    def __init__(
        self,
        encoders: Mapping[str, Deployed],
        fetchers: FetchPool,
        limits: LimitSettings,
        providers: ProviderSettings,
    ) -> None:
        self._encoders = encoders
        self._fetchers = fetchers
        self._limits = limits
        self._providers = providers

    def route(self, job: Job) -> Route:
        """Where a job goes.

        Raises:
            InvalidRequest: no ROI.
            UnknownModel: no such model, or not served here.
            UnknownProvider: no such backend.
            ModelError: variant, modality or options that the model does not have.
        """
        if not job.spatials:
            raise InvalidRequest("spatials is empty.", hint="Give at least one BBox or PointBuffer.")
        backend = self._backend(job.ask)
        selection = recipe(job.ask).selection
        deployed = self._deployed(selection)
        timeout = min(job.timeout_s or self._limits.timeout_s, self._limits.timeout_s)
        return Route(
            selection=selection,
            encoder=deployed.client,
            fetchers=self._fetchers,
            limits=self._limits,
            homes=backend in self._providers.cached,
            lanes=_GROUPS_PER_REPLICA * deployed.settings.max_replicas,
            group_samples=_GROUP_SAMPLES,
            deadline=time.monotonic() + timeout,
        )

    def _backend(self, ask: Ask) -> str:
        known = self._providers.names
        name = backend_of(ask, self._providers.default)
        if name not in known:
            raise UnknownProvider(
                f"there is no backend {name!r} here.",
                hint=f"Backends here are auto, {', '.join(known)}; others are set up under providers in the settings.",
                context={"known": list(known)},
            )
        return name

    def _deployed(self, selection: Selection) -> Deployed:
        try:
            return self._encoders[selection.encoder]
        except KeyError:
            served = ", ".join(sorted(self._encoders))
            raise UnknownModel(
                f"{selection.model} ({selection.variant}) is not served here.",
                hint=f"Served: {served}. Add it to the service's models to serve it.",
                code="model_not_served",
                context={"served": sorted(self._encoders)},
            ) from None

    async def ready(self) -> dict[str, JSONValue]:
        """Whether every model that should be up is, and the state of each."""
        names = sorted(self._encoders)
        states = await asyncio.gather(*(self._encoders[name].client.status() for name in names))
        models = dict(zip(names, states, strict=True))
        return {"ready": all(state["status"] in _UP for state in states), "models": models}

    async def catalogue(self) -> list[dict[str, JSONValue]]:
        """``describe_model`` of every model, each with ``serving``: the state of its variants served here."""
        states = (await self.ready())["models"]
        out = []
        for model in list_models():
            entry = describe_model(model)
            entry["serving"] = {
                variant: states[name]
                for variant in get_card(model)[0].variants
                if isinstance(states, Mapping) and (name := encoder_name(model, variant)) in states
            }
            out.append(entry)
        return out


def encoder_name(model: str, variant: str) -> str:
    """The name of the deployment of a model variant."""
    return Selection(model, variant, "", ()).encoder


def default_ask(settings: ModelSettings) -> tuple[Ask, Selection]:
    """What a deployment serves: its model and variant, everything else at its default.

    Raises:
        UnknownModel, UnknownOption: the settings name something that does not exist.
    """
    config = () if settings.variant is None else (("variant", settings.variant),)
    ask = Ask(model=settings.model, model_config=config)
    card, alias = get_card(settings.model)
    return ask, card.select(ask, alias)

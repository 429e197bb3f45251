"""Stage fetch: the providers that the settings name, made; no Ray, and no provider's SDK before the first read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rs_embed_core.providers.base import Provider
from rs_embed_core.providers.calls import Turnstile
from rs_embed_core.providers.copernicus import CopernicusProvider
from rs_embed_core.providers.gee import GeeProvider
from rs_embed_core.providers.stac import StacProvider
from rs_embed_core.providers.tessera import TesseraProvider
from serve_app.settings import ProviderSettings


def set_up(settings: ProviderSettings, gates: Mapping[str, Turnstile] | None = None) -> Iterator[tuple[Provider, str]]:
    """Yield each provider, and the text of those of its settings that change pixels.

    Args:
        gates: by provider; one without passes a gate of its own.
    """
    given = gates or {}
    gee, stac, tessera, copernicus = settings.gee, settings.stac, settings.tessera, settings.copernicus
    if gee is not None:
        yield GeeProvider(gee.plain(), given.get("gee")), str(gee.url)
    if stac is not None:
        yield (
            StacProvider(stac.plain(), given.get("stac")),
            stac.model_dump_json(exclude={"at_once", "timeout_s", "token_url"}),
        )
    if tessera is not None:
        yield TesseraProvider(tessera.plain()), tessera.model_dump_json(exclude={"offline"})
    if copernicus is not None:
        yield CopernicusProvider(copernicus.plain()), copernicus.model_dump_json(exclude={"offline"})

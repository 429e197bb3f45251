"""The table of providers by name. Importing it loads no provider's SDK."""

from __future__ import annotations

from collections.abc import Callable

from rs_embed_core.errors import InvalidRequest, UnknownProvider
from rs_embed_core.providers.base import Provider


def _synthetic() -> Provider:
    from rs_embed_core.providers.synthetic import SyntheticProvider

    return SyntheticProvider()


def _gee() -> Provider:
    from rs_embed_core.providers.gee import GeeProvider, GeeSettings

    return GeeProvider(GeeSettings())


def _stac() -> Provider:
    from rs_embed_core.providers.stac import StacProvider, StacSettings

    return StacProvider(StacSettings())


def _tessera() -> Provider:
    from rs_embed_core.providers.tessera import TesseraProvider, TesseraSettings

    return TesseraProvider(TesseraSettings())


def _copernicus() -> Provider:
    from rs_embed_core.providers.copernicus import CopernicusProvider, CopernicusSettings

    return CopernicusProvider(CopernicusSettings())


_FACTORIES: dict[str, Callable[[], Provider]] = {
    "synthetic": _synthetic,
    "gee": _gee,
    "stac": _stac,
    "tessera": _tessera,
    "copernicus": _copernicus,
}
_PROVIDERS: dict[str, Provider] = {}


def register_provider(name: str, provider: Provider) -> None:
    """Make ``backend=name`` read from ``provider`` in this process (replaces one of the same name).

    Raises:
        InvalidRequest: not a name, or not a provider (a class is none, its instance is).
    """
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"name is {name!r}.", hint="Give what backend= will say.")
    if isinstance(provider, type) or not isinstance(provider, Provider):
        raise InvalidRequest(f"provider is {provider!r}.", hint="Give an object with a name and fetch(plan).")
    _PROVIDERS[name] = provider


def provider_names() -> list[str]:
    """Names that ``get_provider`` knows, sorted."""
    return sorted({*_FACTORIES, *_PROVIDERS})


def get_provider(name: str) -> Provider:
    """The provider of a name, built on first use.

    Raises:
        UnknownProvider: no such name; the hint lists the known ones.
    """
    if name not in _PROVIDERS:
        if name not in _FACTORIES:
            known = provider_names()
            msg = f"there is no backend {name!r}."
            hint = f"Backends are auto, {', '.join(known)}; register_provider() adds one."
            raise UnknownProvider(msg, hint=hint, context={"known": list(known)})
        _PROVIDERS[name] = _FACTORIES[name]()
    return _PROVIDERS[name]

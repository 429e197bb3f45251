"""Stage fetch: the providers of one fetch actor, as the settings say, behind gates and a cache."""

from __future__ import annotations

from dataclasses import dataclass, field

import ray
from ray.exceptions import RayError

from rs_embed_core.chip import Chip
from rs_embed_core.providers.base import Provider
from rs_embed_core.providers.cache import CachedProvider, LruShelf, Shelf
from rs_embed_core.providers.disk import DiskShelf
from rs_embed_core.providers.gate import Gate
from rs_embed_core.providers.synthetic import SyntheticProvider
from serve_app.providers import set_up
from serve_app.settings import CacheSettings, ProviderSettings


@dataclass(frozen=True)
class ProviderTable:
    """The providers by name, the gates of those whose service has a quota, and the shelves that all share."""

    providers: dict[str, Provider]
    gates: dict[str, Gate] = field(default_factory=dict)
    shelves: dict[str, Shelf] = field(default_factory=dict)

    @classmethod
    def build(cls, settings: ProviderSettings, cache: CacheSettings) -> ProviderTable:
        """The table that the settings describe."""
        gates = {name: Gate(quota, name=name) for name, quota in settings.quotas.items()}
        shelves = _shelves(cache)
        providers: dict[str, Provider] = {"synthetic": SyntheticProvider(delay_s=settings.synthetic_delay_ms / 1e3)}
        for provider, scope in set_up(settings, gates):
            kept = CachedProvider(provider, shelves, no_imagery_s=cache.no_imagery_s, scope=scope)
            providers[provider.name] = kept
        return cls(providers, gates, shelves)


def _shelves(cache: CacheSettings) -> dict[str, Shelf]:
    shelves: dict[str, Shelf] = {"memory": object_store_shelf(1e6 * cache.memory_mb)}
    if cache.disk_path is not None:
        shelves["disk"] = DiskShelf(cache.disk_path.expanduser(), 1e6 * cache.disk_mb)
    return shelves


def object_store_shelf(nbytes: float) -> LruShelf[ray.ObjectRef[Chip]]:
    """Chips in Ray's object store: every reader shares the same memory, and what is too much spills to disk."""
    return LruShelf(nbytes, keep=ray.put, take=_taken)


def _taken(reference: ray.ObjectRef[Chip]) -> Chip | None:
    try:
        chip: Chip = ray.get(reference)
    except RayError:
        return None
    return chip

"""The ``copernicus`` provider: one global map of embeddings, a quarter of a degree a cell."""

from rs_embed_core.providers.copernicus.provider import CopernicusProvider
from rs_embed_core.providers.copernicus.source import CopernicusSettings

__all__ = ["CopernicusProvider", "CopernicusSettings"]

"""Stage fetch: the ``gee`` provider, imagery from Google Earth Engine (see ``provider.py``)."""

from rs_embed_core.providers.gee.provider import GeeProvider
from rs_embed_core.providers.gee.session import GeeSettings

__all__ = ["GeeProvider", "GeeSettings"]

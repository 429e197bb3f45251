"""Stage fetch: the ``stac`` provider, public STAC catalogues and Cloud-Optimized GeoTIFFs; needs no account."""

from rs_embed_core.providers.stac.provider import StacProvider
from rs_embed_core.providers.stac.settings import StacSettings

__all__ = ["StacProvider", "StacSettings"]

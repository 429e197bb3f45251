"""The ``tessera`` provider: yearly embeddings of 10 m pixels, in tiles of a tenth of a degree."""

from rs_embed_core.providers.tessera.library import TesseraSettings
from rs_embed_core.providers.tessera.provider import TesseraProvider

__all__ = ["TesseraProvider", "TesseraSettings"]

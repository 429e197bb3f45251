"""The client of the service: over HTTP, or over the Serve handle in a Ray job. Loads no Ray and no torch."""

from serve_app.client.async_client import AsyncEmbeddingClient
from serve_app.client.calls import Splitting, StreamItem
from serve_app.client.client import EmbeddingClient
from serve_app.client.transport import HttpTransport

__all__ = ["AsyncEmbeddingClient", "EmbeddingClient", "HttpTransport", "Splitting", "StreamItem"]

"""The HTTP application: an ASGI app around a ``Service``. Knows no Ray."""

"""Stage fetch: the ``synthetic`` provider, deterministic imagery for tests, the demo and benchmarks."""

from rs_embed_core.providers.synthetic.provider import SyntheticProvider

__all__ = ["SyntheticProvider"]

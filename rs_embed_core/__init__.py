"""Earth embeddings as a library: no Ray, no HTTP, no environment variables.

Public names are imported on first use, so that ``import rs_embed_core`` and listing models load no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rs_embed_core.embedding import Embedding
    from rs_embed_core.engine import configure
    from rs_embed_core.errors import ModelError, ProviderError, RSEmbedError, SpecError
    from rs_embed_core.from_data import (
        get_embedding_from_data,
        get_embeddings_batch_from_data,
        list_models_for_data,
    )
    from rs_embed_core.local import get_embedding, get_embeddings_batch
    from rs_embed_core.providers import register_provider
    from rs_embed_core.registry import describe_model, list_models, register_model
    from rs_embed_core.specs.data import UserData
    from rs_embed_core.specs.output import InputPrepSpec, OutputSpec
    from rs_embed_core.specs.sensor import FetchSpec, SensorSpec
    from rs_embed_core.specs.spatial import BBox, PointBuffer
    from rs_embed_core.specs.temporal import TemporalSpec

_HOMES = {
    "BBox": "specs.spatial",
    "Embedding": "embedding",
    "FetchSpec": "specs.sensor",
    "InputPrepSpec": "specs.output",
    "ModelError": "errors",
    "OutputSpec": "specs.output",
    "PointBuffer": "specs.spatial",
    "ProviderError": "errors",
    "RSEmbedError": "errors",
    "SensorSpec": "specs.sensor",
    "SpecError": "errors",
    "TemporalSpec": "specs.temporal",
    "UserData": "specs.data",
    "configure": "engine",
    "describe_model": "registry",
    "get_embedding": "local",
    "get_embedding_from_data": "from_data",
    "get_embeddings_batch": "local",
    "get_embeddings_batch_from_data": "from_data",
    "list_models": "registry",
    "list_models_for_data": "from_data",
    "register_model": "registry",
    "register_provider": "providers",
}

__all__ = [
    "BBox",
    "Embedding",
    "FetchSpec",
    "InputPrepSpec",
    "ModelError",
    "OutputSpec",
    "PointBuffer",
    "ProviderError",
    "RSEmbedError",
    "SensorSpec",
    "SpecError",
    "TemporalSpec",
    "UserData",
    "configure",
    "describe_model",
    "get_embedding",
    "get_embedding_from_data",
    "get_embeddings_batch",
    "get_embeddings_batch_from_data",
    "list_models",
    "list_models_for_data",
    "register_model",
    "register_provider",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value: object = vars(importlib.import_module(f"{__name__}.{_HOMES[name]}"))[name]
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

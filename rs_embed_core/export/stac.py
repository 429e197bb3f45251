"""What a set of embeddings says about itself: a STAC Collection with the Embedding extension (``emb:``)."""

from __future__ import annotations

from collections.abc import Mapping

from rs_embed_core.errors import JSONValue, UnknownModel
from rs_embed_core.registry import describe_model

EMB_EXTENSION = "https://stac-extensions.github.io/embeddings/v0.0.1/schema.json"
PROCESSING_EXTENSION = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"
_EARTH_ENGINE = "https://developers.google.com/earth-engine/datasets/catalog/"

type Extent = tuple[float, float, float, float]
"""west, south, east, north in degrees."""


def collection(meta: Mapping[str, JSONValue], extent: Extent, dimensions: int) -> dict[str, JSONValue]:
    """The STAC Collection of embeddings that were all made in one way.

    Args:
        meta: ``Embedding.meta`` of one of them.
        extent: of all of them.
        dimensions: length of a vector.
    """
    sensor, window = _object(meta, "sensor"), _object(meta, "temporal")
    frames = _object(meta, "frames").get("used", 1)
    series = isinstance(frames, int) and frames > 1
    title = f"{meta.get('model')} {meta.get('variant')}, {window.get('start')} to {window.get('end')}"
    out: dict[str, JSONValue] = {
        "stac_version": "1.0.0",
        "stac_extensions": [EMB_EXTENSION, PROCESSING_EXTENSION],
        "type": "Collection",
        "id": "-".join(str(meta.get(key)) for key in ("model", "variant", "modality"))
        + f"-{window.get('start')}-{window.get('end')}",
        "title": title,
        "description": f"Pooled embeddings of areas of interest: {title}, from {meta.get('source')}.",
        "license": "various",  # depends on the weights and on the imagery; the links say which
        "extent": {
            "spatial": {"bbox": [list(extent)]},
            "temporal": {"interval": [[_instant(window.get("start")), _instant(window.get("end"))]]},
        },
        "emb:type": "chip",
        "emb:dimensions": dimensions,
        "data_type": "float32",
        "emb:chip_layout": {"layout_type": "variable_grid"},
        "emb:temporal_resolution": "time_series" if series else "composite",
        "providers": [_processor(meta)],
        "links": [_model_link(meta), _source_link(meta)],
    }
    scale = sensor.get("scale_m")
    if isinstance(scale, int | float):
        out["gsd"] = scale
    return out


def _object(meta: Mapping[str, JSONValue], key: str) -> dict[str, JSONValue]:
    value = meta.get(key)
    return value if isinstance(value, dict) else {}


def _instant(day: JSONValue) -> JSONValue:
    return f"{day}T00:00:00Z" if isinstance(day, str) else None


def _processor(meta: Mapping[str, JSONValue]) -> dict[str, JSONValue]:
    """Who made them and how: versions, the preprocessing chain and the model's options."""
    prep = _object(meta, "input_prep")
    return {
        "name": "rs-embed-serve",
        "roles": ["processor"],
        "processing:software": {key: str(value) for key, value in _object(meta, "versions").items()},
        "processing:expression": {"format": "rs-embed-chain", "expression": prep.get("chain")},
        "rs_embed:model_config": _object(meta, "model_config"),
        "rs_embed:input_prep": prep,
        "rs_embed:pooling": meta.get("pooling"),
        "rs_embed:sensor": _object(meta, "sensor"),
    }


def _model_link(meta: Mapping[str, JSONValue]) -> dict[str, JSONValue]:
    checkpoint, model = _object(meta, "checkpoint"), str(meta.get("model"))
    if checkpoint:
        href = f"https://huggingface.co/{checkpoint.get('repo')}/blob/{checkpoint.get('revision')}/{checkpoint.get('file')}"
        return {"rel": "emb:model", "href": href, "title": f"{model}, sha256 {checkpoint.get('sha256')}"}
    try:
        href = str(describe_model(model)["code"])
    except UnknownModel:  # a model that only the service knows
        href = f"urn:rs-embed:model:{model}"
    return {"rel": "emb:model", "href": href, "title": model}


def _source_link(meta: Mapping[str, JSONValue]) -> dict[str, JSONValue]:
    source, backend = str(meta.get("source")), str(meta.get("backend"))
    href = f"urn:rs-embed:source:{backend}:{source}"
    if backend == "gee":
        href = _EARTH_ENGINE + source.replace("/", "_")
    return {"rel": "emb:source-data", "href": href, "title": f"{source} ({backend})"}

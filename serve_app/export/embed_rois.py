"""``EmbedRois``: embeddings inside a Ray Data pipeline of your own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError
from pydantic_core import to_json

from rs_embed_core.errors import InvalidRequest, RSEmbedError
from rs_embed_core.specs.spatial import Spatial, spatial_from_dict
from serve_app.observe.measures import belong_to

if TYPE_CHECKING:
    from serve_app.wire.rows import Row

_PLACES = (("minlon", "minlat", "maxlon", "maxlat"), ("lon", "lat", "buffer_m"))


class EmbedRois:
    """A Ray Data UDF: rows with a place in, the same rows with embeddings out.

    A place is the columns ``minlon, minlat, maxlon, maxlat`` or ``lon, lat, buffer_m``. Each model adds three
    columns: its name (the vector, null where there is none), ``<name>_meta`` (JSON) and ``<name>_problem`` (JSON,
    null where there is a vector). Models of the same imagery share its reads.

    Args:
        models: ids; or a mapping of names of your own to ``{"model": ..., "model_config": ..., "modality": ...}``.
        settings: providers, ``fetch`` and checkpoints, as in the service's settings.
        workers: device, precision and ``cpu_threads``, as in an export's ``workers``.
        how: ``temporal``, ``fetch``, ``output``, ``input_prep``, ``backend`` as JSON, as in a job file.

    Raises:
        SpecError, ModelError: the models cannot be asked so, or their weights are missing.
        UnknownProvider: the backend is not set up.

    Example:
        ```python
        rows = ray.data.read_parquet("places.parquet").map_batches(
            EmbedRois,
            fn_constructor_kwargs={"models": ["mosaiks"], "temporal": {"year": 2022}},
            batch_format="pyarrow",
            batch_size=64,
            concurrency=2,
        )
        ```
    """

    def __init__(
        self,
        models: Sequence[str] | Mapping[str, Mapping[str, Any]],
        *,
        settings: Mapping[str, Any] | None = None,
        workers: Mapping[str, Any] | None = None,
        **how: object,
    ) -> None:
        from serve_app.export.encoding import Encoding  # noqa: PLC0415 - torch and Ray, only in the actor
        from serve_app.export.job import checked_job  # noqa: PLC0415 - see above
        from serve_app.export.reading import Reading  # noqa: PLC0415 - see above
        from serve_app.settings import load_settings  # noqa: PLC0415 - see above

        job = checked_job(
            {"rois": "-", "out": "-", "models": models, "workers": workers or {}, "settings": settings or {}, **how}
        )
        try:
            known = load_settings(flags=job.settings)
        except ValidationError as error:
            raise InvalidRequest(
                f"settings are wrong: {error}", hint="docs/reference/settings.md lists them."
            ) from error
        belong_to("embed-rois")
        self._labels = tuple(asks := job.asks())
        self._reading = Reading(asks, known, timeout_s=job.read_timeout_s, quota="embed-rois-quota")
        self._encoding = Encoding(asks, job.workers, known.checkpoints)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The rows with their embeddings."""
        rois, problems = _rois(batch)
        blocks = self._reading.read(list(rois.items()), self._labels)
        for label in self._labels:
            rows, _ = self._encoding.rows(label, blocks[label], rois)
            for name, column in _columns(label, rows, problems, batch.num_rows):
                place = batch.schema.get_field_index(name)  # a second pass computes it again
                batch = batch.append_column(name, column) if place < 0 else batch.set_column(place, name, column)
        return batch


def _rois(batch: pa.Table) -> tuple[dict[int, Spatial], dict[int, RSEmbedError]]:
    """The places of the rows, and what is wrong with those that have none."""
    names = next((names for names in _PLACES if set(names) <= set(batch.column_names)), None)
    if names is None:
        msg = f"the columns are {', '.join(batch.column_names)}."
        raise InvalidRequest(msg, hint=f"Give {' or '.join(', '.join(names) for names in _PLACES)}.")
    rois: dict[int, Spatial] = {}
    problems: dict[int, RSEmbedError] = {}
    for index, row in enumerate(batch.select(names).to_pylist()):
        try:
            rois[index] = spatial_from_dict(row)
        except RSEmbedError as error:
            problems[index] = error
    return rois, problems


def _columns(
    label: str, rows: Sequence[Row], problems: Mapping[int, RSEmbedError], count: int
) -> list[tuple[str, pa.Array]]:
    """The three columns of a model."""
    found = {row.index: row for row in rows}
    errors = {**problems, **{row.index: row.error for row in rows if row.error is not None}}
    good = [found[i] if i in found and i not in errors else None for i in range(count)]
    vectors = [None if row is None or row.data is None else np.asarray(row.data, np.float32) for row in good]
    metas = [None if row is None else row.meta for row in good]
    said = [_said(errors[i]) if i in errors else None for i in range(count)]
    return [
        (label, pa.array(vectors, pa.list_(pa.float32()))),
        (f"{label}_meta", pa.array(metas, pa.string())),
        (f"{label}_problem", pa.array(said, pa.string())),
    ]


def _said(error: RSEmbedError) -> str:
    return to_json({"code": error.code, "message": error.message, "hint": error.hint}).decode()

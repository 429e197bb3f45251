"""What goes along with the rows of an export: columns of the file of ROIs, and its geometries."""

from __future__ import annotations

import pyarrow as pa

from serve_app.export.parts import Part, digest


def columns_digest(columns: pa.Table | None, part: Part) -> str:
    """Of what goes along with the rows of a part; empty where nothing does.

    Args:
        columns: of all rows of the file.
    """
    if columns is None or not columns.num_columns:
        return ""
    own = columns.take(list(part.indices))
    return digest([str(own.schema.remove_metadata()), repr(own.to_pylist())])

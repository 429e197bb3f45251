"""``rs-embed embed``: embeddings of one or many ROIs, shown or written to a file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from serve_app.commands.asking import add_asking, add_place, answers, asking_of, spatials_of
from serve_app.commands.command import Failed, Lines, Subcommands, add_command, add_json, dumps

if TYPE_CHECKING:
    from rs_embed_core.embedding import Embedding
    from rs_embed_core.specs.spatial import Spatial
    from serve_app.client import StreamItem

_EXAMPLES = (
    "rs-embed embed mosaiks --point 8.54 47.37 640 --year 2022",
    "rs-embed embed dofa --bbox 8.5 47.3 8.6 47.4 --year 2022 --output grid --input-prep tile --out grid.tif",
    "rs-embed embed galileo --rois fields.geojson --year 2022 --out fields.parquet",
    "rs-embed embed mosaiks --point 8.54 47.37 640 --local --json",
)
_SHOWN = 6


def add(commands: Subcommands) -> None:
    """Add ``embed``."""
    summary = "embed one or many ROIs"
    parser = add_command(commands, "embed", embed, summary=summary, examples=_EXAMPLES)
    parser.add_argument("model", metavar="MODEL", help="id or alias; rs-embed models lists them")
    add_place(parser, many=True)
    add_asking(parser, input_prep="resize")
    what = parser.add_argument_group("what")
    what.add_argument("--output", choices=("pooled", "grid"), default="pooled", help="one vector, or a field of them")
    what.add_argument("--pooling", choices=("mean", "max"), default="mean", help="how a vector is pooled")
    text = "write .parquet (GeoParquet of vectors), .npy, or .tif (GeoTIFF of one grid)"
    what.add_argument("--out", metavar="FILE", help=text)
    add_json(parser)


def embed(args: argparse.Namespace) -> Lines:
    """Yield what came back.

    Raises:
        Failed: some ROIs did.
    """
    from rs_embed_core.specs.output import OutputSpec

    if args.out:
        from serve_app.commands.files import check_format  # before anything is computed

        check_format(args.out, args.output)
    output = OutputSpec.pooled(args.pooling) if args.output == "pooled" else OutputSpec.grid()
    spatials, asking = spatials_of(args), asking_of(args, output)
    with answers(args, spatials, asking) as items:
        found = sorted(items, key=lambda item: item.index)
    if len(spatials) == 1 and found[0].error is not None:
        raise found[0].error
    good = [(item.index, item.embedding) for item in found if item.embedding is not None]
    if args.out and good:
        _write(args.out, good, spatials)
    if args.json:
        yield dumps({"embeddings": [_json(item, with_data=not args.out) for item in found], "out": args.out})
    else:
        yield from _lines(found, args.out)
    if len(good) < len(found):
        raise Failed


def _write(out: str, good: Sequence[tuple[int, Embedding]], spatials: Sequence[Spatial]) -> None:
    from serve_app.commands.files import write

    indices = [index for index, _ in good]
    write(Path(out), [embedding for _, embedding in good], [spatials[i] for i in indices], indices)


def _json(item: StreamItem, *, with_data: bool) -> dict[str, object]:
    if item.embedding is None:
        from serve_app.wire.problems import to_problem

        return {"index": item.index, "problem": None if item.error is None else to_problem(item.error)}
    import numpy as np

    values = np.asarray(item.embedding.data)
    facts: dict[str, object] = {"index": item.index, "shape": list(values.shape)}
    if with_data:
        facts["embedding"] = values.tolist()
    return facts | {"meta": item.embedding.meta}


def _lines(found: Sequence[StreamItem], out: str | None) -> Lines:
    """Yield a line for each ROI, or only what failed where the rest is in a file."""
    for item in found:
        if item.embedding is None:
            yield f"{item.index}: failed: {item.error}"
        elif out is None:
            yield f"{item.index}: {_shown(item.embedding)}"
    good = sum(item.embedding is not None for item in found)
    if out is not None and good:
        yield f"{good} of {len(found)} ROIs written to {out}"


def _shown(embedding: Embedding) -> str:
    import numpy as np

    values = np.asarray(embedding.data)
    first = " ".join(f"{value:.5g}" for value in values.ravel()[:_SHOWN])
    kind = f"{values.shape[0]} values" if values.ndim == 1 else " x ".join(map(str, values.shape))
    return f"{embedding.meta.get('model')} {embedding.meta.get('variant')}, {kind}: {first} ..."

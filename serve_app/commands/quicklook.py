"""``rs-embed quicklook``: a picture of a place as a model sees it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from serve_app.commands.asking import Asking, add_asking, add_place, answers, asking_of, spatials_of
from serve_app.commands.command import Lines, Subcommands, add_command

if TYPE_CHECKING:
    from rs_embed_core.embedding import Embedding
    from rs_embed_core.quicklook import Picture
    from rs_embed_core.specs.spatial import Spatial

_EXAMPLES = (
    "rs-embed quicklook mosaiks --point 8.54 47.37 1250 --year 2022 --out zurich.png",
    "rs-embed quicklook dofa --bbox 8.5 47.35 8.55 47.4 --year 2022 --local --out zurich.png",
)


def add(commands: Subcommands) -> None:
    """Add ``quicklook``."""
    summary = "draw a grid in false colour beside the imagery"
    parser = add_command(commands, "quicklook", quicklook, summary=summary, examples=_EXAMPLES)
    parser.add_argument("model", metavar="MODEL", help="id or alias; rs-embed models lists them")
    add_place(parser, many=False)
    add_asking(parser, input_prep="tile")
    parser.add_argument("--out", metavar="FILE.png", required=True, help="the picture to write")
    parser.add_argument("--height", type=int, default=512, help="of the picture in pixels (default: %(default)s)")


def quicklook(args: argparse.Namespace) -> Lines:
    """Yield what was drawn."""
    from rs_embed_core.quicklook import pca_rgb, save_png
    from rs_embed_core.specs.output import OutputSpec

    spatials = spatials_of(args)
    asking = asking_of(args, OutputSpec.grid())
    with answers(args, spatials, asking) as items:
        item = next(iter(items))
    if item.embedding is None:
        raise item.error or RuntimeError("neither a grid nor an error")
    pictures = [pca_rgb(item.embedding.data)]
    imagery = _imagery(args.model, spatials[0], asking, item.embedding)
    if isinstance(imagery, str):
        yield f"without the imagery: {imagery}"
    else:
        pictures.insert(0, imagery)
    path = save_png(args.out, *pictures, height=args.height)
    height, width = pictures[-1].shape[:2]
    yield f"{path}: {'imagery and ' if len(pictures) > 1 else ''}{height} x {width} cells of {args.model}"


def _imagery(model: str, spatial: Spatial, asking: Asking, embedding: Embedding) -> Picture | str:
    """The place in natural colour, read here from the provider that the result names; or why not."""
    from rs_embed_core.errors import RSEmbedError
    from rs_embed_core.providers import get_provider
    from rs_embed_core.quicklook import input_rgb
    from rs_embed_core.specs.request import Ask, EmbedRequest

    ask = Ask(model, temporal=asking["temporal"])
    try:
        return input_rgb(EmbedRequest(ask, spatial), get_provider(str(embedding.meta.get("backend"))))
    except RSEmbedError as error:
        return str(error)

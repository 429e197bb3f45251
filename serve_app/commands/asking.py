"""The arguments that say what to embed, shared by ``embed`` and ``quicklook``, and who answers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypedDict

from serve_app.commands.command import DEFAULT_URL
from serve_app.commands.configuration import read_settings

if TYPE_CHECKING:
    from rs_embed_core.specs.output import OutputSpec
    from rs_embed_core.specs.request import OptionValue
    from rs_embed_core.specs.sensor import FetchSpec
    from rs_embed_core.specs.spatial import Spatial
    from rs_embed_core.specs.temporal import TemporalSpec
    from serve_app.client import StreamItem


class Asking(TypedDict):
    """The keyword arguments of ``get_embeddings_batch`` that the command line has."""

    temporal: TemporalSpec | None
    fetch: FetchSpec | None
    model_config: dict[str, OptionValue]
    modality: str | None
    output: OutputSpec
    backend: str
    input_prep: str


def add_place(parser: argparse.ArgumentParser, *, many: bool) -> None:
    """``--bbox``, ``--point`` and, for many ROIs, ``--rois``."""
    place = parser.add_argument_group("where (one of them)").add_mutually_exclusive_group(required=True)
    place.add_argument(
        "--bbox",
        nargs=4,
        type=float,
        metavar=("WEST", "SOUTH", "EAST", "NORTH"),
        help="a box in degrees",
    )
    place.add_argument(
        "--point",
        nargs=3,
        type=float,
        metavar=("LON", "LAT", "BUFFER"),
        help="the square of half side BUFFER metres around a point",
    )
    if many:
        text = "GeoJSON, CSV (minlon,minlat,maxlon,maxlat or lon,lat,buffer_m), Parquet or GeoParquet"
        place.add_argument("--rois", metavar="FILE", help=text)


def add_asking(parser: argparse.ArgumentParser, *, input_prep: str) -> None:
    """When, how, and who answers."""
    when = parser.add_argument_group("when (default: the model's own window)")
    when.add_argument("--start", metavar="DATE", help="first day, such as 2022-06-01")
    when.add_argument("--end", metavar="DATE", help="first day after the window")
    when.add_argument("--year", type=int, help="a calendar year instead")
    how = parser.add_argument_group("how")
    how.add_argument("--variant", help="size or release of the model")
    how.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the model (rs-embed models ID lists them); may be repeated",
    )
    how.add_argument("--modality", help="which of the model's inputs")
    how.add_argument("--scale-m", type=float, help="pixel size asked of the provider, in metres")
    how.add_argument("--backend", default="auto", help="where imagery comes from (default: auto)")
    how.add_argument(
        "--input-prep",
        choices=("resize", "tile", "auto"),
        default=input_prep,
        help="how an ROI larger than the model's input is prepared (default: %(default)s)",
    )
    who = parser.add_argument_group("who answers").add_mutually_exclusive_group()
    who.add_argument("--url", default=DEFAULT_URL, help="a running service (default: %(default)s)")
    who.add_argument("--local", action="store_true", help="this process, without Ray")


def spatials_of(args: argparse.Namespace) -> list[Spatial]:
    """The ROIs that the arguments name.

    Raises:
        InvalidRequest: a place that is none, or a file that cannot be read.
    """
    from rs_embed_core.specs.spatial import BBox, PointBuffer

    if args.bbox is not None:
        return [BBox(*args.bbox)]
    if args.point is not None:
        return [PointBuffer(*args.point)]
    from serve_app.commands.rois import read_rois

    return read_rois(args.rois)


def asking_of(args: argparse.Namespace, output: OutputSpec) -> Asking:
    """The request's keyword arguments.

    Raises:
        InvalidRequest: what a spec refuses.
    """
    from rs_embed_core.specs.sensor import FetchSpec

    config = dict(_option(text) for text in args.set)
    if args.variant is not None:
        config["variant"] = args.variant
    return Asking(
        temporal=_temporal(args),
        fetch=None if args.scale_m is None else FetchSpec(scale_m=args.scale_m),
        model_config=config,
        modality=args.modality,
        output=output,
        backend=args.backend,
        input_prep=args.input_prep,
    )


def _temporal(args: argparse.Namespace) -> TemporalSpec | None:
    from rs_embed_core.errors import InvalidRequest
    from rs_embed_core.specs.temporal import TemporalSpec

    ranged = args.start is not None or args.end is not None
    if args.year is not None and ranged:
        raise InvalidRequest("--year and --start or --end are given.", hint="Give one or the other.")
    if args.year is not None:
        return TemporalSpec("year", year=args.year)
    return TemporalSpec.range(args.start, args.end) if ranged else None


def _option(text: str) -> tuple[str, OptionValue]:
    """``key=value`` with the value as a boolean, a number or text."""
    from rs_embed_core.errors import InvalidRequest

    name, separator, value = text.partition("=")
    if not separator or not name:
        raise InvalidRequest(f"--set {text} has no value.", hint="Write --set KEY=VALUE.")
    if value.lower() in ("true", "false"):
        return name, value.lower() == "true"
    for number in (int, float):
        try:
            return name, number(value)
        except ValueError:
            continue
    return name, value


@contextmanager
def answers(args: argparse.Namespace, spatials: Sequence[Spatial], asking: Asking) -> Iterator[Iterator[StreamItem]]:
    """The outcome of every ROI, from this process or from the service; the block ends the request."""
    if args.local:
        yield _local(args.model, spatials, asking)
        return
    from serve_app.client import EmbeddingClient

    with EmbeddingClient(args.url) as client:
        yield client.stream_embeddings(args.model, spatials=spatials, **asking)


def _local(model: str, spatials: Sequence[Spatial], asking: Asking) -> Iterator[StreamItem]:
    """Yield results of this process; it stops at the first ROI that fails."""
    from rs_embed_core import configure, get_embeddings_batch, register_provider
    from serve_app.client import StreamItem
    from serve_app.providers import set_up

    settings = read_settings()
    for provider, _ in set_up(settings.providers):
        register_provider(provider.name, provider)
    configure(
        checkpoints_root=settings.checkpoints.root,
        offline=settings.checkpoints.offline,
        default_backend=settings.providers.default,
    )
    for index, embedding in enumerate(get_embeddings_batch(model, spatials=spatials, **asking)):
        yield StreamItem(index, embedding)

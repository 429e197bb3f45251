"""``rs-embed models``: what can be asked of which model. Loads no torch and no Ray."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from serve_app.commands.command import Lines, Subcommands, add_command, add_json, dumps, table

if TYPE_CHECKING:
    from rs_embed_core.errors import JSONValue

_EXAMPLES = (
    "rs-embed models",
    "rs-embed models dofa",
    "rs-embed models --json",
    "rs-embed models --url http://127.0.0.1:8000",
)
_LISTED = 16  # names of bands that are written out


def add(commands: Subcommands) -> None:
    """Add ``models``."""
    summary = "list the models, or describe one"
    parser = add_command(commands, "models", models, summary=summary, examples=_EXAMPLES)
    parser.add_argument("model", nargs="?", metavar="ID", help="a model's id or alias")
    parser.add_argument("--url", help="ask a service, which also says what it serves (default: this installation)")
    add_json(parser)


def models(args: argparse.Namespace) -> Lines:
    """Yield the table of models, or the facts of one."""
    found = _from_service(args.url, args.model) if args.url else _from_registry(args.model)
    if args.json:
        yield dumps(found[0] if args.model else list(found))
    elif args.model:
        yield from _facts(found[0])
    else:
        heading = ("MODEL", "VARIANTS", "MODALITIES", "WEIGHTS", "WHAT IT IS")
        yield from table([heading, *map(_row, found)])
        yield ""
        yield "* the default variant. rs-embed models ID describes one."


def _from_registry(model: str | None) -> Sequence[dict[str, JSONValue]]:
    from rs_embed_core.registry import describe_model, list_models

    return [describe_model(name) for name in ([model] if model else list_models())]


def _from_service(url: str, model: str | None) -> Sequence[dict[str, JSONValue]]:
    from serve_app.client import EmbeddingClient

    with EmbeddingClient(url) as client:
        return [client.describe_model(name) for name in ([model] if model else client.list_models())]


def counted(names: Sequence[str]) -> tuple[str, str] | None:
    """First and last of many names that count up, such as A00 to A63; None where they should be written out."""
    first = re.fullmatch(r"(\D*)(\d+)", names[0]) if len(names) > _LISTED else None
    if first is None:
        return None
    stem, digits = first.groups()
    run = [f"{stem}{int(digits) + i:0{len(digits)}d}" for i in range(len(names))]
    return (names[0], names[-1]) if list(names) == run else None


def _row(model: Mapping[str, JSONValue]) -> tuple[str, ...]:
    inputs = _objects(model.get("inputs"))
    weights = "needed" if model.get("needs_weights") else "none"
    if _provider(model):
        weights = "precomputed"
    variants = model.get("variants")
    names = [
        f"{name}*" if name == model.get("default_variant") else name
        for name in (variants if isinstance(variants, dict) else {})
    ]
    modalities = ",".join(str(entry.get("modality")) for entry in inputs)
    return str(model.get("id")), ",".join(names), modalities, weights, str(model.get("title"))


def _facts(model: Mapping[str, JSONValue]) -> Lines:
    """Yield what a person wants to know of one model; ``--json`` has everything."""
    yield f"{model.get('id')}: {model.get('title')}"
    yield f"  {model.get('summary')}"
    if isinstance(aliases := model.get("aliases"), list) and aliases:
        yield f"  also      {', '.join(map(str, aliases))}"
    if isinstance(licence := model.get("licence"), dict):
        yield f"  licence   code {licence.get('code')}, weights {licence.get('weights')}"
    yield f"  paper     {model.get('paper')}"
    if provider := _provider(model):
        yield f"  source    precomputed, read through {provider}"
    yield f"  window    {_window(model.get('default_window'), whole_year=bool(provider))}"
    yield "  variants"
    variants = model.get("variants")
    for name, variant in (variants if isinstance(variants, dict) else {}).items():
        yield f"    {name}: {_variant(variant)}{_default(name == model.get('default_variant'))}"
    yield "  inputs"
    for entry in _objects(model.get("inputs")):
        yield from _input(entry, precomputed=bool(provider))
    yield "  model_config"
    yield from _options(model.get("model_config"))
    if isinstance(notes := model.get("notes"), list) and notes:
        yield "  notes"
        yield from (f"    {note}" for note in notes)
    if isinstance(serving := model.get("serving"), dict):
        for name, state in serving.items():
            yield f"  served    {name}: {state.get('status') if isinstance(state, dict) else state}"


def _provider(model: Mapping[str, JSONValue]) -> str | None:
    """What a precomputed product is read through; None for a model that computes."""
    provider = model.get("provider")
    return provider if isinstance(provider, str) else None


def _window(default: JSONValue, *, whole_year: bool) -> str:
    text = "must be given"
    if isinstance(default, dict):
        text = f"{default.get('start')} to {default.get('end')} where none is given"
    return f"{text}; the calendar year in which it starts is read" if whole_year else text


def _input(entry: Mapping[str, JSONValue], *, precomputed: bool) -> Lines:
    """Yield what one modality takes; of a product its values, which nothing prepares, and no scale: see its summary."""
    bands = entry.get("bands")
    names = [str(band) for band in bands] if isinstance(bands, list) else []
    ends = counted(names)
    text = f"{ends[0]} to {ends[1]}" if ends else ", ".join(names)
    if precomputed:
        yield f"    {entry.get('modality')}: {entry.get('collection')}"
        yield f"      values {text}"
        return
    yield f"    {entry.get('modality')}: {entry.get('collection')} at {entry.get('scale_m')} m"
    yield f"      bands {text}"
    yield f"      preprocessing {entry.get('preprocessing')}"


def _options(schema: JSONValue) -> Lines:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    for name, option in (properties if isinstance(properties, dict) else {}).items():
        if isinstance(option, dict):
            choices = option.get("enum")
            values = f" ({', '.join(map(str, choices))})" if isinstance(choices, list) else ""
            yield f"    {name} = {option.get('default')}{values}: {option.get('description')}"


def _variant(variant: JSONValue) -> str:
    if not isinstance(variant, dict):
        return ""
    parts = [f"{variant.get('dim')} values"]
    if parameters := variant.get("parameters_m"):
        parts.append(f"{parameters} M parameters")
    weights = variant.get("weights")
    parts.append(f"{weights.get('repo')}/{weights.get('file')}" if isinstance(weights, dict) else "no weights")
    return ", ".join(parts)


def _default(is_default: bool) -> str:  # noqa: FBT001 - a word about a word
    return " (default)" if is_default else ""


def _objects(value: JSONValue) -> list[dict[str, JSONValue]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []

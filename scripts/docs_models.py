"""The README's table of models and docs/reference/models.md, from the cards."""

from __future__ import annotations

from collections.abc import Sequence

from docs_text import BLANK, code, codes, note, table

from rs_embed_core.card import ModelCard
from rs_embed_core.degrees import METRES_PER_DEGREE
from rs_embed_core.inputs import Input, Variant
from rs_embed_core.option import Option
from rs_embed_core.registry import get_card, list_models
from serve_app.commands.models import counted

_INTRO = """# Models

What the cards in `rs_embed_core/models` say. `describe_model(id)`, `rs-embed models ID` and
`GET /v1/models/{id}` give the same facts to programs.

- **scale_m** is the pixel size asked of the provider, in EPSG:3857 metres; `fetch` changes it.
- **Token GSD** is the size of one cell of the token grid at that scale, as `input_prep: tile` keeps it.
  With `resize` the fetched square is scaled to the image size instead, so a cell is the square's side
  divided by the cells along it.
- **Bands** are in the order that the network wants, in Earth Engine's spelling.
- **Weights** come from the Hugging Face Hub at the revision shown, or from `checkpoints.root`
  (see [weights](../guide/weights.md)).
- **Precomputed** products have no network, and nothing prepares their values: they are read as published. They
  come by the calendar year.

"""
_FITS = {
    "pad": "a chip that is not square is padded",
    "stretch": "a chip that is not square is stretched",
    "crop": "the long ends of a chip that is not square are cropped",
    "native": "any shape up to this side; larger chips are scaled down",
    "whole": "any shape, filled up to whole patches",
    "snap": "a square near whole patches is cropped or padded to them, at any size; all else is stretched",
}
_OTHER_BANDS = {
    "exact": "exactly these, in this order",
    "subset": "any of these, in any order",
    "any": "these by default; any others may be given",
}
_POOLING = {
    "cells": "the mean or maximum of the cells inside the ROI",
    "mean": "the mean of the cells inside the ROI, also where the maximum is asked for",
    "head": "the published head on the square around the ROI",
}


def readme_table() -> str:
    """One line per model."""
    heading = (
        "model",
        "what it is",
        "input, and token GSD",
        "variants (values of the vector)",
        "licence: code; weights",
    )
    rows = [heading]
    for card in _cards():
        inputs = ", ".join(
            f"{code(entry.modality)}: {_frames(entry)}, {_token_gsd(card, entry)}" for entry in card.inputs
        )
        if card.product is not None:
            inputs = f"precomputed, read through {code(card.product.provider)}"
        variants = ", ".join(f"{code(name)} ({variant.dim})" for name, variant in card.variants.items())
        link = f"[{code(card.id)}](docs/reference/models.md#{card.id})"
        rows.append((link, card.summary, inputs, variants, f"{card.licence_code}; {card.licence_weights}"))
    return table(rows)


def _token_gsd(card: ModelCard, entry: Input) -> str:
    """Size of a token on the ground at the model's own scale."""
    shape = entry.shape_for(card.defaults)
    return f"{entry.scale_m * shape.patch_size:g} m"


def page() -> str:
    """One section per model: what it takes, gives and needs."""
    return note("rs_embed_core/models") + _INTRO + "".join(map(_section, _cards())).rstrip() + "\n"


def _cards() -> list[ModelCard]:
    return [get_card(model)[0] for model in list_models()]


def _frames(entry: Input) -> str:
    bands = f"{len(entry.bands)} bands"
    return f"{bands}, up to {entry.time.at_most} frames" if entry.time.at_most > 1 else bands


def _section(card: ModelCard) -> str:
    facts = [
        BLANK,
        ("also called", codes([alias.name for alias in card.aliases]) or "-"),
        ("paper", f"<{card.paper}>"),
        ("code", f"<{card.code}>"),
        ("licence of the code", card.licence_code),
        ("licence of the weights", card.licence_weights),
        ("window where none is given", _window(card)),
        ("vector of a rectangular ROI", _POOLING[card.roi_pooling]),
    ]
    parts = [f"## {card.id}\n\n**{card.title}.** {card.summary}\n\n{table(facts)}\n"]
    if card.product is None:
        parts += [_input(card, entry) for entry in card.inputs]
        parts.append(f"### Variants of {card.id}\n\n{_variants(card)}\n")
    else:
        parts += [_finished(card, entry, card.product.provider) for entry in card.inputs]
    if card.options:
        parts.append(f"### Options of {card.id}\n\n{_options(card.options)}\n")
    if card.notes:
        notes = "".join(f"- {remark}\n" for remark in card.notes)
        parts.append(f"### Notes on {card.id}\n\n{notes}\n")
    return "".join(parts)


def _window(card: ModelCard) -> str:
    if card.default_window is None:
        return "none: give a year"
    return f"{card.default_window[0]} to {card.default_window[1]} (excluded)"


def _finished(card: ModelCard, entry: Input, provider: str) -> str:
    """One data set of a precomputed product: nothing is computed, so there are no sizes, steps or weights."""
    ends = counted(entry.bands)
    facts = [
        BLANK,
        ("modality", code(entry.modality)),
        ("variant", ", ".join(f"{code(name)} ({variant.dim} values)" for name, variant in card.variants.items())),
        ("data", f"{code(entry.collection)}, read through {code(provider)}"),
        ("values", " to ".join(map(code, ends)) if ends else codes(entry.bands)),
        ("cells", _cells(entry)),
        ("time", "the calendar year in which the window starts"),
    ]
    return f"### Precomputed values of {card.id}\n\n{table(facts)}\n"


def _cells(entry: Input) -> str:
    if entry.region == "degrees":
        return f"{entry.scale_m / METRES_PER_DEGREE:.2g} degree (EPSG:4326), as published"
    return f"pixels of {entry.scale_m:g} m (EPSG:3857); {code('fetch')} changes their size"


def _input(card: ModelCard, entry: Input) -> str:
    """One modality: bands, sizes and the preprocessing chain at the card's default options."""
    shape = entry.shape_for(card.defaults)
    patch = f"{shape.patch_size} x {shape.patch_size} pixels"
    cloud = "with any cloud" if entry.cloudy_pct is None else f"with at most {entry.cloudy_pct} % cloud"
    time = "one composite" if entry.time.at_most == 1 else f"up to {entry.time.at_most} composites"
    facts = [
        BLANK,
        ("collection", code(entry.collection)),
        ("bands", codes(entry.bands)),
        ("other bands", _OTHER_BANDS[entry.other_bands]),
        ("scale_m", f"{entry.scale_m:g} m"),
        ("token GSD", f"{entry.scale_m * shape.patch_size:g} m ({patch})"),
        ("image size", f"{shape.image_size} pixels; {_FITS[shape.fit]}"),
        ("time", f"{time} ({entry.composite} of the scenes {cloud})"),
        *([("network", _own_network(entry))] if entry.variants else []),
        ("side inputs", codes([side.name for side in entry.side_inputs]) or "none"),
        ("fill value of missing pixels", f"{entry.fill_value:g}"),
    ]
    chain = "\n-> ".join(entry.chain_for(card.defaults).text.split(" -> "))
    return (
        f"### Input {code(entry.modality)} of {card.id}\n\n{table(facts)}\n"
        f"Preprocessing, at the default options:\n\n```text\n{chain}\n```\n\n"
    )


def _own_network(entry: Input) -> str:
    """Where a modality has weights of its own."""
    own = [f"{code(name)}: {' / '.join(_weights(variant))}" for name, variant in entry.variants.items()]
    return f"of its own; {'; '.join(own)}"


def _variants(card: ModelCard) -> str:
    rows = [("variant", "vector", "parameters", "batch on a GPU", "weights: repo / file", "revision, sha256")]
    for name, variant in card.variants.items():
        also = f" ({codes(variant.aliases)})" if variant.aliases else ""
        default = ", the default" if name == card.default_variant else ""
        size = f"{variant.parameters_m:g} M" if variant.parameters_m else "none trained"
        batch = str(variant.batch_size)
        rows.append((f"{code(name)}{also}{default}", str(variant.dim), size, batch, *_weights(variant)))
    return table(rows)


def _weights(variant: Variant) -> tuple[str, str]:
    """Where the weights of a variant are, and which."""
    weights = variant.weights
    if weights is None:
        return "none needed", "-"
    digest = code(weights.sha256) if weights.sha256 else "not known"
    return f"{code(weights.repo)} / {code(weights.file)}", f"{code(weights.revision)}, {digest}"


def _options(options: Sequence[Option]) -> str:
    rows = [("key", "default", "values", "what it does")]
    rows += [(code(option.name), code(option.default), option.takes, option.doc) for option in options]
    return table(rows)

"""``ModelCard`` and its parts: everything static about a model family, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from rs_embed_core.errors import InvalidInput, JSONValue, UnknownOption, Unsupported
from rs_embed_core.option import Option
from rs_embed_core.preprocessing.chain import Chain
from rs_embed_core.preprocessing.side_inputs import SideInput
from rs_embed_core.preprocessing.time import CalendarYear, Frames, SingleFrame
from rs_embed_core.specs.request import Ask, ModelConfig, OptionValue
from rs_embed_core.weights import HubFile

type Options = Mapping[str, OptionValue]
"""The options of a request by name, and the name of its variant as ``variant``."""
type Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Shape:
    """The pixels a network takes, and how its token grid lies on a chip.

    Attributes:
        image_size: side of the input. For ``native`` the largest side taken as it is.
        patch_size: pixels of the input behind one token.
        fit: how a chip that is not square meets the network: ``pad`` to a square (the token grid covers the
            padding too), ``stretch``, ``crop`` the long ends, ``native`` (any shape up to ``image_size``), or
            ``whole`` (any shape, filled up to whole patches at the bottom and the right).
        tile_size: side of a tile where it is not ``image_size``.
    """

    image_size: int
    patch_size: int
    fit: Literal["pad", "stretch", "crop", "native", "whole"] = "pad"
    tile_size: int | None = None

    @property
    def tile(self) -> int:
        """Side of the tiles that a large chip is cut into."""
        return self.tile_size or self.image_size

    def extent(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Rows and columns ``(row0, row1, col0, col1)`` of a chip that the token grid covers evenly."""
        if self.fit == "whole":
            return 0.0, float(height + -height % self.patch_size), 0.0, float(width + -width % self.patch_size)
        if self.fit in ("stretch", "native") or height == width:
            return 0.0, float(height), 0.0, float(width)
        side = max(height, width) if self.fit == "pad" else min(height, width)
        top, left = (height - side) / 2, (width - side) / 2
        if self.fit == "pad":  # the odd pixel of padding goes to the bottom and the right
            top, left = float(-((side - height) // 2)), float(-((side - width) // 2))
        return top, top + side, left, left + side


@dataclass(frozen=True)
class Variant:
    """One size or release of a family: arguments of the network's constructor, and its weights."""

    dim: int
    build: tuple[tuple[str, OptionValue], ...] = ()
    weights: HubFile | None = None
    parameters_m: float | None = None
    aliases: tuple[str, ...] = ()
    batch_size: int = 32


@dataclass(frozen=True)
class Source:
    """A further collection of an input: read on the same grid and frames, its bands after those before it."""

    collection: str
    bands: tuple[str, ...]
    cloudy_pct: int | None = 30
    composite: Literal["median", "mosaic"] = "median"
    linear: bool = True


@dataclass(frozen=True)
class Input:
    """One modality that a model accepts, and how its pixels are prepared.

    Attributes:
        bands: names of all channels in the order the network wants: those of ``collection``, then those of ``also``.
        also: more collections that are read for the same pixels, for models that take radar and optical imagery.
        other_bands: what a caller may give instead: nothing (``exact``), any of ``bands`` in any order
            (``subset``), or anything (``any``).
        chain: the steps from sensor values to the network's ``image``, or a function of the options.
        linear: Sentinel-1 in linear power rather than dB.
        region: what is read for an ROI: the centred ``square`` around it or its own ``rectangle`` in EPSG:3857, or
            the rectangle in ``degrees`` (EPSG:4326) for a product whose cells are degrees.
        variants: networks of this modality alone, by the name of a variant, where they are not the card's.
    """

    modality: str
    collection: str
    bands: tuple[str, ...]
    shape: Shape | Callable[[Options], Shape]
    chain: Chain | Callable[[Options], Chain]
    time: SingleFrame | Frames | CalendarYear = field(default_factory=SingleFrame)
    side_inputs: tuple[SideInput, ...] = ()
    other_bands: Literal["exact", "subset", "any"] = "exact"
    scale_m: float = 10
    cloudy_pct: int | None = 30
    composite: Literal["median", "mosaic"] = "median"
    fill_value: float = 0.0
    linear: bool = True
    region: Literal["square", "rectangle", "degrees"] = "square"
    variants: Mapping[str, Variant] = field(default_factory=dict)
    also: tuple[Source, ...] = ()

    @property
    def own_bands(self) -> tuple[str, ...]:
        """The bands that are read of ``collection``."""
        others = {band for source in self.also for band in source.bands}
        return tuple(band for band in self.bands if band not in others)

    @property
    def collections(self) -> tuple[str, ...]:
        """Everything that is read for this input."""
        return (self.collection, *(source.collection for source in self.also))

    def chain_for(self, options: Options) -> Chain:
        """The steps under these options."""
        return self.chain if isinstance(self.chain, Chain) else self.chain(options)

    def shape_for(self, options: Options) -> Shape:
        """The shape under these options."""
        return self.shape if isinstance(self.shape, Shape) else self.shape(options)

    def check_bands(self, bands: tuple[str, ...], model: str) -> None:
        """Refuse bands that the network cannot take.

        Raises:
            InvalidInput: wrong count, order or names.
        """
        wanted = ", ".join(self.bands)
        context: dict[str, JSONValue] = {"bands": list(bands), "expected": list(self.bands)}
        if self.other_bands == "exact" and bands != self.bands:
            msg = f"{model} got the {len(bands)} bands {', '.join(bands)}."
            raise InvalidInput(msg, hint=f"It takes exactly {wanted}, in this order.", context=context)
        if self.other_bands == "subset" and not set(bands) <= set(self.bands):
            strange = ", ".join(band for band in bands if band not in self.bands)
            msg = f"{model} knows no band {strange}."
            raise InvalidInput(msg, hint=f"It takes any of {wanted}.", context=context)


@dataclass(frozen=True)
class Alias:
    """Another name for a model, which may stand for a variant or a modality of it."""

    name: str
    variant: str | None = None
    modality: str | None = None


@dataclass(frozen=True)
class Product:
    """A finished product: its provider returns the embedding itself, and there is no network.

    Attributes:
        provider: what ``backend="auto"`` reads it from.
        facts: names among ``Chip.facts`` that say something of the result; the others are about the read.
    """

    provider: str
    facts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Selection:
    """What of a family a request uses: names only, so it is hashable and cheap to send."""

    model: str
    variant: str
    modality: str
    options: ModelConfig

    @property
    def encoder(self) -> str:
        """The name of the encoder deployment: model and variant."""
        return f"{self.model}-{self.variant}".replace("_", "-")

    @property
    def settings(self) -> dict[str, OptionValue]:
        """What chains, shapes, frames and side inputs are functions of: ``Options``."""
        return {**dict(self.options), "variant": self.variant}


_SPELLINGS = {"sentinel1": "s1", "sentinel2": "s2"}  # of modalities, as rs-embed's callers write them


@dataclass(frozen=True)
class ModelCard:
    """Everything static about a model family.

    Attributes:
        network: ``module:function`` that builds the torch module; not imported before a model is loaded. None for
            a precomputed ``product``.
        build: constructor arguments from variant, options and array shapes, where ``Variant.build`` and the
            ``build`` options do not say it all.
        roi_pooling: the vector of a rectangular ROI: the mean or max of its ``cells``, their ``mean`` whatever the
            pooling asked for (models that pool in one way), or the published ``head`` on the fetched square (for
            models whose head has its own dimension).
        default_window: dates where the caller gives none; None where there must be some.
        departs: how the default differs from the authors' own way, which ``preprocessing: official`` gives; said in a
            notice.
        notes: differences from the reference or the authors, for ``describe_model``.
    """

    id: str
    title: str
    summary: str
    inputs: tuple[Input, ...]
    variants: Mapping[str, Variant]
    default_variant: str
    network: str | None
    paper: str
    code: str
    licence_code: str
    licence_weights: str
    aliases: tuple[Alias, ...] = ()
    options: tuple[Option, ...] = ()
    build: Callable[[Variant, Options, Shapes], Mapping[str, OptionValue]] | None = None
    roi_pooling: Literal["cells", "mean", "head"] = "cells"
    default_window: tuple[str, str] | None = ("2022-06-01", "2022-09-01")
    product: Product | None = None
    config_aliases: Callable[[ModelConfig], ModelConfig] | None = None
    departs: str = ""
    notes: tuple[str, ...] = ()

    @property
    def defaults(self) -> dict[str, OptionValue]:
        """The ``Options`` of a request that names none."""
        return {**{option.name: option.default for option in self.options}, "variant": self.default_variant}

    def input(self, modality: str) -> Input:
        """The input of a modality that ``select`` has accepted."""
        return next(entry for entry in self.inputs if entry.modality == modality)

    def select(self, ask: Ask, alias: Alias | None = None) -> Selection:
        """Resolve variant, modality and options of a request.

        Raises:
            UnknownOption: a key, value, variant or modality that the card does not declare.
            Unsupported: the alias stands for another modality or variant than the one asked for.
        """
        config = dict(self.config_aliases(ask.model_config) if self.config_aliases else ask.model_config)
        variant = self._variant(config.pop("variant", None), alias)
        modality = self._modality(ask.modality, alias)
        known = {option.name: option for option in self.options}
        if unknown := sorted(set(config) - set(known)):
            msg = f"{self.id} has no model_config key {', '.join(unknown)}."
            hint = "Known: " + "; ".join(
                [f"variant ({', '.join(self.variants)})", *(f"{o.name} ({o.takes})" for o in self.options)]
            )
            raise UnknownOption(msg, hint=hint, context={"unknown": unknown, "known": ["variant", *known]})
        values = tuple(
            (name, option.check(config[name], self.id) if name in config else option.default)
            for name, option in known.items()
        )
        return Selection(self.id, variant, modality, values)

    def _variant(self, asked: OptionValue | None, alias: Alias | None) -> str:
        implied = alias.variant if alias else None
        if asked is None:
            return implied or self.default_variant
        name = str(asked).lower().replace("-", "_")
        for key, variant in self.variants.items():
            if name == key or name in variant.aliases:
                if implied and key != implied:
                    msg = f"{alias.name if alias else self.id} stands for variant {implied}, not {key}."
                    raise Unsupported(msg, hint=f"Ask for {self.id} instead.")
                return key
        msg = f"{self.id} has no variant {asked!r}."
        hint = f"Variants are {', '.join(self.variants)}."
        raise UnknownOption(msg, hint=hint, context={"known": list(self.variants)})

    def _modality(self, asked: str | None, alias: Alias | None) -> str:
        implied = alias.modality if alias else None
        known = [entry.modality for entry in self.inputs]
        if asked is None:
            return implied or known[0]
        plain = asked.lower().replace("-", "").replace("_", "")
        plain = _SPELLINGS.get(plain, plain)
        name = next((one for one in known if one.replace("_", "") == plain), "")
        if not name:
            msg = f"{self.id} has no modality {asked!r}."
            hint = f"Modalities are {', '.join(known)}."
            raise UnknownOption(msg, hint=hint, context={"known": list(known)})
        if implied and name != implied:
            msg = f"{alias.name if alias else self.id} stands for modality {implied}, not {name}."
            raise Unsupported(msg, hint=f"Ask for {self.id} instead.")
        return name

    def variant(self, name: str, modality: str) -> Variant:
        """The network behind a variant: the modality's own, or else the card's."""
        return self.input(modality).variants.get(name, self.variants[name])

    def params(self, selection: Selection) -> ModelConfig:
        """The options that the network's forward takes."""
        roles = {option.name for option in self.options if option.role == "forward"}
        return tuple((name, value) for name, value in selection.options if name in roles)

    def build_arguments(self, selection: Selection, shapes: Shapes) -> dict[str, OptionValue]:
        """The arguments of the network's constructor."""
        variant, options = self.variant(selection.variant, selection.modality), dict(selection.options)
        if self.build is not None:
            return dict(self.build(variant, options, shapes))
        roles = {option.name for option in self.options if option.role == "build"}
        return dict(variant.build) | {name: value for name, value in options.items() if name in roles}

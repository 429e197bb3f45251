"""``ModelCard`` and its parts: everything static about a model family, as data."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from rs_embed_core.chip import Period
from rs_embed_core.errors import InvalidRequest, UnknownOption, Unsupported
from rs_embed_core.inputs import Input, Options, Shapes, Variant
from rs_embed_core.option import Option
from rs_embed_core.specs.request import Ask, ModelConfig, OptionValue


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


_ANY_YEAR = ("2022-01-01", "2023-01-01")
_SPELLINGS = {"sentinel1": "s1", "sentinel2": "s2"}  # of modalities, as rs-embed's callers write them


def _plain(modality: str) -> str:
    plain = modality.lower().replace("-", "").replace("_", "")
    return _SPELLINGS.get(plain, plain)


def _modality_of(ask: Ask) -> str | None:
    """The modality that a request names, or else its sensor."""
    sensor = None if ask.sensor is None else ask.sensor.modality
    if sensor is None or ask.modality is None:
        return ask.modality if sensor is None else sensor
    if _plain(sensor) != _plain(ask.modality):
        msg = f"modality is {ask.modality!r}, and that of the sensor is {sensor!r}."
        raise InvalidRequest(msg, hint="Say it once, or the same twice.")
    return ask.modality


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
        config_for_data: the configuration for own pixels of a height and width, where they are not to be resized.
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
    config_for_data: Callable[[ModelConfig, tuple[int, int]], ModelConfig] | None = None
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
            InvalidRequest: ``sensor`` is of another modality than the request.
            UnknownOption: a key, value, variant or modality that the card does not declare.
            Unsupported: the alias stands for another modality or variant than the one asked for, or the modality has
                no such variant.
        """
        config = dict(self.config_aliases(ask.model_config) if self.config_aliases else ask.model_config)
        variant = self._variant(config.pop("variant", None), alias)
        modality = self._modality(_modality_of(ask), alias)
        if variant not in (there := self.variants_of(modality)):
            msg = f"{self.id} has no variant {variant} for modality {modality}."
            raise Unsupported(msg, hint=f"There is {', '.join(there)}.", context={"known": list(there)})
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
        plain = _plain(asked)
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
        """The network behind a variant that ``select`` has accepted."""
        return self.variants_of(modality)[name]

    def variants_of(self, modality: str) -> Mapping[str, Variant]:
        """The networks of a modality: its own, or else the card's."""
        return self.input(modality).variants or self.variants

    @property
    def networks(self) -> dict[str, Variant]:
        """Every network of the family: the card's by name, a modality's own as ``s1 base``."""
        shared = {} if all(entry.variants for entry in self.inputs) else dict(self.variants)
        own = {f"{entry.modality} {name}": one for entry in self.inputs for name, one in entry.variants.items()}
        return shared | own

    def usual_values(self, modality: str) -> int:
        """How many values a sample of the default input has: frames x bands x rows x columns."""
        entry, options = self.input(modality), self.defaults
        start, end = self.default_window or _ANY_YEAR
        frames = entry.time.periods(Period(dt.date.fromisoformat(start), dt.date.fromisoformat(end)), options)
        return len(frames) * len(entry.bands) * entry.shape_for(options).image_size ** 2

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

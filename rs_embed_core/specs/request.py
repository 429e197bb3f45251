"""Stage request: ``EmbedRequest``, everything one caller says about one ROI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from rs_embed_core.errors import InvalidRequest, JSONValue
from rs_embed_core.specs.output import InputPrepSpec, OutputSpec, input_prep_from_dict, output_from_dict
from rs_embed_core.specs.plain import plain
from rs_embed_core.specs.sensor import FetchSpec, SensorSpec, fetch_from_dict, sensor_from_dict
from rs_embed_core.specs.spatial import Spatial
from rs_embed_core.specs.temporal import TemporalSpec, temporal_from_dict

type OptionValue = str | int | float | bool
type ModelConfig = tuple[tuple[str, OptionValue], ...]

_SPECS: Mapping[str, tuple[type, type]] = {
    "temporal": (TemporalSpec, type(None)),
    "sensor": (SensorSpec, type(None)),
    "fetch": (FetchSpec, type(None)),
    "output": (OutputSpec, OutputSpec),
    "input_prep": (InputPrepSpec, InputPrepSpec),
}


@dataclass(frozen=True)
class Beside:
    """Another model that is asked of the same ROIs, dates and provider at the same time."""

    model: str
    model_config: ModelConfig = ()
    modality: str | None = None

    def to_dict(self) -> dict[str, JSONValue]:
        """The JSON form; ``beside_from`` reads it back."""
        out: dict[str, JSONValue] = {"model": self.model}
        if self.model_config:
            out["model_config"] = dict(self.model_config)
        if self.modality is not None:
            out["modality"] = self.modality
        return out


@dataclass(frozen=True)
class Ask:
    """What every ROI of a batch shares: the model and how it is asked.

    Attributes:
        beside: models asked at the same time, in requests of their own: what they need of the same imagery is read
            along, so that one read serves them all where the provider's chips are cached.

    Raises:
        InvalidRequest: ``sensor`` together with ``fetch``, or a value of the wrong type.
    """

    model: str
    temporal: TemporalSpec | None = None
    sensor: SensorSpec | None = None
    fetch: FetchSpec | None = None
    model_config: ModelConfig = ()
    modality: str | None = None
    output: OutputSpec = field(default_factory=OutputSpec)
    input_prep: InputPrepSpec = field(default_factory=InputPrepSpec)
    backend: str = "auto"
    beside: tuple[Beside, ...] = ()

    def __post_init__(self) -> None:
        for name in ("model", "backend"):
            if not isinstance(vars(self)[name], str) or not vars(self)[name]:
                msg = f"{name} is {vars(self)[name]!r}."
                raise InvalidRequest(msg, hint=f"{name} is a name.")
        if self.modality is not None and not isinstance(self.modality, str):
            msg = f"modality is {self.modality!r}."
            raise InvalidRequest(msg, hint="modality is a name such as s2.")
        for name, kinds in _SPECS.items():
            if not isinstance(vars(self)[name], kinds):
                msg = f"{name} is {vars(self)[name]!r}."
                raise InvalidRequest(msg, hint=f"{name} is a {kinds[0].__name__}.")
        if self.sensor is not None and self.fetch is not None:
            msg = "both sensor and fetch are given."
            raise InvalidRequest(msg, hint="fetch changes the model's default imagery, sensor replaces it.")

    def of(self, other: Beside) -> Ask:
        """How another model is asked: with its own imagery."""
        return replace(
            self,
            model=other.model,
            model_config=other.model_config,
            modality=other.modality,
            sensor=None,
            beside=(),
        )

    def at(self, spatial: Spatial) -> EmbedRequest:
        """The request for one ROI."""
        return EmbedRequest(self, spatial)

    def to_dict(self) -> dict[str, JSONValue]:
        """The JSON form, defaults left out; ``ask_from_dict`` reads it back."""
        out: dict[str, JSONValue] = {"model": self.model}
        for name in ("temporal", "sensor", "fetch"):
            value: TemporalSpec | SensorSpec | FetchSpec | None = vars(self)[name]
            if value is not None:
                out[name] = value.to_dict()
        if self.model_config:
            out["model_config"] = dict(self.model_config)
        if self.modality is not None:
            out["modality"] = self.modality
        out["output"] = self.output.to_dict()
        out["input_prep"] = self.input_prep.to_dict()
        out["backend"] = self.backend
        if self.beside:
            out["beside"] = [other.to_dict() for other in self.beside]
        return out


@dataclass(frozen=True)
class EmbedRequest:
    """One ROI and how it is asked."""

    ask: Ask
    spatial: Spatial


def check_device(device: object) -> None:
    """Refuse what names no device; whether it is there is seen when a network is loaded.

    Raises:
        InvalidRequest: not text.
    """
    if not isinstance(device, str):
        raise InvalidRequest(f"device is {device!r}.", hint="device is a name: auto, cpu, cuda or mps.")


def model_config_from(value: object) -> ModelConfig:
    """A ``model_config`` mapping as a hashable tuple, sorted by key.

    Raises:
        InvalidRequest: not a mapping of names to plain values.
    """
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        msg = f"model_config is {value!r}."
        raise InvalidRequest(msg, hint='model_config is an object such as {"variant": "base"}.')
    config: dict[str, OptionValue] = {}
    for key, item in value.items():
        setting = plain(item)
        if not isinstance(key, str) or not isinstance(setting, str | int | float | bool):
            msg = f"model_config has {key!r}: {item!r}."
            raise InvalidRequest(msg, hint="Keys are names, values are text, numbers or booleans.")
        config[key] = setting
    return tuple(sorted(config.items()))


def beside_from(value: object) -> tuple[Beside, ...]:
    """Other models, each a name or an object of ``model``, ``model_config`` and ``modality``.

    Raises:
        InvalidRequest: anything else.
    """
    if not isinstance(value, list | tuple):
        raise InvalidRequest(f"beside is {value!r}.", hint=_BESIDE)
    return tuple(_one_beside(item) for item in value)


_BESIDE = 'beside is a list of models: names, or objects such as {"model": "clay", "modality": "s2"}.'


def _one_beside(value: object) -> Beside:
    if isinstance(value, Beside):
        return value
    given = {"model": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping) or not set(given) <= {"model", "model_config", "modality"}:
        raise InvalidRequest(f"beside has {value!r}.", hint=_BESIDE)
    model, modality = given.get("model"), given.get("modality")
    if not isinstance(model, str) or not model or not isinstance(modality, str | None):
        raise InvalidRequest(f"beside has {value!r}.", hint=_BESIDE)
    return Beside(model, model_config_from(given.get("model_config")), modality)


ASK_FIELDS = (
    "model", "temporal", "sensor", "fetch", "model_config", "modality", "output", "input_prep", "backend", "beside",
)  # fmt: skip
"""What ``ask_from_dict`` knows."""


def ask_from_dict(value: Mapping[str, object]) -> Ask:
    """The ``Ask`` that JSON fields (or Python keyword arguments) describe; unset ones keep their defaults.

    Raises:
        InvalidRequest: an unknown field, or a value that its spec refuses.
    """
    if unknown := sorted(set(value) - set(ASK_FIELDS)):
        msg = f"unknown fields {unknown}."
        raise InvalidRequest(msg, hint=f"Known fields are {', '.join(ASK_FIELDS)}, and spatial or spatials.")
    given = {key: item for key, item in value.items() if item is not None}
    if "model" not in given:
        msg = "model is missing."
        raise InvalidRequest(msg, hint="Name a model; list_models() and GET /v1/models list them.")
    model, modality, backend = given["model"], given.get("modality"), given.get("backend", "auto")
    if not isinstance(model, str) or not isinstance(backend, str) or not isinstance(modality, str | None):
        msg = f"model is {model!r}, modality {modality!r}, backend {backend!r}."
        raise InvalidRequest(msg, hint="model, modality and backend are names.")
    return Ask(
        model=model,
        temporal=temporal_from_dict(given["temporal"]) if "temporal" in given else None,
        sensor=sensor_from_dict(given["sensor"]) if "sensor" in given else None,
        fetch=fetch_from_dict(given["fetch"]) if "fetch" in given else None,
        model_config=model_config_from(given.get("model_config")),
        modality=modality,
        output=output_from_dict(given.get("output", OutputSpec())),
        input_prep=input_prep_from_dict(given.get("input_prep", InputPrepSpec())),
        backend=backend,
        beside=beside_from(given.get("beside", ())),
    )

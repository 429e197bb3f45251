"""With what: ``SensorSpec``, the full override of a model's input, and ``FetchSpec``, the light one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, fields
from typing import Literal

from rs_embed_core.errors import InvalidRequest, JSONValue
from rs_embed_core.specs.plain import make_plain

Composite = Literal["median", "mosaic"]  # no `type`: schemas made of the specs would refer to it by name

_COMPOSITES = ("median", "mosaic")
_ORBITS = (None, "ASCENDING", "DESCENDING")
_SWITCHES = ("use_float_linear", "s1_require_iw", "s1_relax_iw_on_empty")
_FULL_CLOUD = 100
_SCALES_M = (0.01, 1e6)  # finer than any sensor, coarser than any chip


def _is_number(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def check_scale(scale_m: object) -> None:
    """Refuse what is no pixel size.

    Raises:
        InvalidRequest: not a number of metres in 0.01..1,000,000.
    """
    if not _is_number(scale_m, *_SCALES_M):
        msg = f"scale_m is {scale_m!r}."
        raise InvalidRequest(msg, hint="scale_m is the pixel size in metres: 0.01 to 1,000,000.")


def band_names(value: object) -> tuple[str, ...]:
    """The names of bands in their order.

    Raises:
        InvalidRequest: not a list of names, an empty one, or one that repeats a name.
    """
    msg, hint = f"bands is {value!r}.", 'Give a list of at least one name: ["B4", "B3", "B2"].'
    if isinstance(value, str | bytes | Mapping | AbstractSet) or not isinstance(value, Iterable):
        raise InvalidRequest(msg, hint=hint)
    names = tuple(value)
    if not names or not all(isinstance(name, str) for name in names):
        raise InvalidRequest(msg, hint=hint)
    if len(set(names)) != len(names):
        msg = f"bands {names!r} repeats a name."
        raise InvalidRequest(msg, hint="Ask for each band once.")
    return names


def _check_common(spec: SensorSpec | FetchSpec) -> None:
    cloudy_pct, composite = spec.cloudy_pct, spec.composite
    if spec.scale_m is not None:
        check_scale(spec.scale_m)
    if spec.fill_value is not None and not _is_number(spec.fill_value, -1e30, 1e30):
        msg = f"fill_value is {spec.fill_value!r}."
        raise InvalidRequest(msg, hint="fill_value is a finite number.")
    if cloudy_pct is not None and not (_is_number(cloudy_pct, 0, _FULL_CLOUD) and isinstance(cloudy_pct, int)):
        msg = f"cloudy_pct is {cloudy_pct!r}."
        raise InvalidRequest(msg, hint="cloudy_pct is a whole number in 0..100, or None for no filter.")
    if composite is not None and composite not in _COMPOSITES:
        msg = f"composite is {composite!r}."
        raise InvalidRequest(msg, hint=f"composite is one of {', '.join(_COMPOSITES)}.")


@dataclass(frozen=True)
class SensorSpec:
    """Everything about the imagery of one input; replaces the model's own default.

    Attributes:
        modality: which of the model's inputs it is for, as the request's ``modality``; None where that says it.

    Raises:
        InvalidRequest: no collection or bands, or a value of the wrong type or out of range.
    """

    collection: str
    bands: tuple[str, ...]
    scale_m: float = 10
    cloudy_pct: int | None = 30
    fill_value: float = 0.0
    composite: Composite = "median"
    modality: str | None = None
    orbit: Literal["ASCENDING", "DESCENDING"] | None = None
    use_float_linear: bool = True
    s1_require_iw: bool = True
    s1_relax_iw_on_empty: bool = True

    def __post_init__(self) -> None:
        make_plain(self)
        object.__setattr__(self, "bands", band_names(self.bands))
        if not self.collection or not isinstance(self.collection, str):
            msg = f"collection is {self.collection!r}."
            raise InvalidRequest(msg, hint='Name one, such as "COPERNICUS/S2_SR_HARMONIZED".')
        if self.modality is not None and (not isinstance(self.modality, str) or not self.modality):
            msg = f"modality is {self.modality!r}."
            raise InvalidRequest(msg, hint="modality is a name such as s2, or None for the model's first.")
        if self.orbit not in _ORBITS:
            msg = f"orbit is {self.orbit!r}."
            raise InvalidRequest(msg, hint="orbit is ASCENDING, DESCENDING or None for both.")
        for name in _SWITCHES:
            if not isinstance(vars(self)[name], bool):
                msg = f"{name} is {vars(self)[name]!r}."
                raise InvalidRequest(msg, hint=f"{name} is true or false.")
        _check_common(self)

    def validate(self) -> None:
        """Do nothing: a spec is checked when it is built (kept for callers of rs-embed)."""

    def to_dict(self) -> dict[str, JSONValue]:
        """The JSON form; ``sensor_from_dict`` reads it back."""
        return {**asdict(self), "bands": list(self.bands)}


@dataclass(frozen=True)
class FetchSpec:
    """A few changes to the model's default imagery; None keeps the default.

    Raises:
        InvalidRequest: a value of the wrong type or out of range.
    """

    scale_m: float | None = None
    cloudy_pct: int | None = None
    fill_value: float | None = None
    composite: Composite | None = None

    def __post_init__(self) -> None:
        make_plain(self)
        _check_common(self)

    def validate(self) -> None:
        """Do nothing: a spec is checked when it is built (kept for callers of rs-embed)."""

    def to_dict(self) -> dict[str, JSONValue]:
        """The JSON form, changes only; ``fetch_from_dict`` reads it back."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def sensor_from_dict(value: object) -> SensorSpec:
    """The ``SensorSpec`` that a JSON object describes."""
    return value if isinstance(value, SensorSpec) else _from_dict("sensor", SensorSpec, value)


def fetch_from_dict(value: object) -> FetchSpec:
    """The ``FetchSpec`` that a JSON object describes."""
    return value if isinstance(value, FetchSpec) else _from_dict("fetch", FetchSpec, value)


def _from_dict[S: (SensorSpec, FetchSpec)](name: str, build: Callable[..., S], value: object) -> S:
    known = [field.name for field in fields(SensorSpec if name == "sensor" else FetchSpec)]
    if not isinstance(value, Mapping):
        msg = f"{name} is {value!r}."
        raise InvalidRequest(msg, hint=f"{name} is an object with keys among {', '.join(known)}.")
    if unknown := sorted(set(map(str, value)) - set(known)):
        msg = f"{name} has the unknown keys {unknown}."
        raise InvalidRequest(msg, hint=f"Known keys are {', '.join(known)}.")
    if name == "sensor" and not {"collection", "bands"} <= set(value):
        msg = "sensor lacks collection or bands."
        raise InvalidRequest(msg, hint="Both are required.")
    return build(**value)

"""With what: ``SensorSpec``, the full override of a model's input, and ``FetchSpec``, the light one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal

from rs_embed_core.errors import InvalidRequest, JSONValue

_COMPOSITES = ("median", "mosaic")
_ORBITS = (None, "ASCENDING", "DESCENDING")
_FULL_CLOUD = 100
_SCALES_M = (0.01, 1e6)  # finer than any sensor, coarser than any chip


def _is_number(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _check_common(spec: SensorSpec | FetchSpec) -> None:
    scale_m, cloudy_pct, composite = spec.scale_m, spec.cloudy_pct, spec.composite
    if scale_m is not None and not _is_number(scale_m, *_SCALES_M):
        msg = f"scale_m is {scale_m!r}."
        raise InvalidRequest(msg, hint="scale_m is the pixel size in metres: 0.01 to 1,000,000.")
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

    Raises:
        InvalidRequest: no collection or bands, or a value out of range.
    """

    collection: str
    bands: tuple[str, ...]
    scale_m: float = 10
    cloudy_pct: int | None = 30
    fill_value: float = 0.0
    composite: Literal["median", "mosaic"] = "median"
    modality: str | None = None
    orbit: Literal["ASCENDING", "DESCENDING"] | None = None
    use_float_linear: bool = True
    s1_require_iw: bool = True
    s1_relax_iw_on_empty: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.bands, str):
            msg = f"bands is the text {self.bands!r}."
            raise InvalidRequest(msg, hint='Give a list of names: ["B4", "B3", "B2"].')
        object.__setattr__(self, "bands", tuple(self.bands))
        if not self.collection or not isinstance(self.collection, str):
            msg = f"collection is {self.collection!r}."
            raise InvalidRequest(msg, hint='Name one, such as "COPERNICUS/S2_SR_HARMONIZED".')
        if not self.bands or not all(isinstance(band, str) for band in self.bands):
            msg = f"bands is {self.bands!r}."
            raise InvalidRequest(msg, hint='Give at least one name: ["B4", "B3", "B2"].')
        if len(set(self.bands)) != len(self.bands):
            msg = f"bands {self.bands!r} repeats a name."
            raise InvalidRequest(msg, hint="Ask for each band once.")
        if self.orbit not in _ORBITS:
            msg = f"orbit is {self.orbit!r}."
            raise InvalidRequest(msg, hint="orbit is ASCENDING, DESCENDING or None for both.")
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
        InvalidRequest: a value out of range.
    """

    scale_m: float | None = None
    cloudy_pct: int | None = None
    fill_value: float | None = None
    composite: Literal["median", "mosaic"] | None = None

    def __post_init__(self) -> None:
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

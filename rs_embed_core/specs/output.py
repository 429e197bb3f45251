"""What comes back: ``OutputSpec``; and how an ROI of any size meets a model of one size: ``InputPrepSpec``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal

from rs_embed_core.errors import InvalidRequest, JSONValue
from rs_embed_core.specs.plain import make_plain

_POOLINGS = ("mean", "max")
_ORIENTATIONS = ("north_up", "native")
_PREP_MODES = ("resize", "tile", "auto")
_LARGEST_SNAP = 0.5  # snapping more than half a tile would distort more than the overlap it removes


@dataclass(frozen=True)
class OutputSpec:
    """One vector ``(D,)`` (``OutputSpec.pooled()``) or a field of them ``(D, H, W)`` (``OutputSpec.grid()``).

    Attributes:
        mode: ``pooled`` or ``grid``.
        pooling: of the cells into one vector, where the model does not pool in its own way.
        grid_orientation: ``north_up`` has row 0 in the north; ``native`` is the order in which the model's cells come.
            They are the same here: what models see is north-up, whatever it was read from.
    """

    mode: Literal["pooled", "grid"] = "pooled"
    pooling: Literal["mean", "max"] = "mean"
    grid_orientation: Literal["north_up", "native"] = "north_up"

    def __post_init__(self) -> None:
        make_plain(self)
        if self.mode not in ("pooled", "grid"):
            msg = f"output mode is {self.mode!r}."
            raise InvalidRequest(msg, hint="Use OutputSpec.pooled() or OutputSpec.grid().")
        if self.pooling not in _POOLINGS:
            msg = f"pooling is {self.pooling!r}."
            raise InvalidRequest(msg, hint="pooling is mean or max.")
        if self.grid_orientation not in _ORIENTATIONS:
            msg = f"grid_orientation is {self.grid_orientation!r}."
            raise InvalidRequest(msg, hint="grid_orientation is north_up or native.")

    @classmethod
    def pooled(cls, pooling: Literal["mean", "max"] = "mean") -> OutputSpec:
        """One vector per ROI."""
        return cls("pooled", pooling)

    @classmethod
    def grid(cls, *, grid_orientation: Literal["north_up", "native"] = "north_up") -> OutputSpec:
        """A georeferenced field of vectors per ROI."""
        return cls("grid", grid_orientation=grid_orientation)

    def validate(self) -> None:
        """Do nothing: a spec is checked when it is built (kept for callers of rs-embed)."""

    def to_dict(self) -> dict[str, JSONValue]:
        """The JSON form; ``output_from_dict`` reads it back."""
        return dict(asdict(self))


@dataclass(frozen=True)
class InputPrepSpec:
    """How an ROI larger than a model's input is prepared.

    ``resize`` scales it to the input size; ``tile`` cuts it at native scale and stitches the results; ``auto``
    tiles what needs more than one and at most ``max_tiles`` tiles, and resizes the rest.

    Attributes:
        tile_size: side of a tile in pixels; None takes the model's input size.
        max_tiles: more than this many tiles is remarked (``tile``) or resized instead (``auto``).
        max_tiles_hard: more than this many tiles is ``RoiTooLarge``.
        tile_snap_frac: an overhang of up to this share of a tile is scaled away instead of costing a tile.
    """

    mode: Literal["resize", "tile", "auto"] = "resize"
    tile_size: int | None = None
    max_tiles: int = 64
    max_tiles_hard: int = 1024
    tile_snap_frac: float = 0.1

    def __post_init__(self) -> None:
        make_plain(self)
        if self.mode not in _PREP_MODES:
            msg = f"input_prep is {self.mode!r}."
            raise InvalidRequest(msg, hint="input_prep is resize, tile, auto or an InputPrepSpec.")
        if self.tile_size is not None and not (_is_whole(self.tile_size) and self.tile_size >= 1):
            msg = f"tile_size is {self.tile_size!r}."
            raise InvalidRequest(
                msg, hint="tile_size is a whole number of pixels above 0, or None for the model's size."
            )
        whole = _is_whole(self.max_tiles) and _is_whole(self.max_tiles_hard)
        if not whole or not 1 <= self.max_tiles <= self.max_tiles_hard:
            msg = f"max_tiles is {self.max_tiles!r} with max_tiles_hard {self.max_tiles_hard!r}."
            raise InvalidRequest(msg, hint="Whole numbers with 1 <= max_tiles <= max_tiles_hard.")
        fraction = type(self.tile_snap_frac) in (int, float)
        if not fraction or not 0 <= self.tile_snap_frac <= _LARGEST_SNAP:
            msg = f"tile_snap_frac is {self.tile_snap_frac!r}."
            raise InvalidRequest(msg, hint="tile_snap_frac is a share of a tile in 0..0.5.")

    @classmethod
    def resize(cls) -> InputPrepSpec:
        """Scale the ROI to the model's input size."""
        return cls("resize")

    @classmethod
    def tile(cls, *, tile_size: int | None = None, max_tiles: int = 64) -> InputPrepSpec:
        """Cut the ROI into tiles at native scale."""
        return cls("tile", tile_size, max_tiles)

    @classmethod
    def auto(cls, *, tile_size: int | None = None, max_tiles: int = 64) -> InputPrepSpec:
        """Tile where it takes more than one and at most ``max_tiles`` tiles, else resize."""
        return cls("auto", tile_size, max_tiles)

    @classmethod
    def of(cls, value: str | InputPrepSpec) -> InputPrepSpec:
        """The spec that a short name stands for, or the spec itself."""
        if isinstance(value, InputPrepSpec):
            return value
        return input_prep_from_dict(value)

    def validate(self) -> None:
        """Do nothing: a spec is checked when it is built (kept for callers of rs-embed)."""

    def to_dict(self) -> dict[str, JSONValue]:
        """The JSON form; ``input_prep_from_dict`` reads it back."""
        return dict(asdict(self))


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def output_from_dict(value: object) -> OutputSpec:
    """The ``OutputSpec`` that a JSON value describes (``"pooled"``, ``"grid"`` or an object)."""
    if isinstance(value, OutputSpec):
        return value
    if isinstance(value, str):
        value = {"mode": value}
    return _build(OutputSpec, "output", value)


def input_prep_from_dict(value: object) -> InputPrepSpec:
    """The ``InputPrepSpec`` that a JSON value describes (a mode's name or an object)."""
    if isinstance(value, InputPrepSpec):
        return value
    if isinstance(value, str):
        value = {"mode": value}
    return _build(InputPrepSpec, "input_prep", value)


def _build[S: (OutputSpec, InputPrepSpec)](spec: Callable[..., S], name: str, value: object) -> S:
    known = [field.name for field in fields(OutputSpec if name == "output" else InputPrepSpec)]
    if not isinstance(value, Mapping) or not set(value) <= set(known):
        msg = f"{name} is {value!r}."
        raise InvalidRequest(msg, hint=f"{name} is a mode's name or an object with keys {', '.join(known)}.")
    return spec(**value)

"""``Input`` and its parts: what a model reads, the pixels its network takes and how they are prepared, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from rs_embed_core.errors import InvalidInput, JSONValue
from rs_embed_core.preprocessing.chain import Chain
from rs_embed_core.preprocessing.side_inputs import SideInput, Wavelengths
from rs_embed_core.preprocessing.time import CalendarYear, Frames, SingleFrame
from rs_embed_core.specs.request import OptionValue
from rs_embed_core.specs.sensor import Composite
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
            padding too), ``stretch``, ``crop`` the long ends, ``native`` (any shape up to ``image_size``),
            ``whole`` (any shape, filled up to whole patches at the bottom and the right), or ``snap`` (a square of
            whole patches, cropped or padded centrally, where the chain finds one near; else stretched).
        tile_size: side of a tile where it is not ``image_size``.
    """

    image_size: int
    patch_size: int
    fit: Literal["pad", "stretch", "crop", "native", "whole", "snap"] = "pad"
    tile_size: int | None = None

    @property
    def tile(self) -> int:
        """Side of the tiles that a large chip is cut into."""
        return self.tile_size or self.image_size

    def extent(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Rows and columns ``(row0, row1, col0, col1)`` of a chip that the token grid covers evenly."""
        if self.fit == "whole":
            return 0.0, float(height + -height % self.patch_size), 0.0, float(width + -width % self.patch_size)
        if self.fit in ("stretch", "native", "snap") or height == width:
            return 0.0, float(height), 0.0, float(width)
        side = max(height, width) if self.fit == "pad" else min(height, width)
        top, left = (height - side) / 2, (width - side) / 2
        if self.fit == "pad":  # the odd pixel of padding goes to the bottom and the right
            top, left = float(-((side - height) // 2)), float(-((side - width) // 2))
        return top, top + side, left, left + side


@dataclass(frozen=True)
class Variant:
    """One size or release of a family: arguments of the network's constructor, and its weights.

    Attributes:
        batch_size: most samples in a forward on a device with room for them.
        sample_mb: peak memory of a forward's activations per sample of the default input, MB in float32; other inputs
            take it in proportion to their pixels. Measured by ``python -m load_tests.activations``. None: not known.
    """

    dim: int
    build: tuple[tuple[str, OptionValue], ...] = ()
    weights: HubFile | None = None
    parameters_m: float | None = None
    aliases: tuple[str, ...] = ()
    batch_size: int = 32
    sample_mb: float | None = None


@dataclass(frozen=True)
class Source:
    """A further collection of an input: read on the same grid and frames, its bands after those before it."""

    collection: str
    bands: tuple[str, ...]
    cloudy_pct: int | None = 30
    composite: Composite = "median"
    linear: bool = True


@dataclass(frozen=True)
class Input:
    """One modality that a model accepts, and how its pixels are prepared.

    Attributes:
        bands: names of all channels in the order the network wants: those of ``collection``, then those of ``also``.
        also: more collections that are read for the same pixels, for models that take radar and optical imagery.
        other_bands: what a caller may give instead: nothing (``exact``), any of ``bands`` in any order
            (``subset``), or anything whose wavelength is known where one is needed (``any``).
        chain: the steps from sensor values to the network's ``image``, or a function of the options.
        linear: Sentinel-1 in linear power rather than dB.
        scales_m: the pixel sizes that may be read, in metres; empty takes any. The caller's own pixels may have others.
        region: what is read for an ROI: the centred ``square`` around it or its own ``rectangle`` in EPSG:3857, or
            the rectangle in ``degrees`` (EPSG:4326) for a product whose cells are degrees.
        variants: networks of this modality alone, by the name of a variant, where they are not the card's; then it has
            no others.
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
    scales_m: tuple[float, ...] = ()
    cloudy_pct: int | None = 30
    composite: Composite = "median"
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

    def check_scale(self, scale_m: float, model: str) -> None:
        """Refuse a pixel size that the network cannot take.

        Raises:
            InvalidInput: none of ``scales_m``.
        """
        if self.scales_m and scale_m not in self.scales_m:
            msg = f"{model} cannot read pixels of {scale_m:g} m."
            known = ", ".join(f"{scale:g}" for scale in self.scales_m)
            context: dict[str, JSONValue] = {"scale_m": scale_m, "known": list(self.scales_m)}
            raise InvalidInput(msg, hint=f"scale_m is one of {known}.", context=context)

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
        for side in self.side_inputs:
            if isinstance(side, Wavelengths):
                side.of(bands)

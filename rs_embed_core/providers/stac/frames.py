"""Stage fetch, STAC: the frames of a chip, drawn from the scenes of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.chip import FetchPlan
from rs_embed_core.geo import Grid
from rs_embed_core.providers.calls import Asking, in_parallel
from rs_embed_core.providers.stac.composite import MASKED_CLASSES, MISSING, harmonised, reduced
from rs_embed_core.providers.stac.item import Item
from rs_embed_core.providers.stac.presets import CLASSES
from rs_embed_core.providers.stac.reader import Reader

type Scenes = Sequence[Sequence[Item]]
"""The scenes of every frame, in time order."""


@dataclass(frozen=True)
class _Layer:
    """One band of one frame."""

    frame: int
    channel: int
    band: str
    items: Sequence[Item]


@dataclass(frozen=True)
class Drawing:
    """How frames are drawn.

    Attributes:
        reader: reads files.
        threads: for files read at the same time.
        asking: how requests are sent.
        mask_clouds: leave out what the scene classification masks.
        most_values: int32 held at once (256 MiB); what is larger is drawn in strips of rows and groups of bands.
    """

    reader: Reader
    threads: Executor
    asking: Asking
    mask_clouds: bool = False
    most_values: int = 64 * 2**20

    def frames(
        self, plan: FetchPlan, bands: Sequence[str], scenes: Scenes
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Pixels ``[T, C, H, W]`` of the bands (Earth Engine names), and where any band has any ``[T, H, W]``.

        Raises:
            ProviderError: a file could not be read.
        """
        grid = plan.grid
        data = np.full((len(scenes), len(bands), grid.height, grid.width), plan.fill_value, np.float32)
        valid = np.zeros((len(scenes), grid.height, grid.width), np.bool_)
        layers = [
            _Layer(frame, channel, band, items)
            for frame, items in enumerate(scenes)
            if items
            for channel, band in enumerate(bands)
        ]
        for rows, strip in _strips(grid, self.most_values // max(map(len, scenes))):
            masks = self._masks(strip, scenes)
            for group in _groups(layers, self.most_values // (strip.height * strip.width)):
                stacks = self._stacks(group, strip, masks)
                for layer, stack in zip(group, stacks, strict=True):
                    image, seen = reduced(stack, plan.composite)
                    there = seen.reshape(strip.height, strip.width)
                    np.copyto(data[layer.frame, layer.channel, rows], image.reshape(there.shape), where=there)
                    valid[layer.frame, rows] |= there
        return data, valid

    def _masks(self, strip: Grid, scenes: Scenes) -> dict[str, NDArray[np.bool_] | None]:
        """Where each scene is masked, by id; empty without masking."""
        if not self.mask_clouds:
            return {}
        items = {item.id: item for frame in scenes for item in frame}
        jobs = [partial(self._mask, item, strip) for item in items.values()]
        return dict(zip(items, in_parallel(jobs, self.threads), strict=True))

    def _mask(self, item: Item, strip: Grid) -> NDArray[np.bool_] | None:
        classes = self.reader.read(item.asset(CLASSES), strip, self.asking)
        return None if classes is None else np.isin(classes, MASKED_CLASSES)

    def _stacks(
        self, group: Sequence[_Layer], strip: Grid, masks: dict[str, NDArray[np.bool_] | None]
    ) -> list[NDArray[np.int32]]:
        """The scenes of every layer, ``[N, P]`` each."""
        stacks = [np.empty((len(layer.items), strip.height * strip.width), np.int32) for layer in group]
        jobs: list[Callable[[], None]] = [
            partial(self._plane, item, layer.band, strip, mask=masks.get(item.id), out=stack[number])
            for layer, stack in zip(group, stacks, strict=True)
            for number, item in enumerate(layer.items)
        ]
        in_parallel(jobs, self.threads)
        return stacks

    def _plane(
        self, item: Item, band: str, strip: Grid, *, mask: NDArray[np.bool_] | None, out: NDArray[np.int32]
    ) -> None:
        asset = item.asset(band)
        numbers = self.reader.read(asset, strip, self.asking)
        out[:] = MISSING if numbers is None else harmonised(numbers, asset.offset)
        if mask is not None:
            out[mask] = MISSING


def _strips(grid: Grid, most_pixels: int) -> Iterator[tuple[slice, Grid]]:
    """The grid in strips of rows with at most so many pixels (at least one row); nearly always the grid itself."""
    height = max(1, most_pixels // grid.width)
    if height >= grid.height:
        yield slice(0, grid.height), grid
        return
    for top in range(0, grid.height, height):
        bottom = min(grid.height, top + height)
        yield slice(top, bottom), grid.crop(top, bottom, 0, grid.width)


def _groups(layers: Sequence[_Layer], most_scenes: int) -> Iterator[list[_Layer]]:
    """The layers in groups with at most so many scenes together (at least one layer)."""
    group: list[_Layer] = []
    held = 0
    for layer in layers:
        if group and held + len(layer.items) > most_scenes:
            yield group
            group, held = [], 0
        group.append(layer)
        held += len(layer.items)
    yield group

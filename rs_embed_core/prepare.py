"""Stage prepare: a chip becomes the network's samples, exactly as the model was trained."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.chip import Chip
from rs_embed_core.embedding import PrepInfo
from rs_embed_core.errors import InvalidInput, NoImagery, RoiTooLarge
from rs_embed_core.geo import FULL_INSET, Grid
from rs_embed_core.inputs import Shape
from rs_embed_core.notice import Notice
from rs_embed_core.plan import Plan, Recipe, read_scale, recipe
from rs_embed_core.prepared import ChipInfo, Prepared
from rs_embed_core.preprocessing.series import Series, series, single
from rs_embed_core.preprocessing.shape import pad_edge, resample
from rs_embed_core.preprocessing.side_inputs import Scene
from rs_embed_core.preprocessing.time import Frames
from rs_embed_core.sample import Array, Batch, Sample, View, collate
from rs_embed_core.specs.output import InputPrepSpec
from rs_embed_core.specs.request import Ask
from rs_embed_core.specs.spatial import BBox
from rs_embed_core.tiling import TileLayout

SYNTHETIC_NOTICE = Notice(
    "synthetic_imagery",
    "The imagery is simulated (backend synthetic); the embedding describes no real place.",
)

type _Piece = tuple[int, NDArray[np.float32], NDArray[np.bool_] | None]
"""A tile's index, pixels and mask."""


def prepare(chip: Chip, plan: Plan) -> Prepared:
    """Turn a chip into samples.

    Raises:
        NoImagery: no pixel of the chip is valid.
        RoiTooLarge: more tiles than ``input_prep.max_tiles_hard``.
        InvalidInput: bands, frames or values that the model cannot take.
    """
    started = time.perf_counter()
    shared = recipe(plan.ask)
    shared.input.check_bands(chip.bands, shared.card.id)
    _check_frames(len(chip.frames), shared)
    frames = _series(chip, plan, shared)
    chip = frames.chip
    valid, notices = _holes(chip, shared)
    layout, remarks = _layout(plan, shared, chip.grid)
    data, valid = _snapped(chip.data, valid, layout, shared.input.fill_value)
    kept = _kept_tiles(plan, layout)
    samples = [_sample(piece, chip, plan, shared, layout) for piece in _cut(data, valid, layout, kept)]
    info = _describe(frames, plan, shared, layout, kept)
    info = replace(
        info,
        notices=(*info.notices, *frames.notices, *notices, *remarks, *samples[0].notices),
        prepare_ms=1e3 * (time.perf_counter() - started),
        extent=samples[0].extent,
        inset=samples[0].view.inset,
    )
    return Prepared(tuple(samples), info)


def _sample(piece: _Piece, chip: Chip, plan: Plan, shared: Recipe, layout: TileLayout | None) -> Sample:
    """One sample: its pixels through the chain, and what stands beside them."""
    index, image, mask = piece
    raw = Sample(
        {"image": image},
        chip.bands,
        mask,
        shared.card.params(plan.selection),
        _view(plan, shared, layout, index),
        scale_m=read_scale(shared),
        tiled=layout is not None,
    )
    ready = shared.chain(raw)
    sides = _side_inputs(chip, shared, plan, _centre(plan, layout, index))
    return replace(ready, arrays={**ready.arrays, **sides})


def _check_frames(count: int, shared: Recipe) -> None:
    limit = shared.input.time.at_most
    if count > limit:
        msg = f"{shared.card.id} got {count} frames."
        hint = f"It takes at most {limit}; give fewer, or a composite of them."
        raise InvalidInput(msg, hint=hint, context={"frames": count, "limit": limit})


def _series(chip: Chip, plan: Plan, shared: Recipe) -> Series:
    """The frames that the model takes."""
    axis, requested = shared.input.time, len(plan.fetch.frames)
    if isinstance(axis, Frames):
        return series(chip, axis, requested=requested, model=shared.card.id)
    return single(chip, requested)


def _holes(chip: Chip, shared: Recipe) -> tuple[NDArray[np.bool_] | None, tuple[Notice, ...]]:
    """The provider's mask where something is missing or not finite, and what to say of it; None if all is there."""
    seen = chip.valid
    with np.errstate(over="ignore", invalid="ignore"):
        suspect = not np.isfinite(chip.data.sum())  # one cheap pass: a non-finite value survives a sum
    if suspect:
        finite = np.isfinite(chip.data).all(axis=1)
        seen = finite if seen is None else seen & finite
    if seen is None:
        return None, ()
    missing = int(seen.size - np.count_nonzero(seen))
    if missing == seen.size:
        msg = f"all {missing} pixels of {chip.collection} are missing here."
        raise NoImagery(msg, hint="Ask for a longer window, more cloud (cloudy_pct) or another place.")
    if not missing:
        return None, ()
    fill = "the model's fill value" if shared.fill is None else f"the fill_value {shared.fill:g}"
    text = f"{missing} of {seen.size} pixels were missing; {fill} stands in for them."
    if shared.card.product is not None:
        text = f"{missing} of {seen.size} pixels have no embedding (water, or outside the product)."
    valid = np.ones_like(seen) if chip.valid is None else chip.valid
    return valid, (Notice("missing_pixels", text),)


def _layout(plan: Plan, shared: Recipe, grid: Grid) -> tuple[TileLayout | None, tuple[Notice, ...]]:
    """How the chip is cut; None for the plain path."""
    spec = plan.ask.input_prep
    if spec.mode == "resize":
        return None, ()
    if shared.card.product is not None:
        return None, (Notice("input_prep_ignored", f"{shared.card.id} is precomputed: input_prep changes nothing."),)
    return _cut_into(spec, shared.input.shape_for(plan.selection.settings), grid)


def _cut_into(spec: InputPrepSpec, shape: Shape, grid: Grid) -> tuple[TileLayout | None, tuple[Notice, ...]]:
    """How a chip is cut into tiles of the network's size."""
    tile = spec.tile_size or shape.tile
    layout = TileLayout.of(grid.height, grid.width, tile, spec.tile_snap_frac)
    if spec.mode == "auto" and (layout.count == 1 or layout.count > spec.max_tiles):
        return None, ()
    if layout.count > spec.max_tiles_hard:
        msg = f"the ROI needs {layout.count} tiles of {tile} pixels."
        hint = f"At most {spec.max_tiles_hard}; ask for a smaller ROI, a larger scale_m, or input_prep resize."
        raise RoiTooLarge(msg, hint=hint, context={"tiles": layout.count, "limit": spec.max_tiles_hard})
    if layout.count > spec.max_tiles:
        return layout, (Notice("many_tiles", f"The ROI took {layout.count} tiles of {tile} pixels."),)
    return layout, ()


def _snapped(
    data: NDArray[np.float32], valid: NDArray[np.bool_] | None, layout: TileLayout | None, fill_value: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Pixels and mask at the size that the tiles are cut from."""
    if layout is None or (size := (layout.rows.length, layout.columns.length)) == data.shape[-2:]:
        return data, valid
    return _resampled(data, size, fill_value), None if valid is None else _resample_mask(valid, size)


def _resampled(data: NDArray[np.float32], size: tuple[int, int], fill_value: float) -> NDArray[np.float32]:
    """The pixels at another size; a value that is made of a missing one is missing, and no other."""
    finite = np.isfinite(data)
    if finite.all():
        return resample(data, size)
    out = resample(np.where(finite, data, np.float32(fill_value)), size)  # NaN would spread
    out[~_resample_mask(finite, size)] = np.nan
    return out


def _resample_mask(valid: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A pixel is there if every pixel it is made of is."""
    return resample(valid.astype(np.float32), size) >= 1 - 1e-6


def _kept_tiles(plan: Plan, layout: TileLayout | None) -> tuple[int, ...]:
    """Tiles that the answer needs: for a vector only those that own some of the ROI."""
    if layout is None:
        return (0,)
    if plan.ask.output.mode == "grid" or plan.roi == FULL_INSET:
        return tuple(range(layout.count))
    return tuple(i for i in range(layout.count) if layout.owned_area(i, plan.roi) > 0)


def _cut(
    data: NDArray[np.float32],
    valid: NDArray[np.bool_] | None,
    layout: TileLayout | None,
    kept: tuple[int, ...],
) -> Iterator[_Piece]:
    """Yield index, pixels and mask of each tile, edges replicated to full size."""
    if layout is None or layout.count == 1:
        yield 0, data, valid
        return
    height, width = layout.rows.tile, layout.columns.tile
    for index in kept:
        y0, y1, x0, x1 = layout.tile_box(index)
        image = pad_edge(data[..., y0:y1, x0:x1], height, width)
        mask = None
        if valid is not None:
            mask = pad_edge(valid[..., y0:y1, x0:x1].astype(np.float32), height, width) > 0
        yield index, image, mask


def _view(plan: Plan, shared: Recipe, layout: TileLayout | None, index: int) -> View:
    output = plan.ask.output
    if layout is not None and layout.count > 1:
        return View(output.mode, output.pooling, tile=(layout, index) if output.mode == "grid" else None)
    inset = None if plan.roi == FULL_INSET else plan.roi
    how = shared.card.roi_pooling
    pooling = "mean" if how == "mean" and inset is not None else output.pooling
    return View(output.mode, pooling, inset is None or how == "head", inset)


def _side_inputs(chip: Chip, shared: Recipe, plan: Plan, place: tuple[float, float] | None) -> dict[str, Array]:
    if not shared.input.side_inputs:
        return {}
    scene = Scene(chip.bands, chip.frames, place, read_scale(shared), plan.selection.settings, len(plan.fetch.frames))
    return {side.name: side(scene) for side in shared.input.side_inputs}


def _centre(plan: Plan, layout: TileLayout | None, index: int) -> tuple[float, float] | None:
    """Longitude and latitude of a sample: every tile of a box has its own place, the tiles of a point share it.

    As in the reference, the box that was asked for, not the square that was read, is divided evenly in degrees
    (golden/clay/spec.md, "Side inputs").
    """
    box = plan.spatial
    if layout is None or layout.count == 1 or not isinstance(box, BBox):
        return plan.centre
    y0, y1, x0, x1 = layout.tile_box(index)
    across, down = (x0 + x1) / 2 / layout.columns.length, (y0 + y1) / 2 / layout.rows.length
    return box.minlon + across * (box.maxlon - box.minlon), box.maxlat - down * (box.maxlat - box.minlat)


def _describe(frames: Series, plan: Plan, shared: Recipe, layout: TileLayout | None, kept: tuple[int, ...]) -> ChipInfo:
    chip, spec = frames.chip, plan.ask.input_prep
    chain = shared.chain
    prep = PrepInfo(
        requested=spec.mode,
        resolved="resize" if layout is None else "tile",
        chain=chain.text,
        digest=chain.digest,
        input_hw=(chip.grid.height, chip.grid.width),
        tiles=len(kept),
        tile_size=None if layout is None else layout.rows.tile,
    )
    notices = list(plan.notices)
    if chip.provider == "synthetic":
        notices.append(SYNTHETIC_NOTICE)
    headed = shared.card.roi_pooling == "head" and layout is None and plan.ask.output.mode == "pooled"
    if headed and plan.roi != FULL_INSET:
        text = "The vector is the model's image vector of the square around the rectangular ROI."
        notices.append(Notice("square_pooled", text))
    return ChipInfo(
        grid=chip.grid if layout is None else chip.grid.with_shape(layout.rows.length, layout.columns.length),
        provider=chip.provider,
        collection=chip.collection,
        bands=chip.bands,
        frames=frames.count,
        acquisitions=chip.acquisitions,
        facts=chip.facts if shared.card.product is None else (*chip.facts, ("nodata_fraction", _blank(chip))),
        prep=prep,
        layout=layout if layout is not None and layout.count > 1 else None,
        tiles=kept,
        notices=tuple(notices),
        prepare_ms=0.0,
    )


def _blank(chip: Chip) -> float:
    """Share of pixels whose first value is missing."""
    first = np.isnan(chip.data[:, 0])
    return float((first if chip.valid is None else first | ~chip.valid).mean())


def example(ask: Ask) -> Batch:
    """A batch of one plausible sample, to warm a network up with: no imagery is read."""
    shared = recipe(ask)
    side = shared.input.shape_for(shared.selection.settings).image_size
    read = shared.read
    grid = replace(read.grid, height=side, width=side)
    ramp = np.linspace(200, 4200, side * side, dtype=np.float32).reshape(side, side)
    bands = shared.bands
    shape = (len(read.frames), len(bands), side, side)
    steps = np.arange(len(read.frames), dtype=np.float32)[:, None, None, None]  # no frame repeats another
    chip = Chip(np.broadcast_to(ramp + steps, shape).copy(), grid, bands, read.frames, "example", read.collection)
    resolved = Plan(ask, shared.selection, shared.window, replace(read, grid=grid))
    return collate(prepare(chip, resolved).samples)

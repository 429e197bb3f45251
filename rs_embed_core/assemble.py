"""Stage assemble: the tokens of one ROI become its ``Embedding``: stitched, cropped, merged, georeferenced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.embedding import (
    Embedding,
    EmbeddingMeta,
    EncoderInfo,
    Source,
    georeference,
)
from rs_embed_core.geo import FULL_INSET, Grid, Inset
from rs_embed_core.inputs import Shape
from rs_embed_core.notice import Notice
from rs_embed_core.plan import Plan, read_scale, recipe
from rs_embed_core.prepared import ChipInfo
from rs_embed_core.sample import Extent
from rs_embed_core.tiling import crop_cells, merge_max, merge_mean, stitch
from rs_embed_core.tokens import Tokens

_WHOLE = 1e-6


def assemble(
    tokens: Sequence[Tokens],
    plan: Plan,
    info: ChipInfo,
    encoder: EncoderInfo,
    *,
    timings_ms: Mapping[str, float] | None = None,
) -> Embedding:
    """The embedding of one ROI from the tokens of its samples, in the order of ``info.tiles``."""
    data, grid = combine(tokens, plan, info)
    meta = describe(plan, info, encoder, grid=grid, timings_ms=timings_ms or {})
    if grid is None:
        return Embedding(data, meta.to_dict())
    return Embedding(georeference(data, grid, name=f"{meta.model}-{meta.variant}"), meta.to_dict())


def combine(tokens: Sequence[Tokens], plan: Plan, info: ChipInfo) -> tuple[NDArray[np.float32], Grid | None]:
    """The numbers of one ROI: ``(D,)`` and None, or ``(D, h, w)`` and the cells' place."""
    pooled = plan.ask.output.mode == "pooled"
    cells = tokens[0].cells
    if info.layout is None:
        data = tokens[0].data
        extent = info.extent or _shape(plan).extent(info.grid.height, info.grid.width)
        return data, None if pooled else _cell_grid(info, cells, extent, info.inset)
    if pooled:
        inset = None if plan.roi == FULL_INSET else plan.roi
        areas = [info.layout.owned_area(tile, inset) for tile in info.tiles]
        merge = merge_mean if plan.ask.output.pooling == "mean" else merge_max
        return merge([token.data for token in tokens], areas), None
    whole = stitch([token.data for token in tokens], info.layout)
    stitched = (whole.shape[1], whole.shape[2])
    r0, r1, c0, c1 = crop_cells(*stitched, plan.roi)
    extent = (0.0, info.layout.rows.reach(cells[0]), 0.0, info.layout.columns.reach(cells[1]))
    return np.ascontiguousarray(whole[:, r0:r1, c0:c1]), _cell_grid(info, stitched, extent, plan.roi)


def _cell_grid(info: ChipInfo, cells: tuple[int, int], extent: Extent, inset: Inset | None) -> Grid:
    """Where the kept cells are: ``cells`` cover ``extent`` evenly, and the ROI's inset was cut from them.

    Where the last tile was shifted back its cells are out of step with the others, by less than one cell: ``_seams``
    says so.
    """
    whole = info.grid.divided(extent, *cells)
    return whole if inset is None else whole.crop(*crop_cells(*cells, inset))


def _shape(plan: Plan) -> Shape:
    return recipe(plan.ask).input.shape_for(plan.selection.settings)


def describe(
    plan: Plan,
    info: ChipInfo,
    encoder: EncoderInfo,
    *,
    grid: Grid | None,
    timings_ms: Mapping[str, float],
) -> EmbeddingMeta:
    """The provenance of one result."""
    ask = plan.ask
    pooled = ask.output.mode == "pooled"
    product = recipe(ask).card.product
    about = ("nodata_fraction", *product.facts) if product else ()
    return EmbeddingMeta(
        model=plan.selection.model,
        variant=plan.selection.variant,
        modality=plan.selection.modality,
        source=_source(plan, info, tuple(fact for fact in info.facts if fact[0] not in about)),
        window=plan.window,
        kind="on_the_fly" if product is None else "precomputed",
        temporal_mode="year" if product else "range" if ask.temporal is None else ask.temporal.mode,
        roi=() if plan.spatial is None else tuple(plan.spatial.to_dict().items()),
        image_size=None if product else _shape(plan).image_size,
        output=ask.output.mode,
        pooling=_pooling_name(plan, info) if pooled else None,
        grid=grid,
        frames=info.frames,
        prepare=info.prep,
        encoder=encoder,
        notices=(*info.notices, *_seams(info, grid), *_weights_notice(encoder)),
        timings_ms=tuple(timings_ms.items()),
        options=plan.selection.options,
        facts=tuple(fact for fact in info.facts if fact[0] in about),
    )


def _source(plan: Plan, info: ChipInfo, facts: tuple[tuple[str, str | int | float | bool], ...]) -> Source:
    """The imagery as it was read, and the facts of the read."""
    read = plan.fetch
    return Source(
        provider=info.provider,
        collection=info.collection,
        bands=info.bands,
        scale_m=read_scale(recipe(plan.ask)),
        composite=read.composite,
        cloudy_pct=read.cloudy_pct,
        fill_value=read.fill_value,
        acquisitions=info.acquisitions,
        facts=facts,
    )


def _seams(info: ChipInfo, grid: Grid | None) -> tuple[Notice, ...]:
    """What to say of a grid whose tiles do not follow each other by whole cells."""
    if grid is None or info.layout is None:
        return ()
    (dx, _, _, _, dy, _), (cell_x, _, _, _, cell_y, _) = info.grid.transform, grid.transform
    # Cells are spread evenly, so a tile is a whole number of them unless one too many or too few had to fit.
    counts = (info.layout.rows.tile * dy / cell_y, info.layout.columns.tile * dx / cell_x)
    if all(abs(count - round(count)) < _WHOLE for count in counts):
        return ()
    text = "The last tile overlaps its neighbour by no whole number of cells: some lie up to a cell beside their place."
    return (Notice("tile_seams", text),)


def _weights_notice(encoder: EncoderInfo) -> tuple[Notice, ...]:
    weights = encoder.checkpoint
    if weights is None or weights.verified is not False:
        return ()
    text = f"The weights are not the published {weights.repo}/{weights.file}: their sha256 is {weights.sha256}."
    return (Notice("other_weights", text),)


def _pooling_name(plan: Plan, info: ChipInfo) -> str:
    """``mean`` or ``max``; the cells of a rectangular ROI are reported as the reference does."""
    how = recipe(plan.ask).card.roi_pooling
    if plan.roi == FULL_INSET or info.layout is not None or how == "head":
        return plan.ask.output.pooling
    return "roi_grid_mean" if how == "mean" else f"roi_grid_{plan.ask.output.pooling}"

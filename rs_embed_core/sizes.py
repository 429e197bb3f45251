"""How much an ROI takes on its way, about, from its plan alone: as imagery, as samples, as a result."""

from __future__ import annotations

import math

from rs_embed_core.plan import Plan, Recipe, recipe
from rs_embed_core.tiling import TileLayout

VALUE_BYTES = 4  # everything is float32


def samples_of(resolved: Plan) -> int:
    """Inputs of the network for one ROI: its tiles, or one."""
    spec, shared = resolved.ask.input_prep, recipe(resolved.ask)
    if spec.mode == "resize" or shared.card.product is not None:
        return 1
    grid, shape = resolved.fetch.grid, shared.input.shape_for(resolved.selection.settings)
    count = TileLayout.of(grid.height, grid.width, spec.tile_size or shape.tile, spec.tile_snap_frac).count
    return 1 if spec.mode == "auto" and count > spec.max_tiles else count


def sample_values(resolved: Plan) -> int:
    """Values of all samples of one ROI together."""
    shared = recipe(resolved.ask)
    height, width = _input_size(resolved, shared)
    return samples_of(resolved) * len(shared.frames) * len(shared.bands) * height * width


def held_bytes(resolved: Plan) -> int:
    """Bytes of one ROI when it is largest: it is imagery, then samples, then a result."""
    shared = recipe(resolved.ask)
    if shared.card.product is not None:  # what was read is the result
        return VALUE_BYTES * resolved.pixels
    return VALUE_BYTES * max(resolved.pixels, sample_values(resolved), _result_values(resolved, shared))


def _result_values(resolved: Plan, shared: Recipe) -> int:
    """Values of the vector, or of a grid of all cells: the part around the ROI is counted too."""
    dim = shared.card.variant(shared.selection.variant, shared.selection.modality).dim
    if resolved.ask.output.mode == "pooled":
        return dim
    patch = shared.input.shape_for(resolved.selection.settings).patch_size
    height, width = _input_size(resolved, shared)
    return samples_of(resolved) * dim * math.ceil(height / patch) * math.ceil(width / patch)


def _input_size(resolved: Plan, shared: Recipe) -> tuple[int, int]:
    """Pixels of one sample; a network that takes any shape gets the imagery, or the tile, as it is."""
    grid, shape = resolved.fetch.grid, shared.input.shape_for(resolved.selection.settings)
    if shape.fit not in ("native", "whole"):
        return shape.image_size, shape.image_size
    if samples_of(resolved) == 1:
        return grid.height, grid.width
    side = resolved.ask.input_prep.tile_size or shape.tile
    return side, side

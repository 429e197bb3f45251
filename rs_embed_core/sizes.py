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
    count, height, width = _inputs(resolved, shared)
    return count * len(shared.frames) * len(shared.bands) * height * width


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
    count, height, width = _inputs(resolved, shared)
    return count * dim * math.ceil(height / patch) * math.ceil(width / patch)


def _inputs(resolved: Plan, shared: Recipe) -> tuple[int, int, int]:
    """How many samples, and the pixels of one; a network that takes any shape gets imagery or tile as it is."""
    grid, shape, count = resolved.fetch.grid, shared.input.shape_for(resolved.selection.settings), samples_of(resolved)
    if shape.fit not in ("native", "whole"):
        return count, shape.image_size, shape.image_size
    if count == 1:
        return count, grid.height, grid.width
    side = resolved.ask.input_prep.tile_size or shape.tile
    return count, side, side

"""Stage assemble, as the router runs it: the tokens of a block become rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from pydantic_core import to_json

from rs_embed_core.assemble import combine, describe
from rs_embed_core.errors import RSEmbedError
from rs_embed_core.plan import Plan
from rs_embed_core.tokens import Tokens
from serve_app.wire.blocks import BlockInfo, BlockItem, Encoded, EncodedBatch
from serve_app.wire.rows import Row


def assembled(
    info: BlockInfo, plans: Mapping[int, Plan], batches: Sequence[EncodedBatch], encoded: Encoded
) -> Iterator[Row]:
    """Yield the row of each ROI of a block that was read.

    Args:
        plans: of these ROIs, by index.
        batches: what became of the block's batches.
        encoded: the answer that they were in.
    """
    outcomes = [_outcomes(batch) for batch in batches]
    for entry in info.good:
        own = [outcomes[slot.batch][slot.position] for slot in entry.slots]
        yield _row(entry, plans[entry.index], own, encoded)


def _row(entry: BlockItem, plan: Plan, outcomes: Sequence[Tokens | RSEmbedError], encoded: Encoded) -> Row:
    error = next((outcome for outcome in outcomes if isinstance(outcome, RSEmbedError)), None)
    if error is not None or entry.info is None:
        return Row(entry.index, error=error)
    tokens = [outcome for outcome in outcomes if isinstance(outcome, Tokens)]
    data, grid = combine(tokens, plan, entry.info)
    timings = {
        "fetch": round(entry.fetch_ms, 3),
        "prepare": round(entry.info.prepare_ms, 3),
        "forward": round(encoded.encode_ms, 3),
    }
    meta = describe(plan, entry.info, encoded.encoder, grid=grid, timings_ms=timings)
    return Row(entry.index, np.ascontiguousarray(data), to_json(meta.to_dict()).decode())


def _outcomes(batch: EncodedBatch) -> list[Tokens | RSEmbedError]:
    """One outcome per position of a batch."""
    failed = dict(batch.errors)
    tokens = iter(batch.tokens.unpack())
    count = len(failed) + len(batch.tokens.cells)
    return [failed[i] if i in failed else next(tokens) for i in range(count)]

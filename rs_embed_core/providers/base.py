"""Stage fetch: what a provider is, and the grids that one is read on."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from rs_embed_core.chip import Chip, FetchPlan
from rs_embed_core.errors import ProviderError
from rs_embed_core.geo import Grid


@runtime_checkable
class Provider(Protocol):
    """A source of chips. ``fetch`` blocks, may be called from several threads at once and knows no model.

    An empty time bin is reported in ``Chip.empty_frames``, never filled from another; imagery that is not to be
    had at all is ``NoImagery``.
    """

    @property
    def name(self) -> str:
        """The name that ``backend=`` selects it by."""

    def fetch(self, plan: FetchPlan) -> Chip:
        """Read one chip.

        Raises:
            ProviderError: with the finer class that says what went wrong.
        """


def require_grid(grid: Grid, crs: str, who: str) -> None:
    """Accept north-up grids in one projection.

    Args:
        grid: the pixels wanted.
        crs: what they must be in.
        who: what is read, for the message.

    Raises:
        ProviderError: ``unsupported_grid``.
    """
    if grid.crs != crs or not grid.is_north_up:
        msg = f"{who} cannot be read on the grid {grid.crs} {grid.transform}."
        raise ProviderError(msg, code="unsupported_grid", hint=f"Use a north-up grid in {crs}.", retryable=False)

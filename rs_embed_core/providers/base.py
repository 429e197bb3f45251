"""Stage fetch: what a provider is, and the table of those known by name."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from rs_embed_core.chip import Chip, FetchPlan


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

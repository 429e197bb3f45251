"""Stage fetch: the ``gee`` provider, imagery from Google Earth Engine."""

from __future__ import annotations

from dataclasses import replace

from rs_embed_core.chip import Chip, FetchPlan
from rs_embed_core.providers.calls import Tally, Turnstile
from rs_embed_core.providers.gate import Gate
from rs_embed_core.providers.gee.graph import check_grid
from rs_embed_core.providers.gee.read import Reader
from rs_embed_core.providers.gee.session import GeeSettings, open_session
from rs_embed_core.providers.proxies import combine, parts_of


class GeeProvider:
    """Imagery from Earth Engine, composited there; the client is initialised by the first read.

    Args:
        settings: account, project, endpoint and limits.
        gate: what every request passes; of its own, with the limits of the settings, where none is given.
    """

    def __init__(self, settings: GeeSettings | None = None, gate: Turnstile | None = None) -> None:
        self._settings = settings or GeeSettings()
        self._gate = gate or Gate(self._settings.quota, name="Earth Engine")

    @property
    def name(self) -> str:
        """``gee``."""
        return "gee"

    def check(self) -> tuple[str, str]:
        """The project and the endpoint, after the client has been initialised with them.

        Raises:
            ProviderError: why that failed, with what to do.
        """
        session = open_session(self._settings, self._gate)
        return session.project, session.url

    def fetch(self, plan: FetchPlan) -> Chip:
        """Read one chip.

        Raises:
            NoImagery: no frame has a scene; the message counts what each filter left.
            ProviderAuth: ``missing_project``, ``missing_credentials``, ``credentials_expired``, ``no_permission``, ...
            ProviderQuota: too many requests, or (``daily_quota``) the day's are spent.
            ProviderTimeout: no answer within the read's deadline.
            ProviderError: ``unknown_collection``, ``unknown_band``, ``computation_too_large``, ...
        """
        check_grid(plan.grid)
        parts = parts_of(plan)
        session = open_session(self._settings, self._gate)
        reader = Reader(self._gate, Tally(), self._settings.workload_tag)
        chip = combine(plan, [reader.read(part) for part in parts]) if parts else reader.read(plan)
        about = (("workload_tag", self._settings.workload_tag), ("quota_restricted", session.transport.restricted))
        return replace(chip, facts=(*reader.tally.facts(), *chip.facts, *about))

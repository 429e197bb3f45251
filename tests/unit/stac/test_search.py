"""How much of the answers of a STAC API is kept."""

from __future__ import annotations

import datetime as dt

from rs_embed_core.chip import Period
from rs_embed_core.providers.calls import Asking, Tally
from rs_embed_core.providers.gate import Gate, Quota
from rs_embed_core.providers.stac.catalogue import StacApi
from rs_embed_core.providers.stac.faults import judge
from rs_embed_core.providers.stac.item import Reading
from tests.unit.stac.server import serving
from tests.unit.stac.written import NAMES


def test_searches_are_kept_up_to_so_many_scenes(catalogue):
    with serving(catalogue.parent) as server:
        api = StacApi(server.url, "sentinel-2-l2a", Reading(NAMES["planetary-computer"], "baseline"), room=8)
        asking = Asking(judge, Gate(Quota(1, 1e6), name="x"), Tally())

        def searches(*days: int) -> list[int]:
            """Requests that one search each took."""
            counts = []
            for day in days:
                before = server.count("/search")
                period = Period(dt.date(2022, 6, day), dt.date(2022, 6, day + 1))
                api.search((11.99, 48.09, 12.01, 48.11), period, None, asking)
                counts.append(server.count("/search") - before)
            return counts

        assert searches(1, 6, 11, 1) == [1, 1, 1, 0]  # of 2, 1 and 1 scenes; each answer counts as one more
        assert searches(16, 6, 1, 11) == [1, 1, 0, 1]
        assert searches(20, 21, 22, 23, 24, 25, 20, 1) == [1, 1, 1, 1, 1, 1, 0, 1]  # with none at all

"""Jobs of one model, and routers that take them in this process."""

from __future__ import annotations

from collections.abc import Callable

from rs_embed_core import TemporalSpec
from rs_embed_core.specs.request import Ask
from serve_app.router import Deployed, Router
from serve_app.settings import LimitSettings, ModelSettings, ProviderSettings
from serve_app.stream import stream
from serve_app.wire.rows import Job, Row
from tests.unit.pipeline_fakes import LocalEncoder, LocalFetchers

SUMMER = TemporalSpec.range("2022-06-01", "2022-09-01")
ASK = Ask(model="mosaiks", temporal=SUMMER)


def places(count: int) -> tuple[object, ...]:
    return tuple({"lon": 11.0 + 0.01 * i, "lat": 48.0, "buffer_m": 80.0} for i in range(count))


def router(fetchers: LocalFetchers | None = None, encoder: LocalEncoder | None = None, **limits: float) -> Router:
    deployed = Deployed(ModelSettings(model="mosaiks"), encoder or LocalEncoder())
    settings = LimitSettings.model_validate(limits)
    return Router({"mosaiks-gaussian": deployed}, fetchers or LocalFetchers(), settings, ProviderSettings())


def raising(error: Exception) -> Callable[[int], None]:
    def fail(call: int) -> None:
        raise error

    return fail


async def collect(job: Job, by: Router) -> list[Row]:
    return [row async for rows in stream(job, by.route(job)) for row in rows]

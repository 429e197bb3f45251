"""``watch_process``: logs and traces of one of the service's processes, set up where it begins."""

from __future__ import annotations

from serve_app.observe import logs, tracing
from serve_app.settings import ObserveSettings


def watch_process(name: str, settings: ObserveSettings | None) -> None:
    """Write log lines and traces under this name; with None leave the process as it is (tests, other programs)."""
    if settings is None:
        return
    logs.set_up(name, settings.log_format, settings.log_level)
    tracing.set_up(name, settings.traces.endpoint, settings.traces.ratio)

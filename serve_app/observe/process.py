"""``watch_process``: logs, traces and metrics of one of the service's processes, set up where it begins."""

from __future__ import annotations

from serve_app.observe import logs, tracing
from serve_app.observe.measures import belong_to
from serve_app.settings import ObserveSettings


def watch_process(name: str, settings: ObserveSettings | None, application: str | None = None) -> None:
    """Write log lines and traces under this name; with None leave the process as it is (tests, other programs).

    Args:
        application: that the process works for; None asks Serve whose replica it is.
    """
    if settings is None:
        return
    belong_to(_own_application() if application is None else application)
    logs.set_up(name, settings.log_format, settings.log_level)
    tracing.set_up(name, settings.traces.endpoint, settings.traces.ratio)


def _own_application() -> str:
    """Of this replica: a Serve config may say another than the settings."""
    from ray import serve

    name: str = serve.get_replica_context().app_name
    return name

"""The service's settings for commands, with mistakes in them as one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rs_embed_core.errors import InvalidRequest

if TYPE_CHECKING:
    from serve_app.settings import ServiceSettings


def read_settings(config: str | None = None, *, flags: Mapping[str, object] | None = None) -> ServiceSettings:
    """The settings that file, environment and flags give.

    Raises:
        InvalidRequest: an unknown setting, or a value out of range.
    """
    from pydantic import ValidationError

    from serve_app.settings import load_settings

    try:
        return load_settings(config, flags=flags)
    except ValidationError as error:
        mistakes = [f"{'.'.join(map(str, mistake['loc']))}: {mistake['msg']}" for mistake in error.errors()]
        msg = f"the settings are wrong: {'; '.join(mistakes)}."
        raise InvalidRequest(msg, hint="docs/reference/settings.md lists all settings.") from error

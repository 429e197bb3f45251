"""The catalogue as it crosses HTTP and handles: a model is found in it as in the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rs_embed_core.errors import JSONValue
from rs_embed_core.registry import plain_name, unknown_model


def find_model(catalogue: Sequence[Mapping[str, JSONValue]], model: str) -> dict[str, JSONValue]:
    """The entry of an id or alias (case and ``-`` do not matter).

    Raises:
        UnknownModel: no such name; the hint has the nearest ones.
    """
    wanted = plain_name(model)
    ids = {str(entry.get("id")): entry for entry in catalogue}
    aliases = {alias: entry for entry in catalogue for alias in aliases_of(entry)}
    found = ids.get(wanted) or aliases.get(wanted)
    if found is None:
        raise unknown_model(model, ids, aliases)
    return dict(found)


def aliases_of(entry: Mapping[str, JSONValue]) -> list[str]:
    """The other names of a model."""
    aliases = entry.get("aliases")
    return [str(alias) for alias in aliases] if isinstance(aliases, list | tuple) else []

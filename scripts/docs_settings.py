"""docs/reference/settings.md, from the fields of ``ServiceSettings``."""

from __future__ import annotations

import json
from typing import Any

from docs_text import code, codes, note, table

from serve_app.settings import ServiceSettings

type Json = dict[str, Any]  # Any: JSON Schema is open-ended

_INTRO = """# Settings

One tree, `serve_app.settings.ServiceSettings`, built once: defaults, then a YAML file (`--config`, or
`RS_EMBED_CONFIG`), then environment variables, then flags; the later wins. An unknown key in a file or a flag
is an error that names it.

The environment variable of a setting is `RS_EMBED_` and its path in capitals, with `__` between the levels.
Lists are JSON: `RS_EMBED_MODELS='[{"model": "galileo"}]'`. [Operations](../guide/operations.md) says which
settings matter when.

"""
_WORDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "array": "list",
    "object": "names with numbers",
}
_LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most"}


def page() -> str:
    """Every setting with its environment variable, values, default and meaning."""
    schema = ServiceSettings.model_json_schema()
    defaults = ServiceSettings().model_dump(mode="json")
    defaults["models"] = [model.model_dump(exclude_unset=True) for model in ServiceSettings().models]
    parts, plain = [], []
    for name, field in schema["properties"].items():
        if "$ref" not in field:
            plain.append(_row(name, name, field | {"default": defaults[name]}))
            continue
        section = _definition(schema, field["$ref"])
        title = f"## {name}\n\n{ServiceSettings.model_fields[name].description}\n\n"
        rows = [_row(f"{name}.{key}", f"{name}__{key}", item) for key, item in section.items()]
        parts.append(title + table([("setting", "environment", "values", "default", "meaning"), *rows]))
    model = _definition(schema, schema["properties"]["models"]["items"]["$ref"])
    items = [_row(f"models[].{key}", "", item) for key, item in model.items()]
    bare = table([("setting", "values", "default", "meaning"), *((row[0], *row[2:]) for row in items)])
    models = f"## models[]\n\nOne entry per model variant.\n\n{bare}"
    top = table([("setting", "environment", "values", "default", "meaning"), *plain])
    return note("serve_app/settings.py") + _INTRO + "\n".join([top, models, *parts])


def _definition(schema: Json, reference: str) -> Json:
    """The fields that a reference of the schema points to."""
    fields: Json = schema["$defs"][reference.rpartition("/")[2]]["properties"]
    return fields


def _row(path: str, variable: str, field: Json) -> tuple[str, ...]:
    default = code(json.dumps(field["default"])) if "default" in field else "required"
    if default == code("null"):
        default = "empty"
    return code(path), code(f"RS_EMBED_{variable.upper()}"), _values(field), default, field["description"]


def _values(field: Json) -> str:
    """The values of a setting, in words."""
    kind = next(kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null")
    if "enum" in kind:
        return "one of " + codes(kind["enum"])
    text = "path" if kind.get("format") == "path" else _WORDS[kind["type"]]
    return ", ".join([text, *(f"{said} {kind[key]:g}" for key, said in _LIMITS.items() if key in kind)])

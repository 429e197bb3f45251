"""docs/reference/settings.md, from the fields of ``ServiceSettings``."""

from __future__ import annotations

import json
from collections.abc import Iterator
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
_HEADING = ("setting", "environment", "values", "default", "meaning")
_LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most"}


def page() -> str:
    """Every setting with its environment variable, values, default and meaning."""
    schema = ServiceSettings.model_json_schema()
    models = [model.model_dump(exclude_unset=True) for model in ServiceSettings().models]
    fields = schema["properties"] | {"models": schema["properties"]["models"] | {"default": models}}
    plain, parts = [], []
    for name, field in fields.items():
        if "properties" in _meant(field, schema):
            parts += _sections(name, field, schema)
        else:
            plain.append(_row(name, field, schema))
    item = _meant(fields["models"]["items"], schema)["properties"]
    items = [_row(f"models[].{key}", field, schema) for key, field in item.items()]
    bare = table([(row[0], *row[2:]) for row in (_HEADING, *items)])  # a list has no variables of its items
    top = [table([_HEADING, *plain]), f"## models[]\n\nOne entry per model variant.\n\n{bare}"]
    return note("serve_app/settings.py") + _INTRO + "\n".join([*top, *parts])


def _sections(path: str, field: Json, schema: Json) -> Iterator[str]:
    """Yield the chapter of a section, then those of the sections inside it."""
    rows, inner, section = [], [], _meant(field, schema)
    for key, item in section["properties"].items():
        if "properties" in _meant(item, schema):
            inner += _sections(f"{path}.{key}", item, schema)
        else:
            rows.append(_row(f"{path}.{key}", item, schema))
    description = field.get("description", section["description"])  # pydantic says it once where both say the same
    variable = code(f"{_variable(path)}={{}}")
    unset = f" Not set up unless something of it is set; {variable} takes all defaults." if "anyOf" in field else ""
    yield f"## {path}\n\n{description}{unset}\n\n{table([_HEADING, *rows])}"
    yield from inner


def _meant(field: Json, schema: Json) -> Json:
    """What the values of a field are, references followed and null left out."""
    kind: Json = next(kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null")
    found: Json = schema["$defs"][kind["$ref"].rpartition("/")[2]] if "$ref" in kind else kind
    return found


def _row(path: str, field: Json, schema: Json) -> tuple[str, ...]:
    default = code(json.dumps(field["default"])) if "default" in field else "required"
    if default == code("null"):
        default = "empty"
    return code(path), code(_variable(path)), _values(_meant(field, schema)), default, field["description"]


def _variable(path: str) -> str:
    return f"RS_EMBED_{path.replace('.', '__').upper()}"


def _values(kind: Json) -> str:
    """The values of a setting, in words."""
    if "enum" in kind:
        return "one of " + codes(kind["enum"])
    text = "path" if kind.get("format") == "path" else _WORDS[kind["type"]]
    return ", ".join([text, *(f"{said} {kind[key]:g}" for key, said in _LIMITS.items() if key in kind)])

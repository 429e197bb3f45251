"""Keys that a pydantic model passes over without a word: most models ignore what they do not know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel


def unknown(value: Any, annotation: Any, at: str = "") -> Iterator[str]:
    """Yield the paths of keys in a tree that no model in ``annotation`` has a field for."""
    if isinstance(value, list):
        for i, item in enumerate(value):
            yield from unknown(item, annotation, f"{at}[{i}]")
    elif isinstance(value, dict) and (models := list(_models(annotation))):
        fields = {field.alias or name: field for model in models for name, field in model.model_fields.items()}
        for name, item in value.items():
            if name not in fields:
                yield f"{at}.{name}".lstrip(".")
            else:
                yield from unknown(item, fields[name].annotation, f"{at}.{name}")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models among what an annotation allows: of ``list[X] | None`` it is X."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)

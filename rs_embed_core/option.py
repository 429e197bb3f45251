"""``Option``, one key of ``model_config``: typed, bounded, documented. A part of ``ModelCard``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rs_embed_core.errors import JSONValue, UnknownOption
from rs_embed_core.specs.request import OptionValue


@dataclass(frozen=True)
class Option:
    """One key of ``model_config``.

    Attributes:
        role: who reads it: the preparation (``prepare``, also frames and shape), the network's constructor
            (``build``) or its forward (``forward``).
    """

    name: str
    default: OptionValue
    doc: str
    role: Literal["prepare", "build", "forward"]
    choices: tuple[OptionValue, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    multiple_of: int | None = None

    def check(self, value: OptionValue, model: str) -> OptionValue:
        """The value in the option's own type.

        Raises:
            UnknownOption: not a value that this option takes.
        """
        kind = type(self.default)
        if kind is float and type(value) is int:
            value = float(value)
        if kind is str and isinstance(value, str):
            value = value.lower()
        ok = type(value) is kind
        ok = ok and (not self.choices or value in self.choices)
        if ok and isinstance(value, int | float):
            ok = (self.minimum is None or value >= self.minimum) and (self.maximum is None or value <= self.maximum)
            ok = ok and (self.multiple_of is None or value % self.multiple_of == 0)
        if not ok:
            msg = f"model_config {self.name}={value!r} is not possible for {model}."
            raise UnknownOption(msg, hint=f"{self.name} is {self.takes}.", context={"option": self.name})
        return value

    @property
    def takes(self) -> str:
        """The values it takes, in words."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        limits = [f">= {self.minimum:g}"] if self.minimum is not None else []
        limits += [f"<= {self.maximum:g}"] if self.maximum is not None else []
        limits += [f"in steps of {self.multiple_of}"] if self.multiple_of is not None else []
        return " ".join([_JSON_TYPES[type(self.default)], *limits])

    def schema(self) -> dict[str, JSONValue]:
        """The option as JSON Schema."""
        out: dict[str, JSONValue] = {
            "type": _JSON_TYPES[type(self.default)],
            "default": self.default,
            "description": self.doc,
        }
        if self.choices:
            out["enum"] = list(self.choices)
        bounds = {"minimum": self.minimum, "maximum": self.maximum, "multipleOf": self.multiple_of}
        return out | {name: bound for name, bound in bounds.items() if bound is not None}


_JSON_TYPES: Mapping[type, str] = {int: "integer", float: "number", str: "string", bool: "boolean"}

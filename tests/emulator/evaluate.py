"""Evaluate an expression as the client serialises it (earth_engine.md, 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any  # an expression's values are numbers, images, filters, functions, ...

from rs_embed_core.errors import JSONValue
from tests.emulator.limits import Refused

type Function = Callable[..., Any]


@dataclass(frozen=True)
class Closure:
    """A function that the expression defines."""

    names: tuple[str, ...]
    body: str
    evaluation: Evaluation

    def __call__(self, *arguments: object) -> Any:
        """Its value for these arguments."""
        bound = self.evaluation.bound | dict(zip(self.names, arguments, strict=True))
        return Evaluation(self.evaluation.nodes, self.evaluation.functions, bound).at(self.body)


class Evaluation:
    """The values of an expression's nodes; each is computed once, except below an argument of a function.

    Args:
        nodes: by key.
        functions: what ``functionInvocationValue`` may call, by name.
        bound: the arguments of the functions around.
    """

    def __init__(
        self,
        nodes: Mapping[str, Mapping[str, Any]],
        functions: Mapping[str, Function],
        bound: Mapping[str, object] | None = None,
    ) -> None:
        self.nodes = nodes
        self.functions = functions
        self.bound = dict(bound or {})
        self._known: dict[str, Any] = {}
        self._readers: Mapping[str, Function] = {
            "constantValue": lambda content: content,
            "integerValue": int,
            "valueReference": self.at,
            "argumentReference": self.bound.__getitem__,
            "arrayValue": lambda content: [self.value(item) for item in content.get("values", [])],
            "dictionaryValue": lambda content: {
                name: self.value(item) for name, item in content.get("values", {}).items()
            },
            "functionDefinitionValue": lambda content: Closure(tuple(content["argumentNames"]), content["body"], self),
            "functionInvocationValue": self._call,
        }

    def at(self, key: str) -> Any:
        """The value of a node."""
        if key not in self._known:
            if key not in self.nodes:
                raise Refused(f"Invalid expression: value reference '{key}' does not exist.")
            self._known[key] = self.value(self.nodes[key])
        return self._known[key]

    def value(self, node: Mapping[str, Any]) -> Any:
        """The value of a node that is written out."""
        kind, content = next(iter(node.items()), ("nothing", None))
        if kind not in self._readers:
            raise Refused(f"Invalid expression: a node of kind '{kind}'.")
        return self._readers[kind](content)

    def _call(self, content: Mapping[str, Any]) -> Any:
        name = content.get("functionName", "")
        if name not in self.functions:
            raise Refused(f"The emulator has no function '{name}'.")
        arguments = {key: self.value(node) for key, node in content.get("arguments", {}).items()}
        return self.functions[name](**arguments)


def evaluate(expression: Mapping[str, JSONValue], functions: Mapping[str, Function]) -> Any:
    """The value of a whole expression."""
    nodes, result = expression.get("values"), expression.get("result")
    if not isinstance(nodes, dict) or not isinstance(result, str):
        raise Refused("Invalid expression: it needs 'values' and 'result'.")
    return Evaluation(nodes, functions).at(result)

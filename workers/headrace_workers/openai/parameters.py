"""The parameters of a method: which work, and which are refused by name unless their value means the default."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace_workers.openai.errors import Refused, unsupported, wrong

# Values, beside null, that ask for nothing: a parameter with one of them might as well have been left out.
Plain = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Parameters:
    """Every parameter of a method, in one of three classes.

    What `works`; what is `refused`, each with the values that are taken since they mean the default; and what is
    `unmeant`, refused in the same way: it is about what headrace is not, and not about to be.
    """

    works: frozenset[str]
    refused: Mapping[str, Plain] = field(default_factory=dict)
    unmeant: Mapping[str, Plain] = field(default_factory=dict)

    def given(self, body: object, within: str = "") -> dict[str, Any]:
        """What the body asks for: without nulls, and without what means the default.

        Refused names the first parameter that is not known, or cannot be had. `within` is where the body lies when it
        is a part of another: `tools[0]`.
        """
        if not isinstance(body, Mapping):
            raise wrong(within, "must be an object") if within else Refused("the body must be a JSON object")
        asked: dict[str, Any] = {}
        for name, value in body.items():
            if name in self.works:
                if value is not None:
                    asked[name] = value
                continue
            path = f"{within}.{name}" if within else str(name)
            plain = self.refused.get(name, self.unmeant.get(name))
            if plain is None:
                raise Refused(f"{path} is not known here: leave it out", code="unknown_parameter", param=path)
            if value is not None and not any(_same(value, each) for each in plain):
                raise unsupported(path, _advice(plain))
        return asked


def _same(one: object, other: object) -> bool:
    # True is 1 to Python, and not to JSON.
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _advice(plain: Plain) -> str:
    if not plain:
        return "is not supported: leave it out"
    return f"is supported only as {' or '.join(map(json.dumps, plain))}: say so, or leave it out"

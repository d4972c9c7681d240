"""The parameters of a method: which work, and which are refused by name unless their value means the default."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace_workers.http.openai_errors import NO_OBJECT, Refused, unsupported, wrong

# Values, beside null, that ask for nothing: a parameter with one of them might as well have been left out.
Plain = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Parameters:
    """Every parameter of a method, in one of three classes.

    What `works`; what is `refused`, each with the values that are taken since they mean the default; and what is
    `unmeant`, refused in the same way: it is about what headrace is not, and not about to be. `options` are
    headrace's own: requests put them into the object `headrace`, and never beside OpenAI's parameters.
    """

    works: frozenset[str]
    refused: Mapping[str, Plain] = field(default_factory=dict)
    unmeant: Mapping[str, Plain] = field(default_factory=dict)
    options: Sequence[str] = ()

    def given(self, body: object, within: str = "") -> dict[str, Any]:
        """Return the parameters that the body sets: without nulls and default values.

        Raise Refused for an unknown parameter, or else for the first unsupported one in the order of the tables: a
        client that sends tools gets an error about them, and not about the choice among them. `within` is the place of
        a nested body: `tools[0]`.
        """
        if not isinstance(body, Mapping):
            raise wrong(within, "must be an object") if within else Refused(NO_OBJECT)
        where = f"{within}." if within else ""
        elsewhere = {**self.refused, **self.unmeant}
        for name in body:
            if name not in self.works and name not in elsewhere:
                words = f"{where}{name} is not known here: {self._instead(name)}"
                raise Refused(words, code="unknown_parameter", param=f"{where}{name}")
        for name, plain in elsewhere.items():
            value = body.get(name)
            if value is not None and not any(_same(value, each) for each in plain):
                raise unsupported(where + name, _advice(plain))
        return {name: value for name, value in body.items() if name in self.works and value is not None}

    def _instead(self, name: str) -> str:
        return f'send it as {{"headrace": {{"{name}": …}}}}' if name in self.options else "leave it out"


def _same(one: object, other: object) -> bool:
    # True is 1 to Python, and not to JSON.
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _advice(plain: Plain) -> str:
    if not plain:
        return "is not supported: leave it out"
    return f"is not supported: leave it out, or send {' or '.join(map(json.dumps, plain))}"

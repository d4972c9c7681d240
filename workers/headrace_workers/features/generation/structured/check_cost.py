"""The bounds of a check by a JSON Schema: how often it applies a subschema, and of how many it keeps an error.

Where parts of a schema name the same part, and that part names them again further inside, the check applies it twice
for the first level of an answer, four times for the second, and so on. Such a check would never end.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import jsonschema_rs

from headrace_workers.features.generation.structured.dialects import parts_of_same_value
from headrace_workers.features.generation.structured.subschemas import OutsideReference, Subschemas

_MOST: Final = 5_000_000  # subschemas that one check may apply; about a second
_MOST_BRANCHES: Final = 10_000  # of which jsonschema-rs may keep errors; 9 KB each
_MOST_KEPT: Final = 200_000  # counts; real schemas have some thousands

_Times = dict[int, int]  # how often each subschema is applied, by its identity


class TooCostly(ValueError):
    """A document whose check by a schema would take too long."""


class Unexplained(ValueError):
    """A document that does not keep to a schema. Its errors would take too much memory, or cannot be written."""


class BoundedCheck:
    """The check of documents by one schema and a validator of jsonschema-rs for it, within time and memory."""

    def __init__(self, validator: Any, schema: dict[str, Any]) -> None:
        self._validator = validator
        self._cost = CheckCost(schema)

    def run(self, document: Any) -> None:
        """Raise jsonschema-rs's ValidationError where a document does not keep to the schema, or Unexplained.

        Raise TooCostly, or jsonschema-rs's ValueError, where it cannot be checked.
        """
        if self._cost.exceeds(document, _MOST):
            raise TooCostly("it has too many levels to be checked by its schema")
        if self._validator.is_valid(document):
            return
        if self._cost.exceeds(document, _MOST_BRANCHES, branches=True):
            raise Unexplained("it does not keep to its schema")
        try:
            self._validator.validate(document)
        except jsonschema_rs.ValidationError:
            raise
        except ValueError:  # a part that it cannot write, such as a number of very many digits
            raise Unexplained("it does not keep to its schema") from None


class CheckCost:
    """The cost of checks by one schema. It is without bound if a subschema refers to itself for the same value."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._subschemas = Subschemas(schema)
        self._root = schema
        self._nodes = {id(node): node for node in self._subschemas.nodes}
        self._all_of: dict[int, _Times] = {}
        self._kept = 0

    def exceeds(self, document: Any, limit: int, *, branches: bool = False) -> bool:
        """Return True where the check of a document applies more subschemas than this; with `branches`, more branches
        of `anyOf` and `oneOf`. Takes at most so many steps.
        """
        total = 0
        waiting: list[tuple[Any, _Times]] = [(document, {id(self._root): 1})]
        while waiting:
            value, given = waiting.pop()
            applied: _Times = defaultdict(int)
            for start, times in given.items():
                for part, more in self._with_parts(start).items():
                    applied[part] += times * more
            total += sum(times * _branches(self._nodes[node]) if branches else times for node, times in applied.items())
            if total > limit or self._kept > _MOST_KEPT:
                return True
            inner: dict[Any, _Times] = {}
            for node, times in applied.items():
                for step, inside in _parts_within(self._nodes[node], value):
                    self._nodes.setdefault(id(inside), inside)
                    inner.setdefault(step, defaultdict(int))[id(inside)] += times
            waiting += [(value[step], times) for step, times in inner.items()]
        return False

    def _with_parts(self, start: int) -> _Times:
        """Return how often each subschema is applied to a value that one is applied to."""
        waiting = [start]
        while waiting:
            node = waiting[-1]
            if node in self._all_of:
                waiting.pop()
                continue
            parts = [id(part) for part in self._same_value(self._nodes[node])]
            if unknown := [part for part in parts if part not in self._all_of]:
                if self._kept > _MOST_KEPT or len(waiting) > _MOST_KEPT:
                    self._kept = _MOST_KEPT + 1
                    return {}
                waiting += unknown
                continue
            found: Counter[int] = Counter({node: 1})
            for part in parts:
                found.update(self._all_of[part])
            self._all_of[node] = found
            self._kept += len(found)
        return self._all_of[start]

    def _same_value(self, node: dict[str, Any]) -> list[dict[str, Any]]:
        parts = [part for _, part in parts_of_same_value(node)]
        with suppress(OutsideReference):  # to a draft's own schema, which multiplies nothing
            parts += [target for _, target in self._subschemas.targets(node)]
        found = [part for part in parts if isinstance(part, dict)]
        self._nodes.update((id(part), part) for part in found)
        return found


def _branches(node: dict[str, Any]) -> int:
    return sum(len(node[each]) for each in ("anyOf", "oneOf") if isinstance(node.get(each), list))


def _parts_within(node: dict[str, Any], value: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield the steps to the values within a value, with the subschemas that may apply to each."""
    if isinstance(value, dict):
        named = node.get("properties")
        for step in value:
            found = [named.get(step)] if isinstance(named, dict) else []
            patterns = node.get("patternProperties")
            found += patterns.values() if isinstance(patterns, dict) else ()
            found += [node.get(each) for each in ("additionalProperties", "unevaluatedProperties")]
            yield from ((step, part) for part in found if isinstance(part, dict))
    elif isinstance(value, list):
        listed = [each for name in ("prefixItems", "items") if isinstance(node.get(name), list) for each in node[name]]
        others = [node.get(name) for name in ("items", "additionalItems", "contains", "unevaluatedItems")]
        for step in range(len(value)):
            found = [*others, listed[step] if step < len(listed) else None]
            yield from ((step, part) for part in found if isinstance(part, dict))

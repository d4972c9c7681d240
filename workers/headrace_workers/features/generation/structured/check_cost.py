"""How often the check of an answer applies a subschema. Pure.

Where parts of a schema name the same part, and that part names them again further inside, the check applies it twice
for the first level of an answer, four times for the second, and so on. Such a check would never end.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, Final

from headrace_workers.features.generation.structured.dialects import parts_of_same_value
from headrace_workers.features.generation.structured.subschemas import Subschemas

_MOST_KEPT: Final = 200_000  # counts; real schemas have some thousands

_Times = dict[int, int]  # how often each subschema is applied, by its identity


class CheckCost:
    """The cost of checks by one schema. It is without bound if a subschema refers to itself for the same value."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._subschemas = Subschemas(schema)
        self._root = schema
        self._nodes = {id(node): node for node in self._subschemas.nodes}
        self._all_of: dict[int, _Times] = {}
        self._kept = 0

    def exceeds(self, document: Any, limit: int) -> bool:
        """Return True where the check of a document applies more subschemas than this. Takes at most so many steps."""
        total = 0
        waiting: list[tuple[Any, _Times]] = [(document, {id(self._root): 1})]
        while waiting:
            value, given = waiting.pop()
            applied: _Times = defaultdict(int)
            for start, times in given.items():
                for part, more in self._with_parts(start).items():
                    applied[part] += times * more
            total += sum(applied.values())
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
        parts += [target for _, target in self._subschemas.targets(node)]
        found = [part for part in parts if isinstance(part, dict)]
        self._nodes.update((id(part), part) for part in found)
        return found


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

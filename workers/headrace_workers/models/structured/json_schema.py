"""JSON Schema: the drafts, the subschemas of a schema and what they refer to, and the cost of a check by it.

Nothing outside a schema is ever read.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final
from urllib.parse import unquote, urldefrag, urljoin

import jsonschema_rs

_DRAFT_4: Final = "http://json-schema.org/draft-04/schema#"
_DRAFT_7: Final = "http://json-schema.org/draft-07/schema#"
_LATEST: Final = "https://json-schema.org/draft/2020-12/schema"
_NAMES: Final = {  # what authors write, without scheme and `#`
    "json-schema.org/draft-04/schema": _DRAFT_4,
    "json-schema.org/draft-06/schema": "http://json-schema.org/draft-06/schema#",
    "json-schema.org/draft-07/schema": _DRAFT_7,
    "json-schema.org/draft/2019-09/schema": "https://json-schema.org/draft/2019-09/schema",
    "json-schema.org/draft/2020-12/schema": _LATEST,
    "json-schema.org/schema": _LATEST,
}
LEGACY: Final = (_DRAFT_4, _NAMES["json-schema.org/draft-06/schema"], _DRAFT_7)  # a `$ref` hides what stands beside it

_ONE: Final = (
    "additionalItems",
    "additionalProperties",
    "contains",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_MAPS: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
_SAME_VALUE: Final = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies")

Step = tuple[str, ...]

_KEYWORDS = ("$ref", "$dynamicRef", "$recursiveRef")
_MOST: Final = 5_000_000  # subschemas that one check may apply; about a second
_MOST_BRANCHES: Final = 10_000  # of which jsonschema-rs may keep errors; 9 KB each
_MOST_KEPT: Final = 200_000  # counts; real schemas have some thousands
_Times = dict[int, int]  # how often each subschema is applied, by its identity


def dialect_of(schema: dict[str, Any]) -> str | None:
    """Return the `$schema` of the draft that a schema is written in; None where it names none of drafts 4 to 2020-12.

    Without `$schema` its keywords tell: a boolean `exclusiveMinimum` is draft 4, a list of `items` is draft 7.
    """
    named = schema.get("$schema")
    if named is not None:
        if not isinstance(named, str):
            return None
        return _NAMES.get(named.removeprefix("https://").removeprefix("http://").rstrip("#"))
    text = _LATEST
    waiting: list[Any] = [schema]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen or not isinstance(node, dict):
            continue
        seen.add(id(node))
        if isinstance(node.get("exclusiveMinimum"), bool) or isinstance(node.get("exclusiveMaximum"), bool):
            return _DRAFT_4
        if isinstance(node.get("items"), list):
            text = _DRAFT_7
        waiting += [part for _, part in parts_of(node)]
    return text


def in_its_dialect(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with the `$schema` of its draft, so that all libraries read it alike."""
    return {**schema, "$schema": dialect_of(schema) or _LATEST}


def parts_of(node: dict[str, Any]) -> Iterator[tuple[Step, Any]]:
    """Yield the subschemas of a schema, each with its steps from it. References are not followed."""
    for name in _ONE:
        if isinstance(node.get(name), dict | bool):
            yield (name,), node[name]
    for name in _LISTS:
        if isinstance(node.get(name), list):
            yield from (((name, str(index)), part) for index, part in enumerate(node[name]))
    for name in _MAPS:
        if isinstance(node.get(name), dict):
            yield from (((name, key), part) for key, part in node[name].items() if isinstance(part, dict | bool))


def parts_of_same_value(node: dict[str, Any]) -> Iterator[tuple[Step, Any]]:
    """Yield the subschemas that apply to the very value that the schema applies to."""
    return ((steps, part) for steps, part in parts_of(node) if steps[0] in _SAME_VALUE)


def pointer(steps: Step) -> str:
    """Return steps as a JSON pointer (RFC 6901)."""
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)


class OutsideReference(ValueError):
    """A reference that leads to nothing within its schema."""


class Subschemas:
    """All subschemas of a schema with the steps to them, and the targets of their references."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._resources: dict[str, Any] = {"": root}
        self._anchors: dict[tuple[str, str], Any] = {}
        self._bases: dict[int, str] = {}
        self.steps: dict[int, Step] = {}  # to each subschema, by its identity
        self.nodes: list[dict[str, Any]] = []  # each subschema once, outer before inner
        self._walk(root, (), "")

    def targets(self, node: dict[str, Any]) -> list[tuple[str, Any]]:
        """Return the targets of a subschema's own references with their keywords. Raise OutsideReference."""
        found = []
        for keyword in _KEYWORDS:
            if isinstance(node.get(keyword), str):
                found.append((keyword, self._target(node, node[keyword])))
        return found

    def _walk(self, start: Any, steps: Step, base: str) -> None:
        waiting = [(start, steps, base)]
        while waiting:
            node, steps, base = waiting.pop()
            if not isinstance(node, dict) or id(node) in self.steps:
                continue
            base = self._identify(node, base)
            self.steps[id(node)], self._bases[id(node)] = steps, base
            self.nodes.append(node)
            waiting += [(part, steps + more, base) for more, part in parts_of(node)]

    def _identify(self, node: dict[str, Any], base: str) -> str:
        for keyword in ("$id", "id"):
            name = node.get(keyword)
            if isinstance(name, str) and name.startswith("#"):  # an anchor, before 2019-09
                self._anchors[base, name[1:]] = node
            elif isinstance(name, str):
                base = urldefrag(_joined(base, name)).url
                self._resources.setdefault(base, node)
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(node.get(keyword), str):
                self._anchors[base, node[keyword]] = node
        return base

    def _target(self, node: dict[str, Any], reference: str) -> Any:
        base = self._bases.get(id(node), "")
        where, fragment = (
            urldefrag(_joined(base, reference)) if not reference.startswith("#") else (base, reference[1:])
        )
        fragment = unquote(fragment)
        if (where, fragment) in self._anchors:
            return self._anchors[where, fragment]
        if where not in self._resources:
            raise OutsideReference("leads out of the schema: copy what it names into $defs")
        found = self._resources[where]
        if fragment and not fragment.startswith("/"):
            raise OutsideReference("names an anchor that the schema does not have")
        steps: list[str] = []
        for step in fragment.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            steps.append(name)
            if isinstance(found, dict) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isascii() and name.isdigit() and int(name[:9]) < len(found):
                found = found[int(name[:9])]
            else:
                raise OutsideReference("leads to nothing in the schema")
        if isinstance(found, dict) and id(found) not in self.steps:  # it stands where no draft has a subschema
            self._walk(found, tuple(steps), where)
        return found


def _joined(base: str, reference: str) -> str:
    try:
        return urljoin(base, reference)
    except ValueError:
        return reference


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
            counter: Counter[int] = Counter({node: 1})
            for part in parts:
                counter.update(self._all_of[part])
            self._all_of[node] = counter
            self._kept += len(counter)
        return self._all_of[start]

    def _same_value(self, node: dict[str, Any]) -> list[dict[str, Any]]:
        parts = [part for _, part in parts_of_same_value(node)]
        with suppress(OutsideReference):  # to a draft's own schema, which multiplies nothing
            parts += [target for _, target in self._subschemas.targets(node)]
        found = [part for part in parts if isinstance(part, dict)]
        self._nodes.update((id(part), part) for part in found)
        return found


def _branches(node: dict[str, Any]) -> int:
    return sum(len(node[name]) for name in ("anyOf", "oneOf") if isinstance(node.get(name), list))


def _parts_within(node: dict[str, Any], value: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield the steps to the values within a value, with the subschemas that may apply to each."""
    if isinstance(value, dict):
        named = node.get("properties")
        for step in value:
            found = [named.get(step)] if isinstance(named, dict) else []
            patterns = node.get("patternProperties")
            found += patterns.values() if isinstance(patterns, dict) else ()
            found += [node.get(name) for name in ("additionalProperties", "unevaluatedProperties")]
            yield from ((step, part) for part in found if isinstance(part, dict))
    elif isinstance(value, list):
        listed = [item for name in ("prefixItems", "items") if isinstance(node.get(name), list) for item in node[name]]
        others = [node.get(name) for name in ("items", "additionalItems", "contains", "unevaluatedItems")]
        for step in range(len(value)):
            found = [*others, listed[step] if step < len(listed) else None]
            yield from ((step, part) for part in found if isinstance(part, dict))

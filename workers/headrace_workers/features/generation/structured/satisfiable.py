"""Whether any finite text satisfies a JSON Schema. Pure.

A schema is taken as satisfiable unless its structure shows that it is not: what is decided here holds for certain, and
what patterns, formats and numbers exclude together is left to the check of the answer.
"""

from collections import defaultdict
from typing import Any, Final, TypeGuard

from headrace_workers.features.generation.structured.dialects import Step
from headrace_workers.features.generation.structured.subschemas import Subschemas

_TYPES: Final = ("object", "array", "string", "number", "integer", "boolean", "null")
_LIMITS: Final = {
    "string": (("minLength", "maxLength"),),
    "array": (("minItems", "maxItems"),),
    "object": (("minProperties", "maxProperties"),),
    "number": (("minimum", "maximum"), ("exclusiveMinimum", "exclusiveMaximum")),
}
LONGEST: Final = 200_000  # characters of an answer: no schema may need more items or characters


def why_unsatisfiable(subschemas: Subschemas, *, legacy: bool) -> tuple[Step, str] | None:
    """Return the place and the reason for which no finite text satisfies the first subschema; None if one may.

    A subschema counts as satisfiable once a finite value is known for it, so that one that needs itself never is.
    """
    possible = _Possible(subschemas, legacy=legacy)
    root = subschemas.nodes[0]
    return None if possible.known(root) else possible.reason(root)


class _Possible:
    """The subschemas that a finite value satisfies: the least set that contains each whose needs are in it."""

    def __init__(self, subschemas: Subschemas, *, legacy: bool) -> None:
        self._subschemas = subschemas
        self._legacy = legacy
        self._known: set[int] = set()
        self._steps = subschemas.steps
        needed_by: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for node in subschemas.nodes:  # grows while targets of references are found
            for part in self._asked_of(node):
                if isinstance(part, dict):
                    needed_by[id(part)].append(node)
        waiting = list(subschemas.nodes)  # inner subschemas first
        while waiting:
            node = waiting.pop()
            if id(node) not in self._known and self._why_not(node) is None:
                self._known.add(id(node))
                waiting += needed_by[id(node)]

    def known(self, part: Any) -> bool:
        return part is not False and (not isinstance(part, dict) or id(part) in self._known)

    def reason(self, node: dict[str, Any]) -> tuple[Step, str]:
        """Return the place and the words of the first fault, followed down to where it stands."""
        seen: set[int] = set()
        while True:
            seen.add(id(node))
            words, cause = self._why_not(node) or ("no value satisfies it", None)
            if not isinstance(cause, dict):
                return self._steps[id(node)], words
            if id(cause) in seen:
                return self._steps[id(cause)], "it needs itself, so that no text of finite length satisfies it"
            node = cause

    def _asked_of(self, node: dict[str, Any]) -> list[Any]:
        parts = [target for _, target in self._subschemas.targets(node)]
        for keyword in ("allOf", "anyOf", "oneOf", "prefixItems", "items"):
            if isinstance(node.get(keyword), list):
                parts += node[keyword]
        for keyword in ("items", "additionalItems", "contains", "additionalProperties"):
            parts.append(node.get(keyword))
        properties = node.get("properties")
        return parts + (list(properties.values()) if isinstance(properties, dict) else [])

    def _why_not(self, node: dict[str, Any]) -> tuple[str, Any] | None:
        """Return why no value satisfies a subschema, with the part that is at fault; None where one does."""
        for _, target in self._subschemas.targets(node):
            if not self.known(target):
                return "what it refers to is satisfied by nothing", target
            if self._legacy:
                return None
        if node.get("enum") == []:
            return "enum is empty", None
        if (fault := self._of_parts(node)) is not None:
            return fault
        named = node.get("type", _TYPES)
        kinds = [named] if isinstance(named, str) else named if isinstance(named, list | tuple) else _TYPES
        faults = [self._of_kind(node, kind) for kind in kinds]
        if None in faults or not faults:
            return None if faults else ("type is empty", None)
        return faults[0]

    def _of_parts(self, node: dict[str, Any]) -> tuple[str, Any] | None:
        for part in _list(node, "allOf"):
            if not self.known(part):
                return "a part of allOf is satisfied by nothing", part
        for keyword in ("anyOf", "oneOf"):
            parts = _list(node, keyword)
            if parts and not any(map(self.known, parts)):
                return f"no part of {keyword} can be satisfied", parts[0]
        return None

    def _of_kind(self, node: dict[str, Any], kind: Any) -> tuple[str, Any] | None:
        for low, high in _LIMITS.get("number" if kind == "integer" else kind, ()):
            least, most = node.get(low), node.get(high)
            if _number(least) and _number(most) and least > most:
                return f"{low} is {least}, and {high} is {most}", None
            if low.startswith("min") and low != "minimum" and _number(least) and least > LONGEST:
                return f"{low} is {least}: an answer has {LONGEST} characters at most", None
        if kind == "object":
            return self._of_object(node)
        return self._of_array(node) if kind == "array" else None

    def _of_object(self, node: dict[str, Any]) -> tuple[str, Any] | None:
        properties = node.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        required = node.get("required")
        for name in required if isinstance(required, list) else ():
            if name in properties:
                part = properties[name]
            elif node.get("patternProperties"):
                continue
            else:
                part = node.get("additionalProperties")
            if not self.known(part):
                return f"{str(name)[:80]!r} is required, and nothing satisfies it", part
        return None

    def _of_array(self, node: dict[str, Any]) -> tuple[str, Any] | None:
        asked = node.get("minItems")
        least = asked if _number(asked) else 0
        listed = _list(node, "prefixItems") or _list(node, "items")
        for part in listed[: int(min(least, len(listed)))]:
            if not self.known(part):
                return f"minItems is {least}, and nothing satisfies an item", part
        rest = node.get("additionalItems") if isinstance(node.get("items"), list) else node.get("items")
        if least > len(listed) and not self.known(rest):
            return f"minItems is {least}, and nothing satisfies an item", rest
        contained = node.get("contains")
        if contained is not None and node.get("minContains") != 0 and not self.known(contained):
            return "contains asks for what nothing satisfies", contained
        return None


def _list(node: dict[str, Any], keyword: str) -> list[Any]:
    found = node.get(keyword)
    return found if isinstance(found, list) else []


def _number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)

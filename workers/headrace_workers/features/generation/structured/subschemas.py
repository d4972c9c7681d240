"""Subschemas within a JSON Schema: what each names. Nothing outside the schema is ever read. Pure."""

from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from headrace_workers.features.generation.structured.dialects import Step, parts_of

_KEYWORDS = ("$ref", "$dynamicRef", "$recursiveRef")


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

"""Mutants of SQL: mutmut leaves out what is written outside of functions, or in functions that are cached.

Each is one small change of a statement: a condition, an order, a limit, a lock or a written column less, a comparison
or a sum turned round, a module's number doubled.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from itertools import pairwise
from pathlib import Path

# Calls that say more of a statement: without it, or without one of its arguments, it is another that still runs.
_CLAUSES = frozenset({"where", "order_by", "limit", "distinct", "with_for_update", "group_by"})
_LISTS = frozenset({"where", "order_by", "and_", "or_", "values", "in_"})
_OTHER_CALL = {"is_": "is_not", "is_not": "is_"}
_TURNED: dict[type[ast.AST], str] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.Add: "-", ast.Sub: "+",
}  # fmt: skip
# Of times a bound that moves by a millisecond is nothing that a test could see: there before becomes after.
_REVERSED: dict[type[ast.AST], str] = {ast.Lt: ">", ast.LtE: ">", ast.Gt: "<", ast.GtE: "<"}
_TIMES = ("_at", "_until", "deadline", "now_ms")


@dataclass(frozen=True, slots=True)
class Change:
    """One mutant: this part of the file (offsets in bytes, as ast counts) replaced by these words."""

    path: Path
    start: int
    end: int
    words: str

    def source(self) -> str:
        was = self.path.read_bytes()
        return (was[: self.start] + self.words.encode() + was[self.end :]).decode()

    def difference(self) -> str:
        texts = (self.path.read_text(encoding="utf-8"), self.source())
        before, after = (text.splitlines(keepends=True) for text in texts)
        return "".join(unified_diff(before, after, self.path.name, self.path.name, n=2))


def changes(path: Path) -> list[Change]:
    return sorted(set(_Module(path).changes()), key=lambda change: (change.start, change.end, change.words))


class _Module:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._text = path.read_bytes()
        self._tree = ast.parse(self._text)
        lines = self._text.splitlines(keepends=True)
        self._begins = [0]
        for line in lines:
            self._begins.append(self._begins[-1] + len(line))

    def changes(self) -> Iterator[Change]:
        for statement in self._tree.body:
            if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
                yield from self._constants(statement.value)
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call):
                yield from self._call(node)
            elif isinstance(node, ast.Compare) and len(node.ops) == 1 and self._of_columns(node):
                yield from self._turn(node, node.left, node.ops[0], node.comparators[0])
            elif isinstance(node, ast.BinOp) and self._of_columns(node):
                if isinstance(node.op, ast.BitAnd | ast.BitOr):
                    yield from (self._replace(node, self._words(part)) for part in (node.left, node.right))
                else:
                    yield from self._turn(node, node.left, node.op, node.right)
            elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
                yield self._replace(node, self._words(node.operand))

    def _call(self, node: ast.Call) -> Iterator[Change]:
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if isinstance(function, ast.Attribute):
            tail = (self._at(function.value, end=True), self._at(node, end=True))
            if name in _CLAUSES | {"desc"}:
                yield self._change(*tail, "")
            if name in _OTHER_CALL:
                words = self._text[slice(*tail)].decode().replace(f".{name}(", f".{_OTHER_CALL[name]}(", 1)
                yield self._change(*tail, words)
        if name in _LISTS:
            yield from self._one_less([*node.args, *node.keywords])
        if name == "with_for_update":
            if len(node.keywords) == 1:
                yield self._replace(node.keywords[0], "")
            yield from self._one_less([*node.keywords])
        if name == "text" and node.args and "IS NOT NULL" in self._words(node.args[0]):
            yield self._replace(node.args[0], self._words(node.args[0]).replace("IS NOT NULL", "IS NULL"))
        for value in (*node.args, *(keyword.value for keyword in node.keywords)):
            written = name == "values" or any(k.arg == "set_" and k.value is value for k in node.keywords)
            if isinstance(value, ast.Dict) and written:
                yield from self._fields_less(value)

    def _fields_less(self, node: ast.Dict) -> Iterator[Change]:
        fields = [
            f"{self._words(key)}: {self._words(value)}" if key else f"**{self._words(value)}"
            for key, value in zip(node.keys, node.values, strict=True)
        ]
        for left_out in range(len(fields)) if len(fields) > 1 else ():
            yield self._replace(node, "{" + ", ".join(fields[:left_out] + fields[left_out + 1 :]) + "}")

    def _one_less(self, parts: list[ast.expr | ast.keyword]) -> Iterator[Change]:
        """Each of a list of arguments left out, with the comma; the last one is never alone."""
        for before, part in pairwise(parts):
            yield self._change(self._at(before, end=True), self._at(part, end=True), "")
        if len(parts) > 1:
            yield self._change(self._at(parts[0]), self._at(parts[1]), "")

    def _constants(self, value: ast.expr) -> Iterator[Change]:
        if isinstance(value, ast.Tuple):
            if value.elts and all(
                isinstance(part, ast.Constant) and isinstance(part.value, str) for part in value.elts
            ):
                yield from self._one_less(list(value.elts))
            for part in value.elts:
                yield from self._constants(part)
        elif isinstance(value, ast.Constant) and type(value.value) in (int, float):
            yield self._replace(value, str(value.value * 2 + 1))

    def _turn(self, node: ast.expr, left: ast.expr, operator: ast.AST, right: ast.expr) -> Iterator[Change]:
        of_times = any(name in self._words(node) for name in _TIMES)
        words = (_TURNED | _REVERSED if of_times else _TURNED).get(type(operator))
        if words is not None:
            yield self._change(self._at(left, end=True), self._at(right), f" {words} ")

    def _of_columns(self, node: ast.expr) -> bool:
        return any(isinstance(part, ast.Attribute) and part.attr == "c" for part in ast.walk(node))

    def _replace(self, node: ast.expr | ast.keyword, words: str) -> Change:
        return self._change(self._at(node), self._at(node, end=True), words)

    def _change(self, start: int, end: int, words: str) -> Change:
        return Change(self._path, start, end, words)

    def _words(self, node: ast.expr) -> str:
        return self._text[self._at(node) : self._at(node, end=True)].decode()

    def _at(self, node: ast.expr | ast.keyword, *, end: bool = False) -> int:
        if end:
            assert node.end_lineno
            assert node.end_col_offset is not None
            return self._begins[node.end_lineno - 1] + node.end_col_offset
        return self._begins[node.lineno - 1] + node.col_offset

"""Formulas over scores, as a grader of the type `multi` has them: `0.7 * right + 0.3 * max(polite, short)`. Pure.

There is arithmetic in them, the names of scores, and a few functions; nothing else is ever run.
"""

import ast
import math
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, Self

LONGEST: Final = 500  # characters
_SHOWN: Final = 80  # of a part that is not taken

_BINARY: Final[dict[type[ast.operator], Callable[[float, float], float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,  # whose value is never complex
}
_UNARY: Final[dict[type[ast.unaryop], Callable[[float], float]]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_FUNCTIONS: Final[dict[str, Callable[..., float]]] = {
    "min": min, "max": max, "abs": abs, "floor": math.floor, "ceil": math.ceil, "exp": math.exp, "sqrt": math.sqrt,
    "log": math.log,
}  # fmt: skip
_SEVERAL: Final = frozenset({"min", "max"})


@dataclass(frozen=True, slots=True)
class Formula:
    """An expression that was checked: `names` are the scores that it reads."""

    tree: ast.expr
    names: frozenset[str]

    @classmethod
    def parse(cls, text: str, known: Collection[str]) -> Self:
        """Return the formula. Raise ValueError, which names the part that is not permitted."""
        if len(text) > LONGEST:
            raise ValueError(f"has more than {LONGEST} characters")
        text = text.replace("^", "**").strip()  # a power is written either way, and binds as tightly as one
        try:
            tree = ast.parse(text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"is no formula: {getattr(error, 'msg', None) or type(error).__name__}") from None
        found = frozenset(_names(tree, text))
        if unknown := sorted(found - set(known)):
            raise ValueError(f"{unknown[0]!r} is not one of the graders {', '.join(known)}")
        return cls(tree, found)

    def value(self, scores: Mapping[str, float]) -> float:
        """Return the formula's value. Raise ValueError where it has none."""
        try:
            found = _value(self.tree, scores)
        except (ArithmeticError, ValueError) as error:
            raise ValueError(str(error) or type(error).__name__) from None
        if not math.isfinite(found):
            raise ValueError("the result is no finite number")
        return float(found)


def _names(node: ast.expr, text: str) -> set[str]:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return set()
        case ast.Name(id=name):
            return {name}
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _names(left, text) | _names(right, text)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _names(operand, text)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS and args:
            if len(args) > 1 and name not in _SEVERAL:
                raise ValueError(f"{name} takes one value")
            return set().union(*(_names(each, text) for each in args))
    segment = (ast.get_source_segment(text, node) or text)[:_SHOWN]
    raise ValueError(f"{segment!r} is not taken: there are + - * / ^, numbers, {', '.join(_FUNCTIONS)}")


def _value(node: ast.expr, scores: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return float(scores[name])
        case ast.BinOp(left=left, op=op, right=right):
            return float(_BINARY[type(op)](_value(left, scores), _value(right, scores)))
        case ast.UnaryOp(op=op, operand=operand):
            return _UNARY[type(op)](_value(operand, scores))
        case ast.Call(func=ast.Name(id=name), args=[only]) if name in _SEVERAL:
            return _value(only, scores)
        case ast.Call(func=ast.Name(id=name), args=args):
            return float(_FUNCTIONS[name](*(_value(each, scores) for each in args)))
    raise ValueError("it was not checked")  # `parse` lets nothing else through

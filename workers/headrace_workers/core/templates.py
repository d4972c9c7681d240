"""Templates: texts that values are written into. A value is data: it is never read as a template.

There are two ways to write one. A text with places has `{{field}}` in it and nothing else: each place is the name of a
field, and any other text stands for itself. A template with logic is written in a part of Jinja2: it is checked before
it is compiled, and may hold the nodes that `_Check` knows and no other. There is no look-up by dot or index, no call,
no assignment and no arithmetic. Its work is counted in steps from the bounds of its variables, so that a template which
could run long is refused when it is written, and not when it is rendered. Then it runs in Jinja2's immutable sandbox. A
text that grows too long is given up while it is written.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self

from headrace_schemas.limits import MAX_TEXT

if TYPE_CHECKING:
    import jinja2
    from jinja2.nodes import Filter, For, Node
    from jinja2.sandbox import ImmutableSandboxedEnvironment

# A step is 0.05 µs on the machine of docs/explanation/application-templates.md, where each price was measured.
MAX_STEPS: Final = 100_000  # of an application's templates together: at most 5 ms
MAX_DEPTH: Final = 16  # blocks in blocks, and expressions in expressions
# Of a part of a template (a text, a tag, a variable, a constant), which is compiled once: 50 µs.
PART_STEPS: Final = 100
PASSED_STEPS: Final = 1  # of a round of a loop, a tag or a text, each time
EXPRESSION_STEPS: Final = 2
LOOP_STEPS: Final = 6  # of each start of a loop
LOOK_UP_STEPS: Final = 4  # of `loop.index` and its like, and of each round of a loop that has one
WRITTEN_STEPS: Final = 20  # of a value that is written as JSON
START_STEPS: Final = 20  # of each start of a loop that has such a look-up
# Characters that are handled in one step.
COMPARED: Final = 300
SEARCHED: Final = 4  # by `in` a text: some texts make the search slow
CASED: Final = 5  # by `upper` and `lower`: some letters become three
WRITTEN: Final = 100
_LONGEST: Final = 8 * MAX_TEXT  # characters of a value on its way
_COMPILED: Final = 1_024  # templates that are kept
_PLACE: Final = re.compile(r"\{\{\s*([^\s{}](?:[^{}]*[^\s{}])?)\s*\}\}")

Kind = Literal["text", "number", "boolean", "list"]


class NoSuchField(ValueError):
    """The reason why a row cannot fill a text."""


class TooLong(ValueError):
    """A text that became longer than it may be."""


class WrongTemplate(ValueError):
    """A template that is not in the language; `line` counts from 1."""

    def __init__(self, why: str, line: int) -> None:
        super().__init__(why)
        self.line = line


class Shape(NamedTuple):
    """Permitted values of a variable: their kind, and the most characters of a text, or of each of a list's `items`."""

    kind: Kind | None  # None: one of several kinds
    size: int
    items: int = 1

    @property
    def characters(self) -> int:
        """The most characters of the whole value."""
        return self.size * self.items


NUMBER: Final = Shape("number", 32)
BOOLEAN: Final = Shape("boolean", 5)


class _FilterRule(NamedTuple):
    takes: tuple[Kind, ...]
    arguments: tuple[Kind, ...] = ()  # constants that may follow
    gives: Kind | None = None  # None: what it takes
    growth: int = 1
    steps: int = 4
    per_step: int | None = None  # characters that it copies in one step


FILTERS: Final[Mapping[str, _FilterRule]] = {
    "upper": _FilterRule(("text",), growth=3, per_step=CASED),
    "lower": _FilterRule(("text",), growth=3, per_step=CASED),
    "trim": _FilterRule(("text",), per_step=20),
    "length": _FilterRule(("list", "text"), gives="number"),
    "first": _FilterRule(("list", "text"), gives="text"),
    "last": _FilterRule(("list", "text"), gives="text"),
    "join": _FilterRule(("list",), ("text",), gives="text", steps=15, per_step=WRITTEN),
    "default": _FilterRule(("text",), ("text", "boolean")),
    "round": _FilterRule(("number",), ("number",), steps=10),
    "tojson": _FilterRule(
        ("boolean", "list", "number", "text"), gives="text", growth=6, steps=20, per_step=WRITTEN
    ),  # \u001f
}
# Words of the language, which no variable may be called.
RESERVED: Final = frozenset(
    {"and", "elif", "else", "false", "for", "if", "in", "is", "loop", "none", "not", "or", "recursive", "self", "true"}
)
_LOOP: Final = {"index": NUMBER, "index0": NUMBER, "length": NUMBER, "first": BOOLEAN, "last": BOOLEAN}
_IN_WORDS: Final = {
    "Assign": "`set`",
    "Call": "a call",
    "Const": "`none`",
    "Getattr": "a look-up by dot",
    "Getitem": "a look-up by index",
    "Test": "`is`",
}


def as_text(value: Any) -> str:
    """Return a value as templates write it: texts as they are, other values as JSON."""
    return value if isinstance(value, str) else _as_json(value)


_as_json: Final = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class Template:
    """A text, and the fields that it reads."""

    text: str
    fields: tuple[str, ...]
    has_logic: bool = field(default=False, repr=False)
    steps: int = field(default=0, repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return a text with places. Raise ValueError where `{{` opens no valid place."""
        parts = _PLACE.split(text)
        for part in parts[::2]:
            if "{{" in part:
                shown = part[part.index("{{") :][:30]
                raise ValueError(f"{shown!r} opens no placeholder: one is a field's name between {{{{ and }}}}")
        return cls(text, tuple(parts[1::2]))

    @classmethod
    def with_logic(cls, text: str, variables: Mapping[str, Shape], most_steps: int = MAX_STEPS) -> Self:
        """Return a template that may read these variables, and take so many steps. Raise WrongTemplate."""
        check = _Check(variables, most_steps)
        check.whole(_parsed(text))
        return cls(text, tuple(check.read), has_logic=True, steps=check.steps)

    @property
    def only_field(self) -> str | None:
        """The field that is the whole text, if it is one."""
        whole = None if self.has_logic else _PLACE.fullmatch(self.text)
        return whole[1] if whole else None

    def fill(self, values: Mapping[str, Any], most: int = MAX_TEXT, write: Callable[[Any], str] = as_text) -> str:
        """Return the text for these values; `write` writes them into places.

        Raise NoSuchField for a missing value, TooLong above `most` characters.
        """
        for name in self.fields:
            if values.get(name) is None:
                has = ", ".join(f"`{key}`" for key in values) or "nothing"
                raise NoSuchField(f"`{name}` is null" if name in values else f"it lacks `{name}`; it has {has}")
        size, parts = 0, []
        for part in self._parts(values, write):
            size += len(part)
            if size > most:
                raise TooLong(f"has more than {most} characters")
            parts.append(part)
        return "".join(parts)

    def _parts(self, values: Mapping[str, Any], write: Callable[[Any], str]) -> Iterator[str]:
        if self.has_logic:
            yield from _compiled(self.text).generate({name: values[name] for name in self.fields})
            return
        for number, part in enumerate(_PLACE.split(self.text)):
            yield write(values[part]) if number % 2 else part


@lru_cache(maxsize=_COMPILED)
def _compiled(text: str) -> "jinja2.Template":
    return _environment().from_string(_parsed(text))


@lru_cache(maxsize=1)
def _environment() -> "ImmutableSandboxedEnvironment":
    from jinja2 import StrictUndefined
    from jinja2.runtime import LoopContext
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Environment(ImmutableSandboxedEnvironment):
        """The sandbox, which looks up `loop.index` and its like without its checks: they took ten times as long."""

        def getattr(self, obj: Any, attribute: str) -> Any:
            if type(obj) is LoopContext and attribute in _LOOP:
                return getattr(obj, attribute)
            return super().getattr(obj, attribute)

    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, finalize=as_text, cache_size=0
    )
    known: Mapping[str, Any] = {
        **environment.filters,
        "first": lambda value: value[0] if value else "",
        "last": lambda value: value[-1] if value else "",
        "round": lambda value, digits=0: round(value, int(min(digits, 15)) or None),
        "tojson": _as_json,  # Jinja2's own escapes for HTML, which would change what the model reads
    }
    environment.filters = {name: known[name] for name in FILTERS}
    environment.globals.clear()
    return environment


def _parsed(text: str) -> "jinja2.nodes.Template":
    from jinja2 import TemplateSyntaxError

    try:
        return _environment().parse(text)
    except TemplateSyntaxError as error:
        raise WrongTemplate(f"is no template: {error.message}", error.lineno) from None
    except RecursionError:
        raise _too_deep(1) from None
    except ValueError:  # of Python's `int`
        raise WrongTemplate("has a number with too many digits", 1) from None


class _Check:
    """A walk over a template: the variables that it reads, and the steps that it may take."""

    def __init__(self, variables: Mapping[str, Shape], most_steps: int) -> None:
        self._variables = variables
        self._most_steps = most_steps
        self.steps = 0
        self.read: dict[str, None] = {}

    def whole(self, tree: "jinja2.nodes.Template") -> None:
        """Check a template. Raise WrongTemplate."""
        from jinja2 import nodes

        try:
            for part in tree.find_all(nodes.Node):
                self._count(part, PART_STEPS)
        except RecursionError:
            raise _too_deep(1) from None
        self._block(tree.body, {}, 1, 0)

    def _block(self, body: Sequence["Node"], loops: Mapping[str, Shape], rounds: int, depth: int) -> None:
        """Check what stands in a block. `loops`: the variables of the loops around it, which make so many `rounds`."""
        from jinja2 import nodes

        for node in body:
            if depth > MAX_DEPTH:
                raise _too_deep(node.lineno)
            self._count(node, rounds * PASSED_STEPS)
            match node:
                case nodes.Output():
                    for part in node.nodes:
                        self._count(part, rounds * PASSED_STEPS)
                        if not isinstance(part, nodes.TemplateData):
                            self._written(part, self._shape(part, loops, rounds), rounds)
                case nodes.If():
                    self._shape(node.test, loops, rounds)
                    for block in (node.body, node.elif_, node.else_):
                        self._block(block, loops, rounds, depth + 1)
                case nodes.For():
                    self._loop(node, loops, rounds, depth)
                case _:
                    raise _not_allowed(node)

    def _loop(self, node: "For", loops: Mapping[str, Shape], rounds: int, depth: int) -> None:
        from jinja2 import nodes

        listed = self._shape(node.iter, loops, rounds)
        if listed.kind != "list" or not isinstance(node.iter, nodes.Name):
            raise WrongTemplate("`for` goes over something else than a variable of the type list", node.lineno)
        if not isinstance(node.target, nodes.Name) or node.recursive:
            raise WrongTemplate("`for` must have the form `for NAME in LIST`", node.lineno)
        name, within = node.target.name, rounds * listed.items
        if name in self._variables or name in loops or name in RESERVED:
            raise WrongTemplate(f"`for {name}` takes a name that is in use: choose another one", node.lineno)
        inside = {**loops, name: Shape("text", listed.size)}
        looks_up = any(found.name == "loop" for part in node.body for found in part.find_all(nodes.Name))
        self._count(node, rounds * (LOOP_STEPS + START_STEPS * looks_up))
        self._count(node, within * (PASSED_STEPS + LOOK_UP_STEPS * looks_up))
        if node.test is not None:
            self._shape(node.test, inside, within)
        self._block(node.body, {**inside, "loop": NUMBER}, within, depth + 1)
        self._block(node.else_, loops, rounds, depth + 1)

    def _written(self, node: "Node", shape: Shape, rounds: int) -> None:
        """Count the steps that write a value: others than texts become JSON."""
        if shape.kind != "text":
            self._count(node, rounds * (WRITTEN_STEPS + shape.items + shape.characters // WRITTEN))

    def _shape(self, node: "Node", loops: Mapping[str, Shape], rounds: int, depth: int = 0) -> Shape:
        """Return the shape of an expression, and count the steps that it takes."""
        from jinja2 import nodes

        if depth > MAX_DEPTH:
            raise _too_deep(node.lineno)

        def inner(part: "Node") -> Shape:
            return self._shape(part, loops, rounds, depth + 1)

        work = 0  # steps beside those of any expression
        match node:
            case nodes.Name():
                shape = self._named(node, node.name, loops)
            case nodes.List() | nodes.Tuple():
                items = [_constant(item) for item in node.items]
                shape = Shape("list", max((item.size for item in items), default=0), len(items))
            case nodes.Getattr(node=nodes.Name(name="loop"), attr=attr) if "loop" in loops and attr in _LOOP:
                shape, work = _LOOP[attr], LOOK_UP_STEPS
            case nodes.Not():
                inner(node.node)
                shape = BOOLEAN
            case nodes.And() | nodes.Or():
                shape = _either(inner(node.left), inner(node.right))
            case nodes.CondExpr():
                if node.expr2 is None:
                    raise WrongTemplate("`if` in an expression needs an `else`", node.lineno)
                inner(node.test)
                shape = _either(inner(node.expr1), inner(node.expr2))
            case nodes.Compare():
                sides = [(operand.op, inner(operand.expr)) for operand in node.ops]
                work = _compared(node, inner(node.expr), sides)
                shape = BOOLEAN
            case nodes.Filter(node=nodes.Node() as filtered):
                shape, work = _filtered(node, inner(filtered))
            case _:
                shape = _constant(node)
        if shape.characters > _LONGEST:
            size = f"{shape.characters:,}"
            raise WrongTemplate(f"may give {size} characters: give its variables a `max_length`", node.lineno)
        self._count(node, rounds * (EXPRESSION_STEPS + work))
        return shape

    def _count(self, node: "Node", steps: int) -> None:
        self.steps += steps
        if self.steps > self._most_steps:
            raise WrongTemplate(
                f"may take more than {MAX_STEPS:,} steps, with the messages before it: give lists and texts a smaller "
                "`max_length`, or use fewer loops in loops and fewer parts",
                node.lineno or 1,
            )

    def _named(self, node: "Node", name: str, loops: Mapping[str, Shape]) -> Shape:
        if name in loops and name != "loop":
            return loops[name]
        if name not in self._variables:
            known = ", ".join(sorted(self._variables)) or "none"
            raise WrongTemplate(f"{name!r} is no variable; known are {known}: declare it, or mend it", node.lineno)
        self.read[name] = None
        return self._variables[name]


def _is_constant(node: "Node") -> bool:
    from jinja2 import nodes

    return isinstance(node, nodes.Const)


def _constant(node: "Node") -> Shape:
    from jinja2 import nodes

    match node:
        case nodes.Const(value=bool()):
            return BOOLEAN
        case nodes.Const(value=int() | float()) | nodes.Neg(node=nodes.Const(value=int() | float())):
            return NUMBER
        case nodes.Const(value=str() as text):
            return Shape("text", len(text))
    raise _not_allowed(node)


def _either(one: Shape, other: Shape) -> Shape:
    kind = one.kind if one.kind == other.kind != "list" else None
    return Shape(kind, max(one.characters, other.characters))


def _compared(node: "Node", first: Shape, others: Sequence[tuple[str, Shape]]) -> int:
    """Return the steps that a comparison takes beside those of its sides."""
    steps = 0
    for op, other in others:
        if op in ("in", "notin"):
            fits = other.kind == "list" or first.kind == other.kind == "text"
        else:
            fits = first.kind == other.kind and (op in ("eq", "ne") or first.kind in ("text", "number"))
        if not fits:
            one, two = (shape.kind or "value of several types" for shape in (first, other))
            raise WrongTemplate(f"a {one} cannot be compared with a {two} in this way", node.lineno)
        searched = op in ("in", "notin") and other.kind == "text"
        steps += EXPRESSION_STEPS + other.items
        steps += (first.characters + other.characters) // (SEARCHED if searched else COMPARED)
        first = other
    return steps


def _filtered(node: "Filter", taken: Shape) -> tuple[Shape, int]:
    """Return the shape that a filter gives, and the steps that it takes beside those of any expression."""
    rule = FILTERS.get(node.name)
    if rule is None:
        raise WrongTemplate(f"{node.name!r} is no filter here; filters are {', '.join(FILTERS)}", node.lineno)
    if taken.kind not in rule.takes:
        wanted, kind = " or ".join(rule.takes), taken.kind or "value of several types"
        raise WrongTemplate(f"the filter {node.name} takes a {wanted}, not a {kind}", node.lineno)
    constant = not (node.kwargs or node.dyn_args or node.dyn_kwargs) and all(map(_is_constant, node.args))
    given = [_constant(argument) for argument in node.args] if constant else []
    if not constant or tuple(shape.kind for shape in given) != rule.arguments[: len(given)]:
        known = f"constants in brackets ({', '.join(rule.arguments)})" if rule.arguments else "nothing in brackets"
        raise WrongTemplate(f"the filter {node.name} takes {known}", node.lineno)
    if rule.gives == "number":
        return NUMBER, rule.steps
    if node.name in ("first", "last"):
        return Shape("text", taken.size if taken.kind == "list" else 1), rule.steps
    size = (taken.size * rule.growth + 4 + (given[0].size if given else 0)) * taken.items
    shape = Shape(rule.gives or taken.kind, size)
    return shape, rule.steps + (taken.items + shape.characters // rule.per_step if rule.per_step else 0)


def _too_deep(line: int) -> WrongTemplate:
    return WrongTemplate(f"is nested more than {MAX_DEPTH} deep: use fewer blocks and brackets", line)


def _not_allowed(node: "Node") -> WrongTemplate:
    name = type(node).__name__
    what = _IN_WORDS.get(name, f"`{name.lower()}`")
    return WrongTemplate(
        f"{what} is not allowed in a template: it may have variables, constants, comparisons, `and`, `or`, `not`, "
        f"`if`, `for` and the filters {', '.join(FILTERS)}",
        node.lineno or 1,
    )

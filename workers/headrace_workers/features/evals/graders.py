"""Graders of OpenAI's evals and criteria of headrace's: the same thing in two spellings. Pure.

    string_check       exact_match (eq, ne), contains (like, ilike)
    text_similarity    bleu, gleu, rouge (rouge_1 … rouge_5, rouge_l), fuzzy_match, cosine
    label_model        rubric with labels: the score is the probability of the labels that pass
    score_model        rubric on the scale 1-5, stretched to the grader's range
    multi              the criteria of its graders, and a formula over their scores

A grader of the type `python` is code, and refused. A grader's templates are filled for each item; the criterion keeps
the version of what it was filled from.
"""

import ast
import hashlib
import html
import json
import math
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationError

from headrace_schemas import Bleu, Contains, Cosine, Criterion, ExactMatch, FuzzyMatch, Gleu, Message, Rouge, Rubric
from headrace_schemas.limits import MAX_CRITERIA, Alias, NonEmptyText, Question, Text
from headrace_schemas.model import Value
from headrace_schemas.reasons import describe
from headrace_workers.core.templates import Template, as_text
from headrace_workers.features.evals.templates import SAMPLED, Scope, filled, said_in, template_of
from headrace_workers.http.openai import Parameters, unsupported, wrong

# Formulas over scores, as a grader of the type `multi` has them: `0.7 * right + 0.3 * max(polite, short)`. Pure.
#
# There is arithmetic in them, the names of scores, and a few functions; nothing else is ever run.

LONGEST_FORMULA: Final = 500  # characters
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
        if len(text) > LONGEST_FORMULA:
            raise ValueError(f"has more than {LONGEST_FORMULA} characters")
        text = text.replace("^", "**").strip()  # a power is written either way, and binds as tightly as one
        try:
            tree = ast.parse(text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"is no formula: {getattr(error, 'msg', None) or type(error).__name__}") from None
        found = frozenset(_formula_names(tree, text))
        if unknown := sorted(found - set(known)):
            raise ValueError(f"{unknown[0]!r} is not one of the graders {', '.join(known)}")
        return cls(tree, found)

    def value(self, scores: Mapping[str, float]) -> float:
        """Return the formula's value. Raise ValueError where it has none."""
        try:
            share = _formula_value(self.tree, scores)
        except (ArithmeticError, ValueError) as error:
            raise ValueError(str(error) or type(error).__name__) from None
        if not math.isfinite(share):
            raise ValueError("the result is no finite number")
        return float(share)


def _formula_names(node: ast.expr, text: str) -> set[str]:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return set()
        case ast.Name(id=name):
            return {name}
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _formula_names(left, text) | _formula_names(right, text)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _formula_names(operand, text)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS and args:
            if len(args) > 1 and name not in _SEVERAL:
                raise ValueError(f"{name} takes one value")
            return set().union(*(_formula_names(item, text) for item in args))
    segment = (ast.get_source_segment(text, node) or text)[:_SHOWN]
    raise ValueError(f"{segment!r} is not taken: there are + - * / ^, numbers, {', '.join(_FUNCTIONS)}")


def _formula_value(node: ast.expr, scores: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return float(scores[name])
        case ast.BinOp(left=left, op=op, right=right):
            return float(_BINARY[type(op)](_formula_value(left, scores), _formula_value(right, scores)))
        case ast.UnaryOp(op=op, operand=operand):
            return _UNARY[type(op)](_formula_value(operand, scores))
        case ast.Call(func=ast.Name(id=name), args=[only]) if name in _SEVERAL:
            return _formula_value(only, scores)
        case ast.Call(func=ast.Name(id=name), args=args):
            return float(_FUNCTIONS[name](*(_formula_value(item, scores) for item in args)))
    raise ValueError("it was not checked")  # `parse` lets nothing else through


_SIMILARITIES: Final[dict[str, Bleu | Gleu | Rouge | FuzzyMatch | Cosine]] = {
    "cosine": Cosine(),
    "fuzzy_match": FuzzyMatch(),
    "bleu": Bleu(),
    "gleu": Gleu(),
    "rouge_1": Rouge(variant="1"),
    "rouge_2": Rouge(variant="2"),
    "rouge_3": Rouge(variant="3"),
    "rouge_4": Rouge(variant="4"),
    "rouge_5": Rouge(variant="5"),
    "rouge_l": Rouge(variant="l"),
}
_NO_METEOR: Final = "needs the synonyms of WordNet, which headrace does not bring"
_SAMPLING: Final = Parameters(
    works=frozenset(),
    refused={
        "temperature": (0,), "top_p": (1,), "seed": (), "max_completions_tokens": (), "reasoning_effort": ("none",)
    },
)  # fmt: skip
_NO_LABEL: Final = re.compile(r"[^A-Za-z0-9_.-]")
_POINTER: Final = "[the output]"  # what a judge reads where a template names the text that it is shown anyhow
_USUAL_RANGE: Final = (0.0, 1.0)

Name = Annotated[str, Field(min_length=1, max_length=256)]
Items = Annotated[tuple[Any, ...], Field(min_length=1, max_length=64)]


class StringCheck(Value):
    """Compares the text that is judged with a reference."""

    type: Literal["string_check"]
    name: Name
    input: Text
    reference: Text
    operation: Literal["eq", "ne", "like", "ilike"]


class TextSimilarity(Value):
    """A grader by the likeness of the text and a reference."""

    type: Literal["text_similarity"]
    name: Name
    input: Text
    reference: Text
    evaluation_metric: str
    pass_threshold: Annotated[float, Field(ge=0, le=1)] | None = None  # OpenAI asks for one, but for a part of a multi


class LabelModel(Value):
    """A model chooses a label."""

    type: Literal["label_model"]
    name: Name
    model: Alias
    input: Items
    labels: Annotated[tuple[NonEmptyText, ...], Field(min_length=2, max_length=16)]
    passing_labels: Annotated[tuple[NonEmptyText, ...], Field(min_length=1, max_length=16)]


class ScoreModel(Value):
    """A model says how far."""

    type: Literal["score_model"]
    name: Name
    model: Alias
    input: Items
    range: tuple[float, float] | None = None
    pass_threshold: float | None = None
    sampling_params: dict[str, Any] | None = None


class Multi(Value):
    """Several, and a formula over their scores."""

    type: Literal["multi"]
    name: Name
    graders: Annotated[dict[str, dict[str, Any]], Field(min_length=1, max_length=MAX_CRITERIA)]
    calculate_output: NonEmptyText
    pass_threshold: float | None = None


Leaf = StringCheck | TextSimilarity | LabelModel | ScoreModel
_LEAVES: Final[dict[str, type[Leaf]]] = {
    "string_check": StringCheck,
    "text_similarity": TextSimilarity,
    "label_model": LabelModel,
    "score_model": ScoreModel,
}


@dataclass(frozen=True, slots=True)
class Judging:
    """One criterion that a grader is: the text that it judges (None: it names none), and how a row fills it."""

    leaf: Leaf
    label: str
    version: str
    judged: Template | None
    asked: Template  # the reference, or the question of a model
    before: tuple[tuple[str, Template], ...] = ()  # and the messages that stand before that question

    def criterion(self, scope: Scope, output: str | None = None) -> Criterion:
        """Return the criterion for a row. `output` is the text that it judges, where that is not its job's. Raise
        ValueError about the row.
        """
        shared: dict[str, Any] = {"name": self.label, "template": self.version, "output": output}
        try:
            match self.leaf:
                case StringCheck(operation="eq" | "ne" as operation):
                    expected = filled(self.asked, scope, "reference")
                    return ExactMatch(**shared, reference=expected, trim=False, differs=operation == "ne")
                case StringCheck(operation=operation):
                    text = filled(self.asked, scope, "reference")
                    return Contains(**shared, text=text, ignore_case=operation == "ilike")
                case TextSimilarity(evaluation_metric=metric):
                    shared["reference"] = filled(self.asked, scope, "reference")
                    like = _SIMILARITIES[metric]
                    return type(like).model_validate({**like.model_dump(), **shared})
                case LabelModel(labels=labels, passing_labels=passing):
                    return Rubric(**shared, **self._asks(self.leaf, scope), labels=labels, passing=passing)
                case ScoreModel():
                    return Rubric(**shared, **self._asks(self.leaf, scope), scale="1-5")
        except ValidationError as error:
            raise ValueError(describe(error)) from None

    def _asks(self, leaf: "LabelModel | ScoreModel", scope: Scope) -> dict[str, Any]:
        """Return the question to a model for a row."""
        messages = tuple(Message(role=role, content=_question(text, scope)) for role, text in self.before)
        return {"question": _question(self.asked, scope), "messages": messages, "show": (), "model": leaf.model}


@dataclass(frozen=True, slots=True)
class Grader:
    """A grader of an eval: its criteria, and what their scores come to."""

    name: str
    type: str
    parts: tuple[Judging, ...]
    threshold: float
    formula: Formula | None = None

    def result(self, scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the result in OpenAI's form, given the scores of its criteria; a missing score is null, with an
        `error`.
        """
        result = {"name": self.name, "type": self.type}
        if reason := next((score["reason"] for score in scores if score.get("value") is None), None):
            return {**result, "score": None, "passed": False, "error": reason}
        values = [_stretched(part.leaf, score["value"]) for part, score in zip(self.parts, scores, strict=True)]
        try:
            value = values[0] if self.formula is None else self.formula.value(_by_name(self.parts, values))
        except ValueError as error:
            return {**result, "score": None, "passed": False, "error": f"calculate_output: {error}"}
        notes = [score["note"] for score in scores if score.get("note")]
        sample = {"sample": {"notes": notes}} if notes else {}
        return {**result, "score": value, "passed": value >= self.threshold, **sample}


def graders_of(criteria: Sequence[Any]) -> tuple[Grader, ...]:
    """Return the graders of an eval. Raise Refused, which names the place of what is wrong or not supported."""
    if not criteria:
        raise wrong("testing_criteria", "must name at least one grader")
    graders = tuple(_grader(criterion, f"testing_criteria[{place}]") for place, criterion in enumerate(criteria))
    names = [grader.name for grader in graders]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise wrong("testing_criteria", f"two are called {twice!r}: give each a name of its own")
    parts = [part for grader in graders for part in grader.parts]
    if len(parts) > MAX_CRITERIA:
        raise wrong("testing_criteria", f"are {len(parts)} with those of `multi`, and may be {MAX_CRITERIA}")
    labels = [part.label for part in parts]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise wrong("testing_criteria", f"two are called {twice!r} as criteria: let their names differ in letters")
    return graders


def _grader(raw: Any, path: str) -> Grader:
    if not isinstance(raw, Mapping):
        raise wrong(path, "must be an object")
    if raw.get("type") != "multi":
        part = _judging(raw, path)
        return Grader(part.leaf.name, part.leaf.type, (part,), _threshold(part.leaf, path))
    multi = _read(Multi, raw, path)
    parts = tuple(
        _judging({**grader, "name": name}, f"{path}.graders.{name}", within=f"{multi.name}.{name}")
        for name, grader in multi.graders.items()
    )
    try:
        formula = Formula.parse(multi.calculate_output, tuple(multi.graders))
    except ValueError as error:
        raise wrong(f"{path}.calculate_output", str(error)) from None
    threshold = 0.5 if multi.pass_threshold is None else multi.pass_threshold
    return Grader(multi.name, multi.type, parts, threshold, formula)


def _judging(raw: Mapping[str, Any], path: str, within: str | None = None) -> Judging:
    """Return the criterion of a grader. `within` is the name that a part of a `multi` has."""
    kind = raw.get("type")
    if kind == "python":
        raise unsupported(f"{path}.type", "a python grader is code, and headrace runs none of its callers'")
    cls = _LEAVES.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise unsupported(f"{path}.type", f"must be one of {', '.join(_LEAVES)}, multi")
    leaf = _read(cls, raw, path)
    content = leaf.model_dump(mode="json", exclude={"name", "pass_threshold"}, exclude_none=True)
    version = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]
    label = _label(within or leaf.name)
    if isinstance(leaf, StringCheck | TextSimilarity):
        return Judging(leaf, label, version, *_compared(leaf, path))
    if isinstance(leaf, LabelModel):
        _labels(leaf, path)
    if isinstance(leaf, ScoreModel):
        _SAMPLING.given(leaf.sampling_params or {}, f"{path}.sampling_params")
        if leaf.range is not None and not 0 < leaf.range[1] - leaf.range[0] < math.inf:
            raise wrong(f"{path}.range", "must be two numbers, the smaller first, that can be subtracted")
    question, before = _prompt(leaf.input, f"{path}.input")
    named = {name for template in (question, *(text for _, text in before)) for name in template.fields}
    reads = Template.parse(f"{{{{{SAMPLED}}}}}") if SAMPLED in named else None
    return Judging(leaf, label, version, reads, question, before)


def _labels(leaf: LabelModel, path: str) -> None:
    """Raise Refused for labels that a rubric may not have."""
    try:
        Rubric(question=_POINTER, labels=leaf.labels, passing=leaf.passing_labels)
    except ValidationError as error:
        raise wrong(path, describe(error).replace("labels and passing:", "labels and passing_labels:")) from None


def _read(cls: type[Any], raw: Mapping[str, Any], path: str) -> Any:
    try:
        return cls.model_validate(raw)
    except ValidationError as error:
        raise wrong(path, describe(error)) from None


def _compared(leaf: StringCheck | TextSimilarity, path: str) -> tuple[Template, Template]:
    """Return the text that is judged, and its reference. A comparison that is symmetric may have them either way."""
    if isinstance(leaf, TextSimilarity) and leaf.evaluation_metric not in _SIMILARITIES:
        why = f"meteor {_NO_METEOR}; it must" if leaf.evaluation_metric == "meteor" else "must"
        raise unsupported(f"{path}.evaluation_metric", f"{why} be one of {', '.join(_SIMILARITIES)}")
    judged, expected = template_of(leaf.input, f"{path}.input"), template_of(leaf.reference, f"{path}.reference")
    either_way = isinstance(leaf, StringCheck) and leaf.operation in ("eq", "ne")
    if either_way and expected.only_field == SAMPLED:
        judged, expected = expected, judged
    if SAMPLED in expected.fields:
        raise unsupported(f"{path}.reference", f"{{{{{SAMPLED}}}}} is what is judged: let it be the input")
    return judged, expected


def _prompt(messages: Sequence[Any], path: str) -> tuple[Template, tuple[tuple[str, Template], ...]]:
    """Return the question to a model that judges, and the messages before it, each with its role."""
    turns_read = [said_in(message, f"{path}[{place}]") for place, message in enumerate(messages)]
    asks = "user" if any(role == "user" for role, _ in turns_read) else "system"
    turns = [(role, text) for role, text in turns_read if role != "system" or asks == "system"]
    if turns[-1][0] != asks:
        raise wrong(path, "ends with the assistant's word: let the last message be the question, as the user's")
    last = list(takewhile(lambda turn: turn[0] == asks, reversed(turns)))[::-1]
    question = template_of("\n\n".join(text for _, text in last), path)
    system = [("system", text) for role, text in turns_read if role == "system" and asks == "user"]
    before = [*system, *turns[: len(turns) - len(last)]]
    return question, tuple((role, template_of(text, path)) for role, text in before)


def _question(template: Template, scope: Scope) -> Question:
    """Return the question to a judge. Texts of the item are data, and written as such."""
    return filled(
        template, scope.with_sample(_POINTER), "input", lambda value: html.escape(as_text(value), quote=False)
    )


def _threshold(leaf: Leaf, path: str) -> float:
    match leaf:
        case TextSimilarity(pass_threshold=None):
            raise wrong(f"{path}.pass_threshold", "is missing")
        case TextSimilarity(pass_threshold=threshold) | ScoreModel(pass_threshold=float() as threshold):
            return float(threshold or 0.0)
        case ScoreModel(range=bounds):
            low, high = bounds or _USUAL_RANGE
            return (low + high) / 2
        case StringCheck():
            return 1.0
    return 0.5


def _stretched(leaf: Leaf, value: float) -> float:
    if isinstance(leaf, ScoreModel):
        low, high = leaf.range or _USUAL_RANGE
        return low + (high - low) * value
    return value


def _by_name(parts: Sequence[Judging], values: Sequence[float]) -> dict[str, float]:
    return {part.leaf.name: value for part, value in zip(parts, values, strict=True)}


def _label(name: str) -> str:
    """Return a grader's name as the name of a criterion."""
    plain = _NO_LABEL.sub("_", name)[:60]
    return plain if plain[:1].isalpha() and plain.isascii() else f"g_{plain}"

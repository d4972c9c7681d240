"""Files of questions whose right end is known, as JSON lines: every line is checked before anything is measured."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from headrace_schemas.errors import Category, ConfigurationError, HeadraceError
from headrace_workers.core.json_lines import Line, LineTooLong, NoJSON, lines, parsed
from headrace_workers.features.cache.measuring import LabelledPair
from headrace_workers.features.knowledge.retrieval_quality import LabelledQuestion

QUESTION: Final = ("question", "query", "asked", "question1")
OTHER: Final = ("other", "cached", "question2")
SAME: Final = ("same", "is_duplicate", "duplicate", "label")
RIGHT: Final = ("documents", "document", "right", "relevant")
_LONGEST_LINE: Final = 1_000_000  # bytes
_SHOWN: Final = 20  # problems; the rest are counted
_YES: Final = frozenset({"true", "yes", "1"})
_NO: Final = frozenset({"false", "no", "0"})

T = TypeVar("T")


class WrongFile(HeadraceError):
    """A file with wrong lines; the message has a line `file:line: reason` for each."""

    category = Category.INVALID

    def __init__(self, problems: list[str]) -> None:
        noun = "line is" if len(problems) == 1 else "lines are"
        more = f"\nand {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        shown = "\n".join(problems[:_SHOWN])
        super().__init__(f"{len(problems):,} {noun} wrong, and nothing was measured:\n{shown}{more}")


class _Wrong(ValueError):
    """The error of one line."""


def read_pairs(
    path: Path, first: tuple[str, ...] = QUESTION, second: tuple[str, ...] = OTHER, holds: tuple[str, ...] = SAME
) -> list[LabelledPair]:
    """Return the pairs of lines whose fields have these names, each one of several. Raise WrongFile, or
    ConfigurationError if the file cannot be read.
    """
    return _read(path, lambda number, line: _labelled(number, line, first, second, holds))


def read_questions(path: Path) -> list[LabelledQuestion]:
    """Return questions with the documents that answer them. Raise WrongFile, or ConfigurationError as above."""
    return _read(path, _question_of)


def refuse_unknown(path: Path, questions: Collection[LabelledQuestion], known: Callable[[str], str | None]) -> None:
    """Raise WrongFile if a document that answers a question does not exist; `known` returns why, or None."""
    problems = [
        f"{path}:{question.line}: {why}"
        for question in questions
        for right in sorted(question.right)
        if (why := known(right)) is not None
    ]
    if problems:
        raise WrongFile(problems)


def _read(path: Path, parse: Callable[[int, Mapping[str, Any]], T]) -> list[T]:
    items: list[T] = []
    problems: list[str] = []
    for number, _, text in _lines(path):
        try:
            items.append(parse(number, _object(text)))
        except _Wrong as wrong:
            problems.append(f"{path}:{number}: {wrong}")
    if problems:
        raise WrongFile(problems)
    if not items:
        raise ConfigurationError(f"{path} has no lines: there is nothing to measure")
    return items


def _lines(path: Path) -> Iterator[Line]:
    try:
        with path.open("rb") as file:
            yield from lines(file, _LONGEST_LINE)
    except LineTooLong as error:
        raise WrongFile([f"{path}:{error.number}: it has more than {_LONGEST_LINE:,} bytes"]) from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error


def _object(text: bytes) -> Mapping[str, Any]:
    try:
        line = parsed(text)
    except NoJSON as error:
        raise _Wrong(str(error)) from None
    if not isinstance(line, dict):
        raise _Wrong('it must be a JSON object, such as {"question": …}')
    return line


def _labelled(
    number: int, line: Mapping[str, Any], first: tuple[str, ...], second: tuple[str, ...], holds: tuple[str, ...]
) -> LabelledPair:
    one, other = _text(line, first), _text(line, second)
    name, label = _value(line, holds)
    answer = str(label).casefold()
    if isinstance(label, list | dict | float) or answer not in _YES | _NO:
        raise _Wrong(f"`{name}` is {_shown(label)}; it must be true or false")
    return LabelledPair(number, one, other, answer in _YES)


def _question_of(number: int, line: Mapping[str, Any]) -> LabelledQuestion:
    question = _text(line, QUESTION)
    name, right = _value(line, RIGHT)
    named = [right] if isinstance(right, str) else right
    if (
        not isinstance(named, list)
        or not named
        or not all(isinstance(document, str) and document.strip() for document in named)
    ):
        raise _Wrong(f"`{name}` is {_shown(right)}; it must be a document's name, or a list of such, and not empty")
    return LabelledQuestion(number, question, frozenset(document.strip() for document in named))


def _text(line: Mapping[str, Any], names: tuple[str, ...]) -> str:
    name, value = _value(line, names)
    if not isinstance(value, str) or not value.strip():
        raise _Wrong(f"`{name}` is {_shown(value)}; it must be a text, and not empty")
    return value


def _value(line: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, Any]:
    """Return the name among these that the line has, and its value."""
    there = [name for name in names if name in line]
    if len(there) > 1:
        raise _Wrong(f"it has both `{there[0]}` and `{there[1]}`, which mean the same: give one")
    if not there:
        has = ", ".join(f"`{name}`" for name in line) or "nothing"
        others = ", ".join(f"`{name}`" for name in names[1:])
        raise _Wrong(f"it lacks `{names[0]}` (or {others}); it has {has}")
    return there[0], line[there[0]]


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)[:60]

"""One record after the other: kept, kept with something redacted, or removed by a rule, with the reason."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Final

from headrace_schemas import HeadraceError
from headrace_schemas.limits import MAX_TEXT
from headrace_workers.core.ports import Moderator
from headrace_workers.features.datasets.duplicates import Near, Same
from headrace_workers.features.datasets.leaked import EvaluationSets
from headrace_workers.features.datasets.other_language import other_language
from headrace_workers.features.datasets.record import Unreadable, text_of
from headrace_workers.features.datasets.text_quality import poor

_AT_ONCE: Final = 64


class Rule(StrEnum):
    """A reason to remove a record, in the order in which they are checked: cheap ones come first."""

    UNREADABLE = "unreadable"
    TOO_LONG = "too long"
    QUALITY = "quality"
    LANGUAGE = "language"
    DUPLICATE = "duplicate"
    LEAKED = "leaked"
    MODERATION = "moderation"
    NEAR_DUPLICATE = "near duplicate"


@dataclass(frozen=True, slots=True)
class Given:
    """A line of the data. `line` is None where it is longer than lines may be."""

    number: int
    line: bytes | None


@dataclass(frozen=True, slots=True)
class Removed:
    """A record that is not kept: by which rule, and why. `text` is its beginning."""

    number: int
    rule: Rule
    reason: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """A record that is."""

    number: int
    line: bytes


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a cleaning. `near` is None where near duplicates are kept, `language` where any is."""

    moderator: Moderator
    tests: EvaluationSets
    field: str | None = None
    quality: bool = True
    language: str | None = None
    near: Near | None = None


def clean(given: Iterable[Given], rules: Rules) -> Iterator[Kept | Removed]:
    """Yield the result for each line, in order. In memory are 64 lines, and what `rules` remember of kept ones.

    A text is removed where moderation would do more than let it through as it is, and where it cannot decide.
    """
    same = Same()
    waiting = iter(given)
    while part := list(islice(waiting, _AT_ONCE)):
        read = [_read(each, rules) for each in part]
        texts = [each.text for each in read if isinstance(each, _Read)]
        objections = iter(_objections(texts, rules.moderator))
        for each in read:
            yield each if isinstance(each, Removed) else _decided(each, next(objections), same, rules.near)


@dataclass(frozen=True, slots=True)
class _Read:
    number: int
    line: bytes
    text: str


def _read(given: Given, rules: Rules) -> _Read | Removed:
    if given.line is None:
        return Removed(given.number, Rule.TOO_LONG, "the line is longer than 4 MB")
    try:
        text = text_of(given.line, rules.field)
    except Unreadable as error:
        return Removed(given.number, Rule.UNREADABLE, str(error))
    if len(text) > MAX_TEXT:
        return Removed(given.number, Rule.TOO_LONG, f"{len(text):,} characters are more than {MAX_TEXT:,}", text)
    checks: Sequence[tuple[Rule, Callable[[str], str | None]]] = (
        (Rule.QUALITY, poor if rules.quality else _nothing),
        (Rule.LANGUAGE, _nothing if rules.language is None else lambda text: other_language(text, str(rules.language))),
        (Rule.LEAKED, lambda text: _removal_text("it holds an item of {}", rules.tests.leaked(text))),
    )
    for rule, check in checks:
        if (reason := check(text)) is not None:
            return Removed(given.number, rule, reason, text)
    return _Read(given.number, given.line, text)


def _objections(texts: Sequence[str], moderator: Moderator) -> Iterator[str | None]:
    """Yield the objection to each text, or None."""
    for verdict in moderator.moderate(texts) if texts else ():
        if isinstance(verdict, HeadraceError):
            yield f"moderation cannot decide: {verdict}"
        elif verdict.action == "allow":
            yield None
        else:
            named = sorted(name for name, objected in verdict.verdict.categories.items() if objected)
            yield f"{verdict.action}: {', '.join(named)}"


def _decided(read: _Read, objection: str | None, same: Same, near: Near | None) -> Kept | Removed:
    if (line := same.line(read.text)) is not None:
        return Removed(read.number, Rule.DUPLICATE, f"line {line} has the same words", read.text)
    if objection is not None:
        return Removed(read.number, Rule.MODERATION, objection, read.text)
    if near is not None and (found := near.line(read.number, read.text)) is not None:
        return Removed(read.number, Rule.NEAR_DUPLICATE, f"{found[1]:.0%} like line {found[0]}", read.text)
    same.keep(read.number, read.text)
    return Kept(read.number, read.line)


def _nothing(_text: str) -> None:
    return None


def _removal_text(pattern: str, found: str | None) -> str | None:
    return None if found is None else pattern.format(found)

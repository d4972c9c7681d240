"""Cleaning of training data: a rule removes a record, with the reason, or the record is kept as it is."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any, Final

from headrace_schemas import HeadraceError
from headrace_schemas.limits import MAX_TEXT
from headrace_workers.core.json_lines import NoJSON, parsed
from headrace_workers.features.datasets.duplicates import EvaluationSets, Near, Same
from headrace_workers.features.moderation.detector import Moderator
from headrace_workers.text.words import words_of

_FIELDS: Final = ("text", "prompt", "completion", "input", "output", "instruction", "response", "question", "answer")


class Unreadable(ValueError):
    """The reason why a line is no record."""


def text_of(line: bytes, field: str | None = None) -> str:
    """Return the text of a record: of `field`, else of its messages, else of the fields that are customary in training
    data.

    Raises Unreadable.
    """
    try:
        record = parsed(line)
    except NoJSON as error:
        raise Unreadable(str(error)) from None
    if not isinstance(record, dict):
        raise Unreadable("it is no JSON object")
    if field is not None:
        if not isinstance(record.get(field), str):
            raise Unreadable(f"it has no text in its field {field!r}")
        return str(record[field])
    if (messages := record.get("messages")) is not None:
        return _of_messages(messages)
    found = [record[name] for name in _FIELDS if isinstance(record.get(name), str)]
    if not found:
        raise Unreadable(f"it has no text: neither messages nor {', '.join(_FIELDS)}; --field names another")
    return "\n".join(found)


def _of_messages(messages: Any) -> str:
    if not isinstance(messages, list) or not messages:
        raise Unreadable("its messages are no list with something in it")
    texts = [message.get("content") if isinstance(message, dict) else None for message in messages]
    if not all(isinstance(text, str) for text in texts):
        raise Unreadable("one of its messages has no content that is a text")
    return "\n".join(map(str, texts))


# The quality of a text: rules of thumb, as for web text in Rae et al. 2021 (arXiv 2112.11446, table A1).
#
# Each gives a reason, or None. They are for prose: `--no-quality` is there for code and tables.

LEAST_WORDS: Final = 3
_LONGEST_MEAN_WORD: Final = 15.0  # characters
_LEAST_LETTERS: Final = 0.5  # of all characters but white space
_MOST_REPEATED_LINES: Final = 0.3
_MOST_OF_ONE_WORD: Final = 0.3
_SEVERAL: Final = 5  # lines or words, before their repetition says something
_MANY_WORDS: Final = 20


def poor(text: str) -> str | None:
    """Return the fault of a text, in words, or None."""
    words = text.split()
    if len(words) < LEAST_WORDS:
        return f"it has fewer than {LEAST_WORDS} words"
    signs = [sign for sign in text if not sign.isspace()]
    letters = sum(unicodedata.category(sign)[0] in "LM" for sign in signs) / len(signs)
    if letters < _LEAST_LETTERS:
        return f"{letters:.0%} of its characters are letters, fewer than {_LEAST_LETTERS:.0%}"
    # A script without spaces has long words, and letters of a class of their own.
    if sum(map(len, words)) / len(words) > _LONGEST_MEAN_WORD and text.isascii():
        return f"its words have more than {_LONGEST_MEAN_WORD:g} characters on average"
    return _repeats(text, words)


def _repeats(text: str, words: list[str]) -> str | None:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) >= _SEVERAL and (again := 1 - len(set(lines)) / len(lines)) > _MOST_REPEATED_LINES:
        return f"{again:.0%} of its lines stand in it already"
    if len(words) >= _MANY_WORDS:
        word, count = Counter(word.casefold() for word in words).most_common(1)[0]
        if count / len(words) > _MOST_OF_ONE_WORD:
            return f"{count / len(words):.0%} of its words are {word[:40]!r}"
    return None


SMALL_WORDS: Final = {
    "de": words_of(
        """der die das und ist nicht ein eine zu den mit von für auf sich dem des im es auch wie ich wir sie er"""
    ),
    "en": words_of(
        """the of and to in is that it for was on are with as be at by this have from or not but what which you"""
    ),
    "es": words_of(
        """el la los las de que y en un una es por con no para se su al lo como más pero del sus le ya este"""
    ),
    "fr": words_of(
        """le la les de des et en un une est que qui pour dans pas sur par au avec ce il elle je nous vous du"""
    ),
    "it": words_of(
        """il la le di che e un una è per con non in del della si al dei sono come più ma anche lo gli nel"""
    ),
    "nl": words_of(
        """de het een en van is dat in op te zijn met voor niet die aan er om ook als maar bij nog uit hij ze"""
    ),
    "pt": words_of(
        """o a os as de que e em um uma é por com não para se do da no na ao mais como mas foi ele das dos"""
    ),
}
_LEAST_WORDS: Final = 8  # of a text of fewer nothing is said
_LEAST_SHARE: Final = 0.08


def other_language(text: str, language: str) -> str | None:
    """Return why a text is not in this language (a key of SMALL_WORDS); None where it is, or it is unclear."""
    words = [word.strip(".,;:!?()[]\"'«»").casefold() for word in text.split()]
    if len(words) < _LEAST_WORDS:
        return None
    shares = {name: sum(word in small for word in words) / len(words) for name, small in SMALL_WORDS.items()}
    best = max(shares, key=lambda name: shares[name])
    if shares[language] >= max(_LEAST_SHARE, shares[best]):
        return None
    small = f"{shares[language]:.0%} of its words are small words of {language}"
    if shares[best] < _LEAST_SHARE:
        return f"{small}, and hardly any of another language that is known here"
    return f"it looks like {best}: {small}, {shares[best]:.0%} are of {best}"


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


def cleaned(given: Iterable[Given], rules: Rules) -> Iterator[Kept | Removed]:
    """Yield the result for each line, in order. In memory are 64 lines, and what `rules` remember of kept ones.

    A text is removed where moderation would do more than let it through as it is, and where it cannot decide.
    """
    same = Same()
    waiting = iter(given)
    while part := list(islice(waiting, _AT_ONCE)):
        read = [_read_record(item, rules) for item in part]
        texts = [item.text for item in read if isinstance(item, _Read)]
        objections = iter(_objections(texts, rules.moderator))
        for item in read:
            yield item if isinstance(item, Removed) else _decided(item, next(objections), same, rules.near)


@dataclass(frozen=True, slots=True)
class _Read:
    number: int
    line: bytes
    text: str


def _read_record(given: Given, rules: Rules) -> _Read | Removed:
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


_EXAMPLES: Final = 3  # of each rule
_SHOWN: Final = 80  # characters of a text


class Tally:
    """Counts by rule, and the first few of each."""

    def __init__(self) -> None:
        self.kept = 0
        self._removed: dict[Rule, int] = defaultdict(int)
        self._examples: dict[Rule, list[Removed]] = defaultdict(list)

    @property
    def read(self) -> int:
        """All lines with something in them."""
        return self.kept + sum(self._removed.values())

    def add(self, each: Kept | Removed) -> None:
        """Count one."""
        if isinstance(each, Kept):
            self.kept += 1
            return
        self._removed[each.rule] += 1
        if len(self._examples[each.rule]) < _EXAMPLES:
            text = " ".join(each.text[: 2 * _SHOWN].split())[:_SHOWN]
            self._examples[each.rule].append(Removed(each.number, each.rule, each.reason, text))

    def counts(self) -> list[tuple[str, int]]:
        """Return the number of records that each rule removed, without rules that removed none."""
        return [(str(rule), self._removed[rule]) for rule in Rule if self._removed[rule]]

    def shown(self) -> Iterator[tuple[str, Removed]]:
        """Yield the examples of each rule, in the rules' order. Texts that moderation refused are not shown."""
        for rule in Rule:
            for removed in self._examples[rule]:
                hidden = rule is Rule.MODERATION
                yield str(rule), Removed(removed.number, rule, removed.reason, "") if hidden else removed

    def document(self) -> dict[str, Any]:
        """Return the tally as JSON."""
        examples = [
            {"rule": rule, "line": removed.number, "reason": removed.reason, "begins": removed.text}
            for rule, removed in self.shown()
        ]
        return {"read": self.read, "kept": self.kept, "removed": dict(self.counts()), "examples": examples}

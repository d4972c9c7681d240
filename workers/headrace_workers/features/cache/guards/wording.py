"""Guards of the wording: form, numbers, dates, negation, time and person of the verb, and repeated words."""

import re
from itertools import pairwise
from typing import Final, NamedTuple

from headrace_workers.features.cache.guards.profile import Profile, in_words, of_kinds, read_once
from headrace_workers.features.cache.guards.rewrites import UNITS
from headrace_workers.features.cache.guards.tokens import Token
from headrace_workers.features.cache.guards.words import EMPTY_OR_SMALL, denies, words_of

# A formula is all operators, brackets, numbers and single letters in order, where one is an operator or a bracket.
_SIGN: Final = re.compile(
    r"[()\[\]{}<>=*+^|\\~±×÷≤≥≠√∑∫→]|(?<=[\w)\]] )[-−/](?= ?[\w(\[])|(?<=[\d)\]])[-−/](?![A-Za-z]{2})|[-−](?=\d)"
)
_PART: Final = re.compile(_SIGN.pattern + r"|\d+(?:[.,]\d+)*|(?<![\w'’])[A-Za-z](?![\w'’])")
# `A) red B) blue`, `1. red 2. blue`, `(i) red (ii) blue`: two labels or more.
_LABEL: Final = re.compile(r"(?:(?<=\s)|^)\(?(?:[A-Ha-h]|\d|[ivx]{1,4})[).:](?=\s)")
_COLUMNS: Final = re.compile(r"(?: {2,}|\t)\S")  # in a line: code, a table, a drawing
_SHORT: Final = 3  # letters
# Two spellings of each of these are two units or two things.
_SYMBOLS: Final = words_of("mw mv mj mhz ma mm mb kb pa nm na no co cs ph")


class _Form(NamedTuple):
    lines: tuple[str, ...]
    columns: tuple[str, ...]
    signs: tuple[str, ...]
    options: str


class Form:
    """Refuses another order of lines, options, operators and brackets, and another case of a short word.

    Questions of several lines must have the same lines but for one, which the other guards compare. Lines with indents
    or columns count space by space.
    """

    name = "form"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where both have the same form."""
        ours, theirs = form(asked), form(cached)
        if ours != theirs:
            if not _same_lines(ours.lines, theirs.lines) or ours.columns != theirs.columns:
                return "its lines are not those of the question that was answered"
            if ours.options != theirs.options:
                return "its options are not those of the question that was answered"
            if ours.signs != theirs.signs:
                return "its brackets, operators or figures are not those of the question that was answered"
        mine, yours = _cases(asked), _cases(cached)
        if mine == yours:
            return None
        for word in mine.keys() & yours.keys():
            if mine[word] != yours[word] and not _is_one_word(word, mine[word] | yours[word]):
                written, other = " and ".join(sorted(mine[word])), " and ".join(sorted(yours[word]))
                return f"writes {written}; the answer is for {other}"
        return None


@read_once
def form(read: Profile) -> _Form:
    """Return the form of a question."""
    lines = tuple([line for raw in read.text.splitlines() if (line := " ".join(raw.casefold().split()))])
    columns = (
        tuple([each.rstrip() for each in read.text.split("\n") if _COLUMNS.search(each)]) if "\n" in read.text else ()
    )
    text = " ".join(lines)
    signs = tuple(_PART.findall(text)) if _SIGN.search(text) else ()
    labels = list(_LABEL.finditer(text))
    return _Form(lines if len(lines) > 1 else (), columns, signs, text[labels[0].start() :] if len(labels) > 1 else "")


def _same_lines(ours: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    return len(ours) == len(theirs) and sum(one != other for one, other in zip(ours, theirs, strict=True)) <= 1


@read_once
def _cases(read: Profile) -> dict[str, set[str]]:
    """Return the spellings of each word of at most three letters. A capital at the head of a sentence says nothing, nor
    does that of `I` outside formulas.
    """
    found: dict[str, set[str]] = {}
    prose = not form(read).signs
    for token in read.tokens:
        word = token.text
        if word.isalpha() and len(word) <= _SHORT and token.kind in {"word", "unit"}:
            if prose and token.key == "i":
                continue
            starts = token.starts and word[1:] == word[1:].lower()
            found.setdefault(word.lower(), set()).add(word.lower() if starts else word)
    return found


def _is_one_word(word: str, written: set[str]) -> bool:
    """Return True if a word means the same in these spellings: `PDF` and `pdf`, but not `IT`, `it` and `MW`, `mW`.

    A unit and a single letter have one spelling.
    """
    if len(word) == 1 or word in UNITS or word in _SYMBOLS:
        return False
    if word in EMPTY_OR_SMALL:
        return written <= {word, word.capitalize()}
    return written <= {word, word.capitalize(), word.upper()}


class Numbers:
    """Refuses other numbers, and the same numbers in another order."""

    name = "numbers"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where all numbers agree in order."""
        ours, theirs = _numbers(asked), _numbers(cached)
        # `one egg` is `an egg`, and `one` may be anybody; `2 years or 1 year` is another order.
        if sorted(ours) != sorted(theirs) and "1" in (*ours, *theirs):
            ours, theirs = _without_articles(asked), _without_articles(cached)
        return (
            None
            if ours == theirs
            else f"asks with the numbers {in_words(ours, asked)}; the answer is for {in_words(theirs, cached)}"
        )


def _numbers(read: Profile) -> list[str]:
    return of_kinds(read).get("number", [])


@read_once
def _without_articles(read: Profile) -> list[str]:
    return [
        token.key
        for token, after in pairwise((*read.tokens, None))
        if token is not None and token.kind == "number" and not _is_article(token, after)
    ]


def _is_article(token: Token, after: Token | None) -> bool:
    """Return True for a number that is an article: `one egg` is `an egg`, `1 kg` is `a kilo`; `type 1` is not
    `type`.
    """
    return token.text.lower() == "one" or (token.key == "1" and after is not None and after.kind == "unit")


class Dates:
    """Refuses another date, day, month, season or time."""

    name = "dates"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where the same dates are named."""
        ours, theirs = _dates(asked), _dates(cached)
        return (
            None
            if ours == theirs
            else f"asks about {in_words(ours, asked)}; the answer is for {in_words(theirs, cached)}"
        )


def _dates(read: Profile) -> list[str]:
    return sorted(of_kinds(read).get("date", ()))


DENIALS: Final = words_of(
    """not never no none neither nor without nobody nothing nowhere hardly barely rarely seldom lack lacking
    except false"""
)


class Negation:
    """Refuses where one question denies more often than the other; `not safe` and `unsafe` deny equally."""

    name = "negation"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where both deny, or neither."""
        ours, theirs = _denials(asked, cached), _denials(cached, asked)
        if len(ours) == len(theirs):
            return None
        mine, other = in_words(ours, asked), in_words(theirs, cached)
        return f"denies with {mine}; the answer is for a question that denies with {other}"


def _denials(read: Profile, other: Profile) -> list[str]:
    turned = [key for key in read.content if key not in other.content and denies(key, other.content)]
    # `non` stands alone before what it denies: the tokens of `non-refundable` are two.
    return [*_denying(read), *turned, *["non"] * read.content.get("non", 0)]


@read_once
def _denying(read: Profile) -> list[str]:
    return [key for key in of_kinds(read).get("word", ()) if key in DENIALS]


_TIMES: Final = {
    "was": "past",
    "were": "past",
    "did": "past",
    "had": "past",
    "is": "present",
    "are": "present",
    "does": "present",
    "do": "present",
    "will": "future",
}
_DUTIES: Final = {
    "can": "can",
    "could": "can",
    "should": "should",
    "ought": "should",
    "must": "should",
    "may": "can",
    "might": "can",
    "allow": "can",
    "permit": "can",
    "need": "should",
    "require": "should",
    "necessary": "should",
    "mandatory": "should",
    "obligatory": "should",
}
_PERSONS: Final = {
    "my": "I",
    "mine": "I",
    "our": "I",
    "your": "you",
    "yours": "you",
    "he": "he",
    "him": "he",
    "his": "he",
    "she": "she",
    "her": "she",
    "hers": "she",
}
_NAMED: Final = frozenset({*_TIMES, *_DUTIES, *_PERSONS})
# `How do I`, `how do you` and `how do we` ask for the same; `am I` and `are you` do not.
_WHO_IS: Final = {"i": "I", "we": "I", "you": "you"}


class Manner:
    """Refuses another tense, another duty, another person, where both questions name one."""

    name = "manner"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where none is named, on one side, or the same on both."""
        # `Who is the author` and `who was it written by` ask the same: the passive has a time of its own.
        times = (_times,) if _passive(asked) == _passive(cached) else ()
        for named in (*times, _duties, _verb_persons):
            ours, theirs = named(asked), named(cached)
            if not ours or not theirs or ours & theirs:
                continue
            if named is _times and "past" not in ours | theirs and _lasts(asked) and _lasts(cached):
                continue  # `how long will it keep`, `how long does it keep`; `why won't it`, `why doesn't it start`
            return f"asks with {in_words(sorted(ours))}; the answer is for {in_words(sorted(theirs))}"
        return None


@read_once
def _times(read: Profile) -> set[str]:
    return _named(read, _TIMES)


@read_once
def _duties(read: Profile) -> set[str]:
    return _named(read, _DUTIES)


@read_once
def _verb_persons(read: Profile) -> set[str]:
    return _named(read, _PERSONS) | _subjects(read)


def _named(read: Profile, classes: dict[str, str]) -> set[str]:
    return {manner for text, key in _words(read) if (manner := classes.get(text) or classes.get(key))}


@read_once
def _words(read: Profile) -> list[tuple[str, str]]:
    """Return each word that names one of these, with its key."""
    if read.words.isdisjoint(_NAMED):
        return []
    words = [(token.text.lower(), token.key) for token in read.tokens if token.kind == "word"]
    return [word for word in words if word[0] in _NAMED or word[1] in _NAMED]


@read_once
def _passive(read: Profile) -> bool:
    return "by" in read.keys


def _lasts(read: Profile) -> bool:
    """Return True if the answer to the question is as true tomorrow."""
    return "how" in read.keys or {"why", "not"} <= read.keys


def _subjects(read: Profile) -> set[str]:
    """Return the persons that `am I`, `are you` ask about."""
    if "be" not in read.keys:
        return set()
    return {
        _WHO_IS[word]
        for before, token in pairwise(read.tokens)
        if before.key == "be" and (word := token.text.lower()) in _WHO_IS
    }


_FIRST: Final = words_of("i me my mine we us our ours")
_CLOSE: Final = words_of(
    """wife husband son daughter mother father mom mum dad parent child kid baby brother sister friend partner
    boss employer employee landlord tenant neighbor neighbour teacher student doctor grandmother grandfather cousin"""
)


class SharedWords:
    """Refuses a word that one question has twice and the other once, and persons in another order.

    `Can I use my wife's card` and `can my wife use my card` have the same persons, who do different things.
    """

    name = "shared words"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where the shared words are as many, and the persons in one order."""
        if asked.content != cached.content:
            other = [key for key, n in asked.content.items() if cached.content.get(key, n) != n]
            if other:
                return f"names {in_words(other, asked)} more or less often than the question that was answered"
        ours, theirs = _persons(asked), _persons(cached)
        if ours != theirs and sorted(map(_bare, ours)) == sorted(map(_bare, theirs)):
            return "its persons stand in another order"
        return None


def _bare(person: str) -> str:
    return person.removesuffix("'s")


@read_once
def _persons(read: Profile) -> tuple[str, ...]:
    """Return the persons in order, owners marked, where someone beside the asker is named; the asker is one of them."""
    found: list[str] = []
    for token in read.tokens:
        if token.key == "'s" and found:
            found[-1] += "'s"
        elif token.key in _FIRST:
            found.append("i")
        elif token.kind == "word" and token.key in _CLOSE:
            found.append(token.key)
    return tuple(found) if any(_bare(each) != "i" for each in found) else ()

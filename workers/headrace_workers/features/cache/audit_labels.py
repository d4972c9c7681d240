"""Labels of audits: whether a served answer and a fresh one mean the same: clean, wrong, or unclear.

A wrong label may turn a tier off, and a clean one vouches for it: both are given only where little else is possible.
Other answers in free words are unknown, and go to people.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

# An answer as its words, with numbers and dates in one form, for answers that differ in nothing else.

_MONTHS: Final = "january february march april may june july august september october november december"
_MONTH_OF: Final = {
    **{name: number for number, name in enumerate(_MONTHS.split(), start=1)},
    **{name[:3]: number for number, name in enumerate(_MONTHS.split(), start=1)},
    "sept": 9,
}
_SMALL: Final = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_TENS: Final = "thirty forty fifty sixty seventy eighty ninety"
_NUMBER_OF: Final = {
    **{word: Decimal(value) for value, word in enumerate(_SMALL.split())},
    **{word: Decimal(10 * value) for value, word in enumerate(_TENS.split(), start=3)},
}
_ONE_FORM: Final = str.maketrans({"−": "-", "‐": "-", "‑": "-", "’": "'", "ʼ": "'"})
_BULLET: Final = re.compile(r"^[ \t]*[-*•–][ \t]+(?=\S)", re.MULTILINE)
# A number of other shapes (1.2.3, 5-10, 50,5) is a word: it is the same, or nothing is known about it.
_TOKEN: Final = re.compile(
    r"(?P<date>(?<![\w.-])\d{4}-\d\d-\d\d(?![\w-]))"
    r"|(?P<time>(?<![\w.:-])\d{1,2}:\d\d(?![\w:]))"
    r"|(?P<number>(?<![\w.,-])[+-]?\d+(?:,\d{3})*(?:\.\d+)?(?![.,:/-]?\d))"
    r"|(?P<word>\w+(?:(?:['.\-/@:&]|(?<=\d),(?=\d))\w+)*)"
    r"|(?P<sign>[^\w\s])"
)
# Punctuation of sentences and emphasis. All other signs are words: -, +, =, <, %, $, ?, and ! before something.
_SILENT: Final = frozenset(".,;:\"'()[]{}«»“”‘…*_`")
_MAYBE_GROUPED: Final = re.compile(r"[+-]?\d{1,3}\.\d{3}")  # 1.000 is a thousand to some, and one to others
_CONTRACTED: Final = {"can't": "can", "won't": "will", "shan't": "shall", "cannot": "can"}
_NEGATIONS: Final = frozenset({"not", "no", "never"})
_ARTICLES: Final = frozenset({"a", "an", "the"})


@dataclass(frozen=True, slots=True)
class Token:
    """One word. `kind` is word, number, time, date or not; `number` is the value of a number."""

    kind: str
    text: str
    number: Decimal | None = None


NOT: Final = Token("not", "not")


def read(text: str) -> tuple[Token, ...]:
    """Return the words of an answer: without case, white space, punctuation of sentences, bullets and English articles.

    "1,000" is "1000" and "three" is "3"; "5 March 2020" is "2020-03-05"; "isn't" is "is not". Words that mix capitals
    into small letters keep their case, since names of things do. Linear in the text.
    """
    plain = _BULLET.sub("", unicodedata.normalize("NFC", text).translate(_ONE_FORM))
    matches = [match for match in _TOKEN.finditer(plain) if not _silent(match, plain)]
    last = len(matches) - 1
    kept = [match for i, match in enumerate(matches) if not _article(match.group(), first=i == 0, last=i == last)]
    return tuple(_dated([token for match in kept for token in _tokens(match.lastgroup or "", match.group())]))


def _silent(match: re.Match[str], text: str) -> bool:
    sign, after = match.group(), text[match.end() : match.end() + 1]
    return sign in _SILENT or (sign == "!" and not (after == "=" or after.isalnum()))


def _article(word: str, *, first: bool, last: bool) -> bool:
    # A capital A inside is a name (vitamin A), and so is what ends an answer (option a).
    return word.lower() in _ARTICLES and not last and (word.islower() or first)


def _tokens(kind: str, text: str) -> Iterator[Token]:
    lower = text.lower()
    if kind == "number" and not _MAYBE_GROUPED.fullmatch(text):
        yield _number(Decimal(text.replace(",", "")))
    elif kind in {"date", "time"}:
        yield Token(kind, text)
    elif lower in _NUMBER_OF:
        yield _number(_NUMBER_OF[lower])
    elif lower in _NEGATIONS:
        yield NOT
    elif lower in _CONTRACTED:
        yield from (Token("word", _CONTRACTED[lower]), NOT)
    elif lower.endswith("n't"):
        yield from (Token("word", lower[:-3]), NOT)
    else:
        yield Token("word", text.casefold() if text.islower() or text.isupper() or text.istitle() else text)


def _number(value: Decimal) -> Token:
    return Token("number", f"{value.normalize():f}", value)


def _dated(tokens: Sequence[Token]) -> Iterator[Token]:
    """Yield tokens with day, month's name and year as one, in the orders 5 March 2020 and March 5 2020."""
    at = 0
    while at < len(tokens):
        date = _date(*tokens[at : at + 3]) if at + 3 <= len(tokens) else None
        yield date or tokens[at]
        at += 3 if date else 1


def _date(first: Token, second: Token, year: Token) -> Token | None:
    month, day = (first, second) if first.text in _MONTH_OF else (second, first)
    if month.text not in _MONTH_OF or day.number not in range(1, 32) or year.number not in range(1000, 10_000):
        return None
    return Token("date", f"{year.text}-{_MONTH_OF[month.text]:02}-{day.text:0>2}")


Kind = Literal["clean", "wrong", "unknown"]

SHORT: Final = 16  # words: in a longer answer a number that differs may stand beside the point
_CLOSE: Final = Decimal("0.01")  # of a number of 10,000 and more: one may be rounded
_LARGE: Final = 10_000
_HEDGES: Final = frozenset(
    ["about", "approximately", "around", "roughly", "nearly", "almost", "over", "under", "circa", "ca", "up"]
) | frozenset("~≈<>")
# "Not only …" denies nothing. "Unless" and "or" turn meanings around in ways that counting cannot see.
_TWISTS: Final = frozenset(
    ["only", "just", "merely", "simply", "but", "unless", "until", "or", "nor", "neither", "either", "why"]
)
_ANSWERS: Final = {"yes": True, "no": False, "true": True, "false": False, "correct": True, "incorrect": False}


@dataclass(frozen=True, slots=True)
class Label:
    """The label of an audit, and its reason, in words for people."""

    kind: Kind
    reason: str


def compare(served: str, fresh: str) -> Label:
    """Compare the answer that was served with one generated afresh for the same question.

    Code is compared letter by letter alone.
    """
    if served.strip() == fresh.strip():
        return Label("clean", "the same text")
    if "```" in served or "```" in fresh:
        return Label("unknown", "code that differs")
    ours, theirs = read(served), read(fresh)
    if ours == theirs and ours:
        return Label("clean", "the same words, numbers and polarity")
    if max(len(ours), len(theirs)) > SHORT:
        return Label("unknown", f"they differ, and are longer than {SHORT} words")
    return _contradiction(served, fresh, ours, theirs) or Label("unknown", "different words")


def _contradiction(served: str, fresh: str, ours: Sequence[Token], theirs: Sequence[Token]) -> Label | None:
    yes = _ANSWERS.get(_bare(served)), _ANSWERS.get(_bare(fresh))
    if None not in yes and yes[0] != yes[1]:
        return Label("wrong", f"one says {_bare(served)}, the other {_bare(fresh)}")
    if _without_not(ours) == _without_not(theirs) and {ours.count(NOT), theirs.count(NOT)} == {0, 1}:
        twisted = _TWISTS & {token.text for token in (*ours, *theirs)}
        # To "Isn't it free?" the answers "No, it is free" and "It is free" are the same.
        if twisted or NOT in (*ours[:1], *theirs[:1]):
            return None
        return Label("wrong", "one denies what the other says, in the same words")
    return _other_number(ours, theirs)


def _other_number(ours: Sequence[Token], theirs: Sequence[Token]) -> Label | None:
    """Return a label for the same words in the same order with another number, date or time that no rounding
    explains.
    """
    if len(ours) != len(theirs) or _HEDGES & {token.text for token in (*ours, *theirs)}:
        return None
    differing = [(a, b) for a, b in zip(ours, theirs, strict=True) if a != b]
    for a, b in differing:
        if a.kind != b.kind or a.kind not in {"number", "date", "time"}:
            return None
        if a.number is not None and b.number is not None and _rounded(a.number, b.number):
            return None
    if not differing:
        return None
    a, b = differing[0]
    return Label("wrong", f"one says {a.text}, the other {b.text}, in the same words")


def _rounded(a: Decimal, b: Decimal) -> bool:
    """Return True if one may be the other with fewer digits: 3.14 and 3.14159, 1,300,000 and 1,297,000."""
    if min(abs(a), abs(b)) >= _LARGE and abs(a - b) <= _CLOSE * max(abs(a), abs(b)):
        return True
    places = [-int(number.as_tuple().exponent) for number in (a, b)]
    return places[0] != places[1] and abs(a - b) <= Decimal(1).scaleb(-min(places))


def _without_not(tokens: Sequence[Token]) -> list[Token]:
    return [token for token in tokens if token != NOT]


def _bare(text: str) -> str:
    return text.strip().rstrip(".!").casefold()

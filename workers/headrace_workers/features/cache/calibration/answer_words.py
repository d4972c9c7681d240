"""An answer as its words, with numbers and dates in one form, for answers that differ in nothing else."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

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
    found = [each for each in _TOKEN.finditer(plain) if not _silent(each, plain)]
    kept = [each for i, each in enumerate(found) if not _article(each.group(), first=i == 0, last=i == len(found) - 1)]
    return tuple(_dated([token for each in kept for token in _tokens(each.lastgroup or "", each.group())]))


def _silent(found: re.Match[str], text: str) -> bool:
    sign, after = found.group(), text[found.end() : found.end() + 1]
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

"""From a text to tokens: words, numbers and literals, with slips of the keyboard corrected. Linear in the text."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from headrace_workers.text.words import NEGATED, lines_of, stem, words_of

# Slips of the keyboard: a word that is none, one slip away from a single common word, is read as that word.

_MISSPELT: Final = dict(line.split() for line in lines_of("misspelt"))
_COMMON: Final = frozenset(word for line in lines_of("common") for word in line.split())
_LENGTHS: Final = range(5, 21)


def _without_a_letter() -> dict[str, str]:
    """Return the common words by what is left of each without one of its inner letters; none by what two share."""
    found: dict[str, str] = {}
    for word in _COMMON:
        for at in range(1, len(word) - 1):
            left = word[:at] + word[at + 1 :]
            found[left] = word if found.get(left, word) == word else ""
    return found


_WITHOUT_A_LETTER: Final = _without_a_letter()


@lru_cache(maxsize=16_384)
def corrected(word: str) -> str:
    """Return what a word in lower case was meant to be: the same word, unless it is a known slip.

    Two letters have changed places, one was left out or one was typed twice; the first letter is right, and so is the
    last of a word without one of its letters.
    """
    if word in _MISSPELT:
        return _MISSPELT[word]
    if len(word) not in _LENGTHS or word in _COMMON:
        return word
    meant = {other for other in _one_slip_away(word) if other in _COMMON}
    if (whole := _WITHOUT_A_LETTER.get(word)) is not None:
        meant.add(whole)
    return meant.pop() or word if len(meant) == 1 else word


def _one_slip_away(word: str) -> Iterator[str]:
    for at in range(1, len(word)):
        if at + 1 < len(word):
            yield word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        if word[at] == word[at - 1]:
            yield word[:at] + word[at + 1 :]


Kind = Literal["word", "number", "date", "unit", "literal", "symbol"]
Piece = tuple[str, bool]  # a part of a text, and whether it stands in quotation marks


class Token(NamedTuple):
    """A piece of a text.

    `key` says when two tokens are the same: a word's stem, a number's value, a literal as it stands. `text` is for
    reasons that people read. A word is a `name` when capitals mark it as one; a token `starts` a sentence.
    """

    text: str
    key: str
    kind: Kind = "word"
    name: bool = False
    starts: bool = False


# Each alternative is bounded, so that the time is linear. A quotation is one literal.
_QUOTED: Final = re.compile(r"""`{1,3}([^`]{1,2000})`{1,3}|"([^"\n]{1,500})"|“([^”\n]{1,500})”|«([^»\n]{1,500})»""")
_A_QUOTE: Final = re.compile("[`\"“«']")  # without one nothing is quoted
_SINGLE: Final = re.compile(r"(?<![\w'])'([^'\n]{2,300})'(?![\w'])")
_ENDS: Final = ".!?…:"
_EDGES: Final = ".,;:!?()[]{}…\"'`‘’“”«»*|<>~"
_NUMBER: Final = re.compile(r"[-+−]?[$€£¥₹]?\d{1,40}(?:[.,]\d{1,40}){0,20}")
_UNIT: Final = re.compile(r"[a-zA-Zµ°%²³/$€£¥₹]{1,12}")
_FIGURES: Final = re.compile(r"\d|[-+−$€£¥₹][$€£¥₹]?\d")
_ORDINAL: Final = re.compile(r"(\d{1,20})(?:st|nd|rd|th)")
_ISO_DATE: Final = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?:T[\d:.Z+-]{1,30})?")
_CLOCK: Final = re.compile(r"(\d{1,2}):(\d{2})(?::\d{2})?(am|pm)?")
_DOTTED: Final = re.compile(r"(?:[a-zA-Z]\.){2,8}[a-zA-Z]?")
_PLAIN: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_NO_SPACES: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_CONTRACTED: Final = {
    **{word: (verb, "not") for word, verb in NEGATED.items()},
    "ain't": ("is", "not"),
    "let's": ("let",),
    "i'm": ("i", "am"),
    # As they are typed without the apostrophe, where that makes no other word.
    **{word: (word[:-1], "is") for word in ("whats", "whos", "wheres", "whens", "whys", "hows", "thats", "theres")},
    **{
        f"{verb}nt": (verb, "not")
        for verb in ("do", "does", "did", "is", "are", "was", "were", "has", "have", "had", "would", "could", "should")
    },
    "cant": ("can", "not"),
    "wont": ("will", "not"),
    "im": ("i", "am"),
    "ive": ("i", "have"),
    "youre": ("you", "are"),
}
_ENDINGS: Final = {"'re": "are", "'ve": "have", "'ll": "will", "'d": "would"}
_IS: Final = words_of("""what who where when how why it that there here he she which whats whos""")
_ROMAN: Final = {
    "II": "2",
    "III": "3",
    "IV": "4",
    "VI": "6",
    "VII": "7",
    "VIII": "8",
    "IX": "9",
    "XI": "11",
    "XII": "12",
}


class _Chunk(NamedTuple):
    """The text between two spaces: its tokens, as they are where no sentence starts.

    If it `stands` alone it is a sign, which no quotation marks make literal; if it `ends`, a sentence starts after it.
    """

    tokens: tuple[Token, ...]
    stands: bool
    ends: bool


def tokens(pieces: Sequence[Piece]) -> list[Token]:
    """Return the tokens of a text's pieces, in order. Text in quotation marks is literal, word by word."""
    found: list[Token] = []
    starts = True
    for piece, quoted in pieces:
        for chunk in map(_read, piece.split()):
            literal = quoted and not chunk.stands
            for token in chunk.tokens:
                if starts or literal:
                    kind = "literal" if literal else token.kind
                    found.append(Token(token.text, token.key, kind, token.name, starts))
                    starts = False
                else:
                    found.append(token)
            starts = starts or chunk.ends
    return found


@lru_cache(maxsize=8_192)  # questions share most of their words
def _read(chunk: str) -> _Chunk:
    core = chunk.strip(_EDGES)
    ends = chunk[-1] in _ENDS and not (core and _DOTTED.fullmatch(core + "."))
    if core:
        return _Chunk(tuple(_chunk(core)), False, ends)
    bare = "" if any(sign in ".,;:!?…" for sign in chunk) else chunk.strip("\"'`‘’“”«»()[]{}")
    is_sign = bare in {"<", ">", "*", "|", "~"} or len(bare) > 1
    return _Chunk((Token(bare, bare, "symbol"),) if is_sign else (), True, ends)


def quotations(pieces: Sequence[Piece]) -> tuple[str, ...]:
    """Return the texts in quotation marks or backticks, letter by letter."""
    return tuple([" ".join(piece.split()) for piece, quoted in pieces if quoted])


def pieces(text: str) -> list[Piece]:
    """Return the text in parts: those in quotation marks, and those between them; signs in one form."""
    plain = unicodedata.normalize("NFKC", text).replace("’", "'")
    return list(_parted(plain)) if _A_QUOTE.search(plain) else [(plain, False)]


def _parted(text: str) -> Iterator[Piece]:
    at = 0
    for match in _QUOTED.finditer(text):
        yield from _single_quoted(text[at : match.start()])
        yield next(group for group in match.groups() if group is not None), True
        at = match.end()
    yield from _single_quoted(text[at:])


def _single_quoted(text: str) -> Iterator[tuple[str, bool]]:
    at = 0
    for match in _SINGLE.finditer(text):
        yield text[at : match.start()], False
        yield match.group(1), True
        at = match.end()
    yield text[at:], False


def _chunk(core: str) -> Iterator[Token]:
    """Yield the tokens of what stands between spaces, without the punctuation around it."""
    if core.isascii() and core.isalpha() and core.lower() not in _CONTRACTED:
        yield _word(core)
    elif _NO_SPACES.search(core):
        yield from (Token(sign, sign.casefold()) for sign in core)
    elif _PLAIN.fullmatch(core):
        yield from _with_apostrophe(core)
    elif _DOTTED.fullmatch(core) or _DOTTED.fullmatch(core + "."):
        plain = core.replace(".", "")
        yield Token(plain, plain.lower(), "word", plain.isupper())
    elif _FIGURES.match(core):
        yield from _numeric(core)
    elif parts := _joined(core):
        yield from parts
    elif any(sign.isalnum() for sign in core):
        yield Token(core, _literal(core), "literal")
    elif core not in {"-", "–", "—", "--"}:
        yield Token(core, core, "symbol")


def _joined(core: str) -> list[Token]:
    """Return the words of `well-known` and `and/or`; none where it is neither."""
    hyphened = [part for part in core.split("-") if part]
    if len(hyphened) > 1 and all(_PLAIN.fullmatch(part) for part in hyphened):
        return [token for part in hyphened for token in _with_apostrophe(part)]
    parts = core.split("/")
    if len(parts) > 1 and all(_PLAIN.fullmatch(part) for part in parts):
        first, *others = parts
        return [_word(first), *(token for part in others for token in (Token("/", "/", "symbol"), _word(part)))]
    return []


def _literal(core: str) -> str:
    """Return the literal. Mail and web addresses ignore case up to the path; all else counts letter by letter."""
    if "@" in core and "." in core:
        return core.lower()
    if "://" in core:
        scheme, _, rest = core.partition("://")
        host, slash, path = rest.partition("/")
        return f"{scheme.lower()}://{host.lower()}{slash if path else ''}{path}"
    return core


def _with_apostrophe(core: str) -> Iterator[Token]:
    lower = core.lower()
    if lower in _CONTRACTED:
        yield from (Token(part, stem(part)) for part in _CONTRACTED[lower])
        return
    if lower.endswith("n't") and len(lower) > 4:
        yield _word(core[:-3])
        yield Token("not", "not")
        return
    if lower.endswith("'s"):
        yield _word(core[:-2])
        yield Token("is", "be") if lower[:-2] in _IS else Token("'s", "'s")
        return
    for ending, meant in _ENDINGS.items():
        if lower.endswith(ending):
            yield _word(core[: -len(ending)])
            yield Token(meant, stem(meant))
            return
    yield _word(core)
    # `students'` owns as `student's` does, but the apostrophe is stripped with the punctuation: it reads as a plural.


def _word(core: str) -> Token:
    if core in _ROMAN:
        return Token(core, _ROMAN[core], "number")
    lower = core.lower()
    # An identifier such as `camelCase` or `DataFrame`; an acronym; a word with a capital.
    name = core not in (lower, "I") and (core[0].isupper() or core[1:] != core[1:].lower())
    # A name may be spelt as it is on purpose.
    return Token(core, stem(lower if name else corrected(lower)), "word", name)


def _numeric(core: str) -> Iterator[Token]:
    if match := _ISO_DATE.fullmatch(core):
        yield Token(core, core if "T" in core else "-".join(match.groups()), "date")
    elif match := _CLOCK.fullmatch(core):
        hour, minute, half = match.groups()
        yield Token(core, f"{int(hour) + (12 if half == 'pm' and int(hour) < 12 else 0):02}:{minute}", "date")
    elif match := _ORDINAL.fullmatch(core.lower()):
        yield Token(core, str(int(match.group(1))), "number")
    elif (match := _NUMBER.match(core)) and (not core[match.end() :] or _UNIT.fullmatch(core[match.end() :])):
        number, unit = match.group(), core[match.end() :]
        currency = next((sign for sign in "$€£¥₹" if sign in number), "")
        yield Token(number, value(number.replace(currency, "") if currency else number), "number")
        for part in (currency, unit):
            if part:
                yield Token(part, stem(part.lower()) if part.isalpha() and len(part) > 3 else part)
    elif len(parts := re.split(r"[-–/x×]", core)) > 1 and all(_NUMBER.fullmatch(part) for part in parts):
        for part in parts:
            yield Token(part, value(part), "number")
    else:
        yield Token(core, core, "literal")


def value(number: str) -> str:
    """Return one form of a number: `1,500.0` and `1500`, `007` and `7` are the same."""
    number = number.replace("−", "-").lstrip("+")
    sign, number = ("-", number[1:]) if number.startswith("-") else ("", number)
    groups = number.split(",")
    if len(groups) > 1 and all(len(group.split(".")[0]) == 3 for group in groups[1:]):
        number = "".join(groups)
    elif number.count(",") == 1 and "." not in number:
        number = number.replace(",", ".")  # a decimal comma
    if number.count(".") == 1:
        number = number.rstrip("0").rstrip(".")
    return sign + (number.lstrip("0") or "0" if not number.startswith("0.") else number)

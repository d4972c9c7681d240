"""A text as detectors see it: as it is, and as it reads without what hid words in it."""

import base64
import binascii
import re
import unicodedata
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, NamedTuple

from headrace_workers.features.moderation.detector import Detection

# Text inside runs of base64, decoded once. Base64 inside decoded text is not decoded again.

_SHORTEST: Final = 16  # characters of a run: 12 that it says
# A run of so many characters without a space, in a time that is a fraction of looking for the run itself.
_LONG: Final = re.compile(rf" [^ ]{{{_SHORTEST}}}")
_RUN: Final = re.compile(rf"[A-Za-z0-9+/_-]{{{_SHORTEST},}}={{0,2}}")
_READABLE: Final = 0.9  # of the characters: below that, chance made a text of bytes
_URL_SAFE: Final = str.maketrans("-_", "+/")


class Decoded(NamedTuple):
    """The decoded text, a run a line, and for each character the span of the original that holds it."""

    text: str
    begins: list[int]
    ends: list[int]


def may_hold_runs(text: str) -> bool:
    """Return True if any word of the text is as long as a run."""
    return text.find(" ", 0, _SHORTEST) < 0 or _LONG.search(text) is not None


def decoded(text: str) -> Decoded | None:
    """Return the decoded runs of base64 that are text, or None. They have no more characters than the text."""
    if not may_hold_runs(text):
        return None
    texts, begins, ends = [], [], []
    for run in _RUN.finditer(text):
        if (words := _words(run[0])) is not None:
            # A part of a run cannot be cut out of it.
            texts.append(f"{words}\n")
            begins += [run.start()] * (len(words) + 1)
            ends += [run.end()] * (len(words) + 1)
    return Decoded("".join(texts), begins, ends) if texts else None


def _words(run: str) -> str | None:
    plain = run.rstrip("=").translate(_URL_SAFE)
    plain = plain[: len(plain) - (len(plain) % 4 == 1)]
    try:
        words = base64.b64decode(f"{plain}==").decode()  # more than is needed does no harm
    except (binascii.Error, UnicodeDecodeError):
        return None
    readable = sum(character.isprintable() or character.isspace() for character in words)
    return words if readable >= _READABLE * len(words) else None


# Disguises of words: characters that nobody sees, and signs that stand for letters, as in `1d10t` or `$h1t`.
#
# A sign stands for one letter, so that spans keep their places.

# Unicode's Default_Ignorable_Code_Point: soft hyphen, zero-width spaces and joiners, marks of direction, tags, …
_IGNORABLE: Final = (
    "\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f"
    "\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufff8\\U0001bca0-\\U0001bca3\\U0001d173-\\U0001d17a"
    "\\U000e0000-\\U000e0fff"
)
_HIDDEN: Final = re.compile(rf"(?<=\S)[{_IGNORABLE}]+(?=\S)")
_SEEN: Final = re.compile(rf"[^{_IGNORABLE}]+")

_DISGUISING_SIGNS: Final = "0134578@$!|"
_LETTERS: Final = str.maketrans(_DISGUISING_SIGNS, "oieastbasii")
# A sign between letters, or one that a word begins or ends with. Ordinals (`3rd`) and what is counted (`10km`) are
# none, and no more is the @ of an address.
_WITHIN: Final = (
    rf"(?<=[A-Za-z].)(?<!@)[{_DISGUISING_SIGNS}]*[A-Za-z]|(?<=[A-Za-z]@)(?![A-Za-z0-9-]*\.[A-Za-z0-9])[A-Za-z]"
)
_FIRST: Final = r"(?<![\w@$].)(?<=[0134578@$])(?!st\b|nd\b|rd\b|th\b)[A-Za-z]{2}"
_LAST: Final = r"(?<=[A-Za-z][$@])[$@]*(?!\w)"
_SIGN: Final = re.compile(rf"[{_DISGUISING_SIGNS}](?:{_WITHIN}|{_FIRST}|{_LAST})")
_DISGUISED_WORD: Final = re.compile(rf"[A-Za-z0-9{_DISGUISING_SIGNS}]+")
has_signs: Final = _SIGN.search  # whether any sign may stand for a letter
_LONGEST: Final = 32  # characters; a longer one is a key, a path or an address


def without_invisible(text: str) -> tuple[str, Sequence[int]] | None:
    """Return the visible text, and for each of its characters the place in `text`; None where nothing is hidden."""
    if text.isascii() or not _HIDDEN.search(text):
        return None
    seen = list(_SEEN.finditer(text))
    return "".join(part[0] for part in seen), [index for part in seen for index in range(*part.span())]


def without_signs(text: str) -> str | None:
    """Return the text with letters in place of signs that stand for them, or None. A 1 is read as an i."""
    if not _SIGN.search(text):
        return None
    read = _DISGUISED_WORD.sub(lambda word: _read(word[0]), text)
    return read if read != text else None


def _read(word: str) -> str:
    if len(word) > _LONGEST or not _SIGN.search(word):
        return word
    core = word.rstrip("!|")  # a sentence that ends
    return core.translate(_LETTERS) + word[len(core) :]


# Letters of other scripts that look like Latin ones, and Latin letters in fancy dress: 𝐢𝐝𝐢𝐨𝐭, ｉｄｉｏｔ, іdiоt.
#
# A small table of what is used to deceive, not Unicode's whole list of confusables: each is one character for one, so
# that spans stay where they are.

# Cyrillic, Greek, Armenian, Cherokee and a few more, each above the Latin letter that it looks like.
_LOOKALIKES: Final = (
    ("аеорсухіјѕԁһӏԛԝвкмнтгпАВЕКМНОРСТУХІЈЅԌӀԚԜ", "aeopcyxijsdhlqwbkmhtrnABEKMHOPCTYXIJSGIQW"),
    ("αβεηικνοπρτυχωϲϳΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "abenikvonptuxwcjABEZHIKMNOPTYX"),
    ("աոսցօհյԼՕՍ", "wnugohjLOU"),
    ("ᎪᏴᏟᎠᎬᎻᎫᏦᏞᎷᏢᎡᏚᎢᏙᎳᏃ", "ABCDEHJKLMPRSTVWZ"),
    ("ɑɡıɩʟɴʀʏᴀʙᴄᴅᴇɢʜᴊᴋᴍᴏᴘᴛᴜᴠᴡᴢ", "agiilnryabcdeghjkmoptuvwz"),
)
_OTHER: Final = dict(pair for others, latin in _LOOKALIKES for pair in zip(others, latin, strict=True))
# The letters of the table, and letters that Unicode equates with a Latin one: circled, fullwidth, mathematical.
_SCRIPTS: Final = re.compile(
    "[\u0131\u0251-\u02af\u0370-\u058f\u13a0-\u13ff\u1d00-\u1d2b\u2100-\u214f\u24b6-\u24e9\uff21-\uff5a\U0001d400-\U0001d7ff]"
)
_WORD: Final = re.compile(r"\w+")
_MOSTLY: Final = 0.5  # of a text's letters: from there on a word of lookalikes alone is taken for a Latin one


class _Latin(dict[int, int]):
    """A table for `str.translate`: the Latin letter that each character looks like, if any."""

    def __missing__(self, code: int) -> int:
        folded = _in_latin(chr(code))
        self[code] = folded
        return folded


def _in_latin(character: str) -> int:
    if character in _OTHER:
        return ord(_OTHER[character])
    same = unicodedata.normalize("NFKC", character)
    return ord(same) if len(same) == 1 and same.isascii() else ord(character)


_LATIN: Final = _Latin()


def without_lookalikes(text: str) -> str | None:
    """Return the text with Latin letters in place of characters that only look Latin; None where it has none. A word
    without Latin letters is folded only if every letter looks Latin, in a mostly Latin text.
    """
    if text.isascii() or not _SCRIPTS.search(text):
        return None
    latin = sum(character.isascii() for character in text if character.isalpha())
    mostly = latin >= _MOSTLY * sum(map(str.isalpha, text))
    folded = _WORD.sub(lambda word: _fold(word[0], mostly), text)
    return folded if folded != text else None


def _fold(word: str, mostly_latin: bool) -> str:
    if word.isascii():
        return word
    folded = word.translate(_LATIN)
    if not folded.isascii():
        # Partly: only where Latin letters of its own give it away.
        return folded if any(letter.isascii() and letter.isalpha() for letter in word) else word
    mixed = any(letter.isascii() and letter.isalpha() for letter in word)
    dressed = all(letter not in _OTHER for letter in word)
    return folded if mixed or dressed or mostly_latin else word


# Digits, signs and spaces as a keyboard has them: ４１１１, ann＠example．com, 555‑0142 with a hyphen of print.
#
# Writers, input methods and models put others in their places, and no pattern knows them all. Each is one character for
# one, so that spans stay where they are.

_PAST: Final = 0x1FC00  # after Unicode's last digit
_DASHES: Final = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2212\ufe63"), "-")  # a — parts sentences, and stays
_SIGNS: Final = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F) if not chr(code - 0xFEE0).isalpha()}


def _digits_and_spaces() -> dict[int, str]:
    found = dict[int, str]()
    for code in range(128, _PAST):
        match unicodedata.category(character := chr(code)):
            case "Nd":
                found[code] = str(unicodedata.decimal(character))
            case "Zs":
                found[code] = " "
    return found


@cache
def _typed() -> tuple[dict[int, str], re.Pattern[str]]:
    """Return the replacements and the pattern that finds them. They are built for the first text beyond ASCII."""
    table = {**_digits_and_spaces(), **_DASHES, **_SIGNS}
    return table, re.compile(f"[{''.join(map(re.escape, map(chr, table)))}]")


def as_typed(text: str) -> str | None:
    """Return the text with a keyboard's digits, signs and spaces in place of other forms; None where it has none."""
    if text.isascii():
        return None
    table, others = _typed()
    return text.translate(table) if others.search(text) else None


@dataclass(frozen=True, slots=True)
class Look:
    """Text number `of`, as it is or with the places of its characters. `for_words`: digits and signs are changed."""

    of: int
    text: str
    begins: Sequence[int] | None = None
    ends: Sequence[int] | None = None
    for_words: bool = False

    def in_whole(self, detection: Detection) -> Detection:
        """Return the detection with its span in the whole text."""
        if self.begins is None:
            return detection
        start = self.begins[detection.start]
        end = self.begins[detection.end - 1] + 1 if self.ends is None else self.ends[detection.end - 1]
        return replace(detection, start=start, end=end)


def looks_at(texts: Sequence[str]) -> list[Look]:
    """Return all readings of these texts: first each text as it is, since that may be what is meant."""
    looks = [Look(i, text) for i, text in enumerate(texts)]
    for i, text in enumerate(texts):
        # Most texts hide nothing, and each is looked at: so the three questions are put here at once.
        if not text.isascii() or has_signs(text) or may_hold_runs(text):
            looks += _changed(i, text)
    return looks


def _changed(of: int, text: str) -> Iterator[Look]:
    places: Sequence[int] | None = None
    if (seen := without_invisible(text)) is not None:
        text, places = seen
        yield Look(of, text, places)
    text = yield from _folded(of, text, places)
    if (plain := decoded(text)) is not None:
        begins, ends = plain.begins, plain.ends
        if places is not None:
            begins, ends = [places[at] for at in begins], [places[at - 1] + 1 for at in ends]
        yield Look(of, plain.text, begins, ends)
        yield from _folded(of, plain.text, begins, ends)


def _folded(
    of: int, text: str, begins: Sequence[int] | None, ends: Sequence[int] | None = None
) -> Generator[Look, None, str]:
    """Yield one look at the text with characters replaced one for one, except those for words; return that text."""
    seen = as_typed(text) or text
    seen = without_lookalikes(seen) or seen
    if seen != text:
        text = seen
        yield Look(of, text, begins, ends)
    if (words := without_signs(text)) is not None:
        yield Look(of, words, begins, ends, for_words=True)
    return text

"""Letters of other scripts that look like Latin ones, and Latin letters in fancy dress: 𝐢𝐝𝐢𝐨𝐭, ｉｄｉｏｔ, іdiоt.

A small table of what is used to deceive, not Unicode's whole list of confusables: each is one character for one, so
that spans stay where they are.
"""

import re
import unicodedata
from typing import Final

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
    """A table for `str.translate`: the Latin letter that each character looks like.

    Characters that look like none stay.
    """

    def __missing__(self, code: int) -> int:
        folded = _folded(chr(code))
        self[code] = folded
        return folded


def _folded(character: str) -> int:
    if character in _OTHER:
        return ord(_OTHER[character])
    same = unicodedata.normalize("NFKC", character)
    return ord(same) if len(same) == 1 and same.isascii() else ord(character)


_LATIN: Final = _Latin()


def without_lookalikes(text: str) -> str | None:
    """Return the text with Latin letters in place of characters that only look Latin; None where it has none.

    A word is folded that mixes them with Latin letters, or is made of nothing else. One that is all Cyrillic, say, is
    folded only if every letter of it looks Latin, and most of the text is Latin: a Russian text stays Russian.
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

"""The normalised form of a question: two questions with one form ask for the same, whatever the subject.

A text with code, formulas, brackets, quotation marks or several lines stays as it is, letter by letter. In other texts
only four things change: characters with two encodings, runs of spaces, the case of words that mean the same in both
cases, and greetings, fillers and thanks around a sentence that stands without them.
"""

import re
import unicodedata
from typing import Final

from headrace_workers.features.cache.guards.courtesies import (
    HELPING,
    QUESTIONS,
    first_word,
    quiet,
    without_courtesies,
    without_smileys,
)
from headrace_workers.features.cache.guards.slips import corrected
from headrace_workers.features.cache.guards.word_lists import lines_of, words_of

# Signs that may belong to code, a formula, a quotation or an option. Text in other scripts than Latin has none of the
# words below, so only its encoding and its spaces change.
_SIGNS: Final = re.compile(
    r"[\n\r\t\v\f\x1c-\x1e\x85\u2028\u2029`\"“”„«»‹›‘()\[\]{}<>=*+|\\^~;]|(?<!\w)['’]|(?:^| )-(?! )"
)
_FORMS: Final = frozenset({"<wide>", "<narrow>", "<noBreak>"})  # no sub- or superscript: `x²` is not `x2`
_LIGATURES: Final = frozenset("ﬀﬁﬂﬃﬄﬅﬆ")
_INVISIBLE: Final = re.compile("[\u00ad\u200b\u2060\ufeff]")
_WORD: Final = re.compile(r"([^\W\d_]+(?:['’-][^\W\d_]+)*)([,:.?!]?)")
_END: Final = re.compile(r"(?<=[^\W\d_]{2})([.!?]|!+|\?+)$")

_CONTRACTED: Final = {
    "can't": "can not", "cannot": "can not", "won't": "will not", "shan't": "shall not", "let's": "let us",
    **{f"{word}'s": f"{word} is" for word in ("what", "who", "where", "when", "how", "that", "there", "it")},
}  # fmt: skip
_ENDINGS: Final = {"m": "am", "re": "are", "ve": "have", "ll": "will"}
_CONTRACTION: Final = re.compile(
    r"(?<![\w'])(?:can't|cannot|won't|shan't|let's|(?:what|who|where|when|how|that|there|it)'s|i'm"
    r"|(?:is|are|was|were|do|does|did|has|have|had|could|would|should|must)n't"
    r"|(?:i|you|we|they|who|what)'(?:re|ve|ll))(?![\w'])",
    re.I,
)
# Beside one of these, `I` is the asker and no numeral or symbol.
_BEFORE_I: Final = HELPING | words_of(
    "if when because before after while as what how where why which that since until not"
)
_AFTER_I: Final = HELPING | words_of("am need want get got use like think know live work lost forgot")

# Words with another meaning in the other case, such as `Polish` and `March`.
_CASED: Final = frozenset(word for line in lines_of("capitals") for word in line.split())
_SHORT: Final = 4  # letters: `US`, `us` and `It`, `IT` keep their case


def normalised(text: str) -> str:
    """Return the normalised form of a question, in time linear in its length."""
    composed = unicodedata.normalize("NFC", text)
    if composed.isascii():
        plain = composed
    else:
        plain = unicodedata.normalize("NFC", "".join(map(_plain, _INVISIBLE.sub("", composed))))
    plain = without_smileys(plain.strip())
    if _SIGNS.search(plain):
        return composed
    spaced = quiet(" ".join(plain.replace("’", "'").split()))
    words = without_courtesies(_in_full(spaced)).split(" ")
    return _without_end(" ".join(map(_folded, ["", *words], words, [*words[1:], ""])))


def _plain(sign: str) -> str:
    if unicodedata.category(sign) == "Zs":
        return " "
    tag = unicodedata.decomposition(sign).partition(" ")[0]
    return unicodedata.normalize("NFKC", sign) if tag in _FORMS or sign in _LIGATURES else sign


def _in_full(text: str) -> str:
    """Return the text with contractions in full: `I'm` as `I am`, `can't` and `cannot` as `can not`."""
    return _CONTRACTION.sub(_full, text) if "'" in text or "annot" in text else text


def _full(found: re.Match[str]) -> str:
    word, ending = found[0], found[0].lower()
    if ending in _CONTRACTED:
        full = _CONTRACTED[ending]
        return full.capitalize() if word[0].isupper() else full
    stem, _, tail = word.partition("'")
    return f"{stem[:-1]} not" if tail.lower() == "t" else f"{stem} {_ENDINGS[tail.lower()]}"


def _folded(before: str, chunk: str, after: str) -> str:
    """Return a word in lower case, where its case and its neighbours say nothing by it; all other text as it is."""
    if chunk == "I" and (before.lower() in _BEFORE_I or after.lower() in _AFTER_I):
        return "i"
    found = _WORD.fullmatch(chunk)
    if found is None or not _is_plain(found[1]) or found[1].lower() in _CASED:
        return chunk
    return (corrected(found[1]) if found[1].islower() else found[1].lower()) + found[2]


def _is_plain(word: str) -> bool:
    if not word[1:].islower():
        return False  # acronyms, camelCase, single letters
    return len(word) >= _SHORT or word.lower() in QUESTIONS | _LITTLE


# Short words that are no acronym, unit or symbol when only the first letter is a capital.
_LITTLE: Final = words_of("the and can you how did does was are has had my")


def _without_end(text: str) -> str:
    """Return the text without the full stop or the exclamation mark at its end; without a question mark only where
    the first word says that it is a question: `It is safe?` does not say `It is safe`.
    """
    found = _END.search(text)
    if found is None or text[: found.start()].endswith((".", "?", "!")):
        return text
    asks = first_word(text) in QUESTIONS | HELPING
    if "?" in found[1] and not asks:
        return text
    return text[: found.start()]

"""The normalised form of a question: two questions with one form ask for the same, whatever the subject.

A text with code, formulas, brackets, quotation marks or several lines stays as it is, letter by letter. In other texts
only four things change: characters with two encodings, runs of spaces, the case of words that mean the same in both
cases, and greetings, fillers and thanks around a sentence that stands without them.
"""

import re
import unicodedata
from typing import Final

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

_QUESTIONS: Final = words_of("what which who whom whose when where why how")
_HELPING: Final = words_of("is are was were do does did can could will would should shall may might must has have had")
_OPENINGS: Final = (
    _QUESTIONS | _HELPING | words_of("i we explain describe list tell give show write summarise summarize find")
)
_HI: Final = r"(?:hi|hello|hey|hiya|good (?:morning|afternoon|evening))"
# After one that is addressed anything may follow, after a bare one a request, or a sentence of three words.
_ADDRESSED: Final = re.compile(
    _HI + r" (?:team|all|everyone|everybody|folks|guys|support)[,.!:]?(?: -)? (?P<rest>.+)", re.I
)
_GREETING: Final = re.compile(_HI + r"(?: there)?(?P<ends>[,.!:]?)(?: -)? (?P<rest>.+)", re.I)
_FILLER: Final = re.compile(
    r"(?:(?:um+|uh+|uhm+|erm+|hmm+|so|well|ok|okay|alright|right|sorry|just wondering|quick question),? "
    r"|(?:please|pls|plz|kindly),? |(?:just wondering|quick question|question):? )(?P<rest>.+)",
    re.I,
)
_INSIDE: Final = re.compile(r", (?:umm+|uhh*|uhm+|erm+|hmm+),? ", re.I)
_ASKED: Final = re.compile(
    r"^((?:can|could|would|will) (?:you|i|we|someone|anyone)) (?:please|pls|plz|kindly)(?= )", re.I
)
_THANKS: Final = re.compile(
    r"(?<=[.?!])(?: (?:many )?(?:thanks|thx|cheers|ty)(?: in advance| a lot| so much)?"
    r"| thank you(?: (?:very|so) much| in advance)?)[.!]*$",
    re.I,
)
_PLEASE: Final = re.compile(r", (?:please|pls|plz|thanks|thx|thank you|asap please)(?=[.?!]*$)", re.I)

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
    if _SIGNS.search(plain.strip()):
        return composed
    spaced = " ".join(plain.replace("’", "'").split())
    return _without_end(" ".join(map(_folded, _without_fillers(spaced).split(" "))))


def _plain(sign: str) -> str:
    if unicodedata.category(sign) == "Zs":
        return " "
    tag = unicodedata.decomposition(sign).partition(" ")[0]
    return unicodedata.normalize("NFKC", sign) if tag in _FORMS or sign in _LIGATURES else sign


def _without_fillers(text: str) -> str:
    """Return the text without greetings, fillers and thanks, where a whole sentence is left."""
    rest, opens = text, True
    while True:
        if found := _ADDRESSED.fullmatch(rest):
            opens = True
        elif found := _GREETING.fullmatch(rest):
            opens = bool(found["ends"]) and found["rest"].count(" ") > 1 and found["rest"][0].islower()
        elif found := _FILLER.fullmatch(rest):
            opens = rest.lower().startswith(("please", "pls", "plz", "kindly")) and _goes_on(found["rest"])
        else:
            break
        rest = found["rest"]
    if opens or _opens(rest):
        text = rest
    text = _ASKED.sub(r"\1", _INSIDE.sub(" ", text))
    return _PLEASE.sub("", _THANKS.sub("", text)) if text.count(" ") > 1 else text


def _goes_on(text: str) -> bool:
    """Return True if a text is an order in small letters: `please cancel it`, and not `Please Please Me`."""
    return " " in text and text[0].islower() and not text.lower().startswith(("please", "hi ", "hello"))


def _opens(text: str) -> bool:
    """Return True if the text begins as a question or request begins, and is longer than two words."""
    return text.count(" ") > 1 and _first(text) in _OPENINGS


def _first(text: str) -> str:
    """Return the first word in lower case, without an ending such as `'s` and a comma."""
    word = text.lower().partition(" ")[0]
    return word.rstrip(",").partition("'")[0]


def _folded(chunk: str) -> str:
    """Return a word in lower case, where its case says nothing; all other text as it is."""
    found = _WORD.fullmatch(chunk)
    if found is None or not _is_plain(found[1]) or found[1].lower() in _CASED:
        return chunk
    return chunk.lower()


def _is_plain(word: str) -> bool:
    if not word[1:].islower():
        return False  # acronyms, camelCase, single letters
    return len(word) >= _SHORT or word.lower() in _QUESTIONS | _LITTLE


# Short words that are no acronym, unit or symbol when only the first letter is a capital.
_LITTLE: Final = words_of("the and can you how did does was are has had my")


def _without_end(text: str) -> str:
    """Return the text without the full stop or the exclamation mark at its end; without a question mark only where
    the first word says that it is a question: `It is safe?` does not say `It is safe`.
    """
    found = _END.search(text)
    if found is None or text[: found.start()].endswith((".", "?", "!")):
        return text
    asks = _first(text) in _QUESTIONS | _HELPING
    if "?" in found[1] and not asks:
        return text
    return text[: found.start()]

"""The normalised form of a question: two questions with one form ask for the same, whatever the subject.

A text with code, formulas, brackets, quotation marks or several lines stays as it is, letter by letter. In other texts
only four things change: characters with two encodings, runs of spaces, the case of words that mean the same in both
cases, and greetings, fillers and thanks around a sentence that stands without them.
"""

import re
import unicodedata
from typing import Final

from headrace_workers.text.tokens import corrected
from headrace_workers.text.words import NEGATED, lines_of, words_of

QUESTIONS: Final = words_of("what which who whom whose when where why how")
HELPING: Final = words_of(
    "is are was were do does did can could will would shall should may might must has have had am"
)
_OPENINGS: Final = (
    QUESTIONS | HELPING | words_of("i we explain describe list tell give show write summarise summarize find")
)
_BEFORE: Final = words_of("at in on for from to with by of since until about")  # `at what temperature`, `for how long`

_HI: Final = r"(?:hi|hello|hey|hiya|good (?:morning|afternoon|evening))"
_DESK: Final = r"(?:(?:customer |tech(?:nical)? )?(?:support|service|care)(?: team| desk)?|help ?desk|sales team)"
# After a greeting to somebody anything may follow, after a bare one a request, or a sentence of three words.
_ADDRESSED: Final = re.compile(
    rf"(?:{_HI} (?:team|all|everyone|everybody|folks|guys|support(?! team| desk))[,.!:]?"
    rf"|(?:{_HI}|dear) (?:{_DESK}|team|all|sir|madam|sir or madam|bot|chatbot|assistant|friend|friends)[,.!:])"
    r"(?: -)? (?P<rest>.+)",
    re.I,
)
_GREETING: Final = re.compile(rf"(?:{_HI}(?: there)?|greetings)(?P<ends>[,.!:]?)(?: -)? (?P<rest>.+)", re.I)
_FILLER: Final = re.compile(
    r"(?:(?:um+|uh+|uhm+|erm+|hmm+|so|well|ok|okay|alright|right|sorry|just wondering|quick question),? "
    r"|(?:please|pls|plz|kindly),? |(?:just wondering|quick question|question):? )(?P<rest>.+)",
    re.I,
)
_HELP: Final = (
    r"(?:please )?help(?: me)?|(?:i|we) need (?:some |your )?help"
    r"|(?:can|could) (?:you|someone) (?:please )?help(?: me)?"
)
_ASIDE: Final = re.compile(
    rf"(?:sorry (?:to bother|for bothering)(?: you)?(?:,? but)?|excuse me|pardon me|{_HELP}|urgent|also|by the way|btw"
    r"|(?:i )?hope (?:you(?:'re| are)(?: all)?(?: doing)?|all is) well"
    r"|just (?:checking|curious|asking|to check)|(?:a |one )?quick (?:one|question)"
    r"|(?:one|another) (?:more |last )?(?:thing|question)|(?:i|we) have (?:a|one|another) (?:quick )?question)"
    r"(?:[,:!?.]| -|(?<=but))+ (?P<rest>.+)",
    re.I,
)
_INSIDE: Final = re.compile(r", (?:umm+|uhh*|uhm+|erm+|hmm+),? ", re.I)
_ASKED: Final = re.compile(
    r"^((?:can|could|would|will) (?:you|i|we|someone|anyone)) (?:please|pls|plz|kindly)(?= )", re.I
)
_THANKS: Final = (
    r"(?:please and )?(?:many )?(?:thanks|thx|cheers|ty|tia|thank you)"
    r"(?: (?:in advance|a lot|(?:so|very) much|again))?"
    r"|(?:kind |best |warm )?regards|best wishes|yours (?:sincerely|faithfully)"
)
_APPRECIATED: Final = (
    r"(?:any|all|your) (?:help|advice) (?:(?:is|would be|will be) )?(?:(?:much|greatly|really) )?appreciated"
    r"|(?:i(?:'d| would) )?(?:really )?appreciate (?:it|(?:any|your|the) (?:help|advice))|(?:much )?appreciated"
)
# Behind the end of a sentence; thanks may have a signature.
_CLOSING: Final = re.compile(
    rf"(?<=[.?!]) (?:(?:{_THANKS})(?:,? (?-i:[A-Z][a-z]+))?|best, (?-i:[A-Z][a-z]+)|{_APPRECIATED}"
    r"|(?:please )?(?:help|advise)(?: me)?|help(?: me)? please|(?:please )?let me know|please"
    r"|just (?:curious|wondering|asking|checking)|that(?:'s| is) (?:all|it)(?:,? thanks)?|asap(?: please)?)[.!]*$",
    re.I,
)
_TRAILING: Final = re.compile(
    r"(?:, (?:please|pls|plz|thanks|thx|thank you|asap(?: please)?)|,? (?:if you don't mind|if you do not mind"
    r"|if that(?:'s| is) (?:ok|okay|all right|alright)|when you (?:get a chance|have a (?:moment|minute|second))))"
    r"(?=[.?!]*$)",
    re.I,
)
_SMILEYS: Final = re.compile("(?<=[.?!])(?: ?(?:[:;]-?[)(D]|[\U0001f300-\U0001faff\u2600-\u27bf\ufe0f]))+$")
_LOUD: Final = 3  # words
_LONGEST: Final = 1_000  # characters: each courtesy that is found costs another look at the whole text


def without_courtesies(text: str) -> str:
    """Return a text of one line without greetings, fillers, thanks and signatures, where a whole sentence is left.

    Spaces are single and apostrophes straight. A text of more than 1,000 characters stays as it is.
    """
    if len(text) > _LONGEST:
        return text
    rest, opens = text, True
    while True:
        if match := _ADDRESSED.fullmatch(rest):
            opens = True
        elif match := _GREETING.fullmatch(rest):
            opens = bool(match["ends"]) and match["rest"].count(" ") > 1 and match["rest"][0].islower()
        elif match := _ASIDE.fullmatch(rest):
            opens = False
        elif match := _FILLER.fullmatch(rest):
            opens = rest.lower().startswith(("please", "pls", "plz", "kindly")) and _goes_on(match["rest"])
        else:
            break
        rest = match["rest"]
    if opens or _opens(rest):
        text = rest
    text = _ASKED.sub(r"\1", _INSIDE.sub(" ", text))
    while text.count(" ") > 1 and (shorter := _TRAILING.sub("", _CLOSING.sub("", text))) != text:
        text = shorter
    return text


def without_smileys(text: str) -> str:
    """Return a text without smileys and emoji after its last sentence."""
    return _SMILEYS.sub("", text)


def quiet(text: str) -> str:
    """Return a text of three words or more in small letters, if it is all in capitals."""
    return text.lower() if text.isupper() and text.count(" ") >= _LOUD - 1 else text


def first_word(text: str) -> str:
    """Return the first word in lower case, without an ending such as `'s` and a comma."""
    word = text.lower().partition(" ")[0]
    return word.rstrip(",").partition("'")[0]


def _goes_on(text: str) -> bool:
    """Return True if a text is an order in small letters: `please cancel it`, and not `Please Please Me`."""
    return " " in text and text[0].islower() and not text.lower().startswith(("please", "hi ", "hello"))


def _opens(text: str) -> bool:
    """Return True if the text begins as a question or request begins, and is longer than two words."""
    if text.count(" ") < 2:
        return False
    first, second = text.lower().split(" ")[:2]
    return first_word(text) in _OPENINGS or (first in _BEFORE and second in QUESTIONS)


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
    "let's": "let us", **{word: f"{verb} not" for word, verb in NEGATED.items()},
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


def _full(contraction: re.Match[str]) -> str:
    word, ending = contraction[0], contraction[0].lower()
    if ending in _CONTRACTED:
        full = _CONTRACTED[ending]
        return full.capitalize() if word[0].isupper() else full
    stem, _, tail = word.partition("'")
    return f"{stem[:-1]} not" if tail.lower() == "t" else f"{stem} {_ENDINGS[tail.lower()]}"


def _folded(before: str, chunk: str, after: str) -> str:
    """Return a word in lower case, where its case and its neighbours say nothing by it; all other text as it is."""
    if chunk == "I" and (before.lower() in _BEFORE_I or after.lower() in _AFTER_I):
        return "i"
    word = _WORD.fullmatch(chunk)
    if word is None or not _is_plain(word[1]) or word[1].lower() in _CASED:
        return chunk
    return (corrected(word[1]) if word[1].islower() else word[1].lower()) + word[2]


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
    end = _END.search(text)
    if end is None or text[: end.start()].endswith((".", "?", "!")):
        return text
    asks = first_word(text) in QUESTIONS | HELPING
    if "?" in end[1] and not asks:
        return text
    return text[: end.start()]

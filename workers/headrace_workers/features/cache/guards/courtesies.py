"""Greetings, fillers, thanks and signatures around a question: a whole sentence is left without them."""

import re
from typing import Final

from headrace_workers.features.cache.guards.word_lists import words_of

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
        if found := _ADDRESSED.fullmatch(rest):
            opens = True
        elif found := _GREETING.fullmatch(rest):
            opens = bool(found["ends"]) and found["rest"].count(" ") > 1 and found["rest"][0].islower()
        elif found := _ASIDE.fullmatch(rest):
            opens = False
        elif found := _FILLER.fullmatch(rest):
            opens = rest.lower().startswith(("please", "pls", "plz", "kindly")) and _goes_on(found["rest"])
        else:
            break
        rest = found["rest"]
    if opens or _opens(rest):
        text = rest
    text = _ASKED.sub(r"\1", _INSIDE.sub(" ", text))
    while text.count(" ") > 1 and (shorter := _TRAILING.sub("", _CLOSING.sub("", text))) != text:
        text = shorter
    return text


def without_smileys(text: str) -> str:
    """Return a text without smileys and emoji behind its last sentence."""
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

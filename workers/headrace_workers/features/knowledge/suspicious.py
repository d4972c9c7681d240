"""Passages that look as if they would give a model orders: flagged, with the reason. Pure, and linear in the text.

A flag is a hint for people and receipts. It cannot protect, since an author who knows the patterns can write around
them. The protection is that a passage is marked as data and stands in the user's turn (`prompt.py`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Why a passage is suspicious."""

    OVERRIDES = "overrides"  # asks to ignore or forget instructions
    NEW_ROLE = "new_role"  # tells the reader what it is from now on
    ADDRESSES_MODEL = "addresses_model"  # speaks to an AI and not to people
    ASKS_FOR_PROMPT = "asks_for_prompt"  # asks for the system prompt
    HIDES_FROM_USER = "hides_from_user"  # asks to keep something from the user
    ROLE_MARK = "role_mark"  # a line in the name of the system or the assistant
    CHAT_TOKEN = "chat_token"  # noqa: S105 - a mark of a chat template
    INVISIBLE = "invisible"  # characters that nobody sees and that carry a text
    HIDDEN_COMMENT = "hidden_comment"  # a comment of HTML that speaks to an AI


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A suspicious text at text[start:end]."""

    reason: Reason
    start: int
    end: int


# White space in a pattern means nothing. ~ is what may stand between two words, also across a line's end or emphasis,
# and @ a word. No character is in both, so that there is one way only to read a text, and all is linear.
_PARTS: Final = {
    "~": r"[\s,*_\"']{1,4}",
    "@": r"(?:[^\W_]|-){1,20}",
    "ORDERS": r"(?:instructions?|prompts?|directions|directives?|guidelines|guidance|rules|commands|orders|training)",
    "BEFORE": r"(?:previous|prior|above|earlier|preceding|foregoing|existing|initial|original|system|your|all)",
    "MODEL": r"(?:AIs?|LLMs?|GPT|(?:AI|LLM|language|chat)[ ]?(?:models?|bots?|assistants?|agents?)|chatbots?)",
    "DROP": r"(?:ignore|disregard|forget|override|bypass|(?:do[ ]not|don['’]t|stop)[ ](?:follow|obey|heed)(?:ing)?)",
    "TELL": r"(?:reveal|print|repeat|show|output|leak|disclose|display|tell~me|give~me)",
    "MUST": r"(?:must|should|always|never|ignore|say|answer|respond|reply|tell|recommend|please)",
}

_WRITTEN: Final[tuple[tuple[Reason, str], ...]] = (
    (Reason.OVERRIDES, r"\b DROP ~ (?: @~ ){0,5} BEFORE ~ (?: @~ ){0,3} ORDERS \b"),
    (Reason.OVERRIDES, r"\b DROP ~ (?: @~ ){0,4} ORDERS ~ (?: above | before | given | you | from | so~far ) \b"),
    (Reason.OVERRIDES, r"\b DROP ~ (?: everything | all | anything ) ~ (?: that~ )? (?: above | before | you ) \b"),
    # German; French; Spanish, Portuguese and Italian; Russian; Chinese and Japanese.
    (
        Reason.OVERRIDES,
        r"\b (?: ignorier | vergiss | vergess | missacht )[^\W_]{0,4} ~ (?: @~ ){0,4} (?: anweisung"
        r"| instruktion | vorgabe | regel | befehl )",
    ),
    (
        Reason.OVERRIDES,
        r"\b (?: ignor | oubli )[^\W_]{0,4} ~ (?: @~ ){0,3} (?: instruction | consigne | directive )s? ~"
        r"(?: @~ ){0,2} (?: préc | antér | ci-dessus | donn )",
    ),
    (
        Reason.OVERRIDES,
        r"\b (?: ignor | olvid | dimentic | esque[cç] )[^\W_]{0,4} ~ (?: @~ ){0,3} "
        r"(?: instru[cçz] | istruz )[^\W_]{0,8} ~ (?: @~ ){0,2} (?: anterior | previ | preced )",
    ),
    (Reason.OVERRIDES, r"\b (?: игнорируй | забудь )(?: те )? ~ (?: @~ ){0,4} (?: инструкц | указани | команд )"),
    (
        Reason.OVERRIDES,
        r"(?: 忽略 | 无视 | 忘记 | 無視 ) .{0,12} (?: 指令 | 指示 | 提示 | 命令 )"
        r"| (?: 指示 | 命令 ) .{0,4} (?: 無視 | 忘れ )",
    ),
    (
        Reason.NEW_ROLE,
        r"\b you~are~now~ (?: (?: an? | the )~ (?: @~ ){0,3} (?: AI | assistant | model | chatbot | bot"
        r"| persona | hacker ) | DAN | in~@~mode | free~ (?: from | of ) | unrestricted | jailbroken"
        r"| no~longer~bound ) \b",
    ),
    (Reason.NEW_ROLE, r"\b from~now~on~you~ (?: are | will | must | shall | should | act | answer | respond ) \b"),
    (
        Reason.NEW_ROLE,
        r"\b (?: act | behave | respond | answer )~ (?: as~if~you~ (?: are | were ) | as | like )~ (?: @~ ){0,3}"
        r"(?: unrestricted | unfiltered | uncensored | jailbroken | evil | DAN ) \b",
    ),
    (
        Reason.ADDRESSES_MODEL,
        r"\b (?: note | attention | message | instructions? | notice | important )~ (?: to | for )~"
        r"(?: (?: all | any | the | an? )~ )? MODEL [:,.\s]{0,3} (?: reading | processing | summari | you"
        r"| please | do | ignore | always | never | if | when )",
    ),
    (Reason.ADDRESSES_MODEL, r"\b if~you~are~ (?: an? | the )~ (?: @~ )? MODEL \b"),
    (
        Reason.ADDRESSES_MODEL,
        r"^ \W{0,8} (?: new | updated | revised | additional | real )~ (?: system~ )? instructions? (?: ~for~@"
        r"(?: ~@ )? )? \s{0,3} :",
    ),
    (
        Reason.ASKS_FOR_PROMPT,
        r"\b TELL ~ (?: @~ ){0,3} (?: system | initial | hidden | secret )~ (?: prompt | instructions? ) \b",
    ),
    (
        Reason.HIDES_FROM_USER,
        r"\b (?: do~not | don['’]t | never | without )~ (?: tell | inform | mention | reveal | alert | notify"
        r"| warn )(?: ing )? ~ (?: @~ ){0,4} (?: the | your )~user \b (?= .{0,40} \b (?: this | these | about"
        r"| instruction | passage | document | text ) )",
    ),
    (
        Reason.ROLE_MARK,
        r"^ [\s>*_\#\[(<]{0,8} (?: system | assistant | developer ) (?: ~ (?: prompt | message | override"
        r"| note | instructions? ) )? [\s\])>*_]{0,4} : [\s*_\"']{0,4} (?: you | ignore | disregard | forget"
        r"| from~now | always | never | do~not | don['’]t | override | new | reply | respond | answer"
        r"| the~user ) \b",
    ),
    (
        Reason.ROLE_MARK,
        r"^ \#{2,3} [ ]? (?: instruction | system | human | assistant | response )s? :? \s{1,4} (?: you"
        r"| ignore | disregard | forget | answer | respond | always | never ) \b",
    ),
    (
        Reason.CHAT_TOKEN,
        r"<[|｜] (?: im_ (?: start | end | sep ) | (?: begin | end )[_▁]?of[_▁]?\w{1,9} | endoftext | (?: start"
        r"| end )_header_id | eot_id | eom_id | system | user | assistant | end ) [|｜]> | (?<!\w)\[/?INST\]"
        r"| <</?SYS>> | < (?: start | end )_of_turn>",
    ),
    (
        Reason.HIDDEN_COMMENT,
        r"<!-- (?: (?!-->|<!--) [^\0] ){0,500}? \b (?: MODEL | assistants? | system[ ]prompt ) \b"
        r"(?: (?!-->|<!--) [^\0] ){0,60}? \b MUST \b",
    ),
)


def _compiled(pattern: str) -> re.Pattern[str]:
    for name in ("TELL", "MUST", "DROP", "MODEL", "BEFORE", "ORDERS", "~", "@"):
        pattern = pattern.replace(name, _PARTS[name])
    return re.compile(pattern, re.IGNORECASE | re.MULTILINE | re.VERBOSE)


PATTERNS: Final = tuple((reason, _compiled(pattern)) for reason, pattern in _WRITTEN)

# Tags spell ASCII invisibly; only flags of regions (🏴 and then tags) are written with them.
_TAGS: Final = re.compile("(?<![\U0001f3f4\U000e0000-\U000e007f])[\U000e0000-\U000e007f]+")
# One between letters of Persian or in an emoji joins them; four in a row say something in bits.
_ZERO_WIDTH: Final = re.compile("[\u200b-\u200d\u2060-\u2064\ufeff]{4,}")
_OVERRIDE: Final = re.compile("[\u202d\u202e]")  # what is seen is not what is read
_UNSEEN: Final = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\U000e0000-\U000e007f]+")
_SEEN: Final = re.compile("[^\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\U000e0000-\U000e007f]+")


def suspicions(text: str) -> list[Suspicion]:
    """Return what is suspicious in the text, in order of place; invisible characters in a word hide it from nothing."""
    found = [
        Suspicion(Reason.INVISIBLE, *match.span())
        for pattern in (_TAGS, _ZERO_WIDTH, _OVERRIDE)
        for match in pattern.finditer(text)
    ]
    found += _suspicions(text) if not _UNSEEN.search(text) else _said_behind(text)
    return sorted(set(found), key=lambda suspicion: (suspicion.start, suspicion.end, suspicion.reason))


def _suspicions(text: str) -> Iterator[Suspicion]:
    for reason, pattern in PATTERNS:
        for match in pattern.finditer(text):
            yield Suspicion(reason, *match.span())


def _said_behind(text: str) -> Iterator[Suspicion]:
    """Return the same, after removing the characters that nobody sees."""
    parts = list(_SEEN.finditer(text))
    places = [index for part in parts for index in range(*part.span())]
    for suspicion in _suspicions("".join(part[0] for part in parts)):
        yield Suspicion(suspicion.reason, places[suspicion.start], places[suspicion.end - 1] + 1)

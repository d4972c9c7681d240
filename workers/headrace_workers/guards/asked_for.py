"""What is asked for: who, when, where, why, how, how many, whether; and which property of the thing."""

from collections.abc import Sequence
from typing import Final

from headrace_workers.guards.paraphrases import alike
from headrace_workers.guards.profile import Profile, said, says_what
from headrace_workers.guards.small_words import AUXILIARIES
from headrace_workers.guards.tokens import Token

_KINDS: Final = {"who": "who", "whom": "who", "whose": "whose", "when": "when", "where": "where", "why": "why"}
_WHAT: Final = frozenset({"what", "which"})
_MEASURES: Final = {
    "many",
    "much",
    "long",
    "often",
    "far",
    "old",
    "big",
    "tall",
    "fast",
    "deep",
    "high",
    "soon",
    "large",
}

_OPEN: Final = frozenset({"what", "who", "how much"})


class AskedFor:
    """Refuses another question word, and another property of the same thing: its area is not its population."""

    name = "asked for"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Why not, in words; None where both may ask for the same."""
        ours, theirs = _kinds(asked), _kinds(cached)
        if not _agree(ours, theirs):
            return f"asks {_said(ours)}; the answer says {_said(theirs)}"
        for one, other in zip(_properties(asked), _properties(cached), strict=False):
            if one != other and one not in cached.content and other not in asked.content and not alike(one, other):
                return f"asks for the {said([one], asked)}; the answer gives the {said([other], cached)}"
        return None


def _said(kinds: set[str]) -> str:
    return " and ".join(sorted(kinds)) or "what"


def _agree(ours: set[str], theirs: set[str]) -> bool:
    if ours == theirs:
        return True
    # `Tell me the author` asks what `who is the author` asks: an order names no kind.
    # `How much does it weigh` is `what is its weight`; but `how many planets` is not `which planets`.
    return ours <= _OPEN and theirs <= _OPEN


def _kinds(read: Profile) -> set[str]:
    found: set[str] = set()
    tokens = read.tokens
    for at, token in enumerate(tokens):
        if token.kind != "word":
            continue
        if token.key in _KINDS:
            found.add(_KINDS[token.key])
        elif token.key == "how":
            measure = tokens[at + 1].key if at + 1 < len(tokens) else ""
            found.add(f"how {measure}" if measure in _MEASURES else "how")
        elif token.key in _WHAT:
            found.add("what")
        elif token.key == "whether" or (token.key in AUXILIARIES and _opens(tokens, at)):
            found.add("whether")
    return found


def _opens(tokens: Sequence[Token], at: int) -> bool:
    return tokens[at].starts or (at > 0 and tokens[at - 1].key in {"tell", "if"})


def _properties(read: Profile) -> list[str]:
    """The word before each `of`: that which is asked of something."""
    found = []
    for at, token in enumerate(read.tokens):
        if token.key == "of" and at and says_what(read.tokens[at - 1]):
            found.append(read.tokens[at - 1].key)
    return found

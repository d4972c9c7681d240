"""What is asked for: who, when, where, why, how, how many, whether; and which property of the thing."""

from collections.abc import Sequence
from typing import Final

from headrace_workers.guards.paraphrases import alike
from headrace_workers.guards.preamble import without_preamble
from headrace_workers.guards.profile import Profile, said, says_what
from headrace_workers.guards.small_words import AUXILIARIES, MEASURES, PREPOSITIONS
from headrace_workers.guards.stems import stem
from headrace_workers.guards.tokens import Token

_KINDS: Final = {"who": "who", "whom": "who", "whose": "whose", "when": "when", "where": "where", "why": "why"}
_WHAT: Final = frozenset({"what", "which"})
_VERBS: Final = AUXILIARIES | {"be"}
_RELATIVES: Final = frozenset({"which", "who", "whose", "whom"})
_LINKS: Final = frozenset({"and", "or", "tell"})
_TO_WHOM: Final = PREPOSITIONS - {"by"}
# What a question word asks for, by a noun that may stand for it: `in which year` is `when`, `the age of` is `how old`.
_NOUNS: Final = {
    kind: frozenset(stem(noun) for noun in nouns.split())
    for kind, nouns in {
        "when": "year date time day month hour age",
        "where": "place location spot office shop store folder directory country city town state region",
        "who": "person man woman people author inventor painter",
        "why": "reason cause",
        "how": "way method procedure command step instruction like difference differ distinguish",
        "how many": "number count many population",
        "how much": "amount quantity price cost many number",
        "how long": "time length duration second minute hour day week month year",
        "how old": "age",
        "how tall": "height",
        "how high": "height",
        "how deep": "depth",
        "how far": "distance",
        "how fast": "speed",
        "how often": "frequency",
        "how big": "size",
        "how large": "size",
        "how hot": "temperature cold warm",
    }.items()
}
_OPEN: Final = frozenset({"what", "who", "how much"})


class AskedFor:
    """Refuses another question word, and another property of the same thing: its area is not its population."""

    name = "asked for"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Why not, in words; None where both may ask for the same."""
        ours, theirs = map(_kinds, without_preamble(asked, cached))
        if not _agree(ours, theirs, asked, cached):
            return f"asks {_said(ours)}; the answer says {_said(theirs)}"
        for one, other in zip(_properties(asked), _properties(cached), strict=False):
            if one != other and one not in cached.content and other not in asked.content and not alike(one, other):
                return f"asks for the {said([one], asked)}; the answer gives the {said([other], cached)}"
        return None


def _said(kinds: set[str]) -> str:
    return " and ".join(sorted(kinds)) or "what"


def _agree(ours: set[str], theirs: set[str], asked: Profile, cached: Profile) -> bool:
    if (ours or theirs) == {"how"} and not (ours and theirs):
        return True  # `sort a list`, `how do I sort a list`
    ours, theirs = ours or {"what"}, theirs or {"what"}
    if ours == theirs:
        return True
    if len(ours) == len(theirs) == 1:
        (one,), (other,) = ours, theirs
        if _stands_for(one, other, asked) or _stands_for(other, one, cached):
            return True
    # `Tell me the author` asks what `who is the author` asks: an order names no kind.
    # `How much does it weigh` is `what is its weight`; but `how many planets` is not `which planets`.
    return ours <= _OPEN and theirs <= _OPEN and not _other_sort(ours, cached) and not _other_sort(theirs, asked)


def _stands_for(one: str, other: str, read: Profile) -> bool:
    """Whether `what` or `how many` with a noun of the question asks what the other question word asks."""
    return one in {"what", "how many"} and any(noun in read.keys for noun in _NOUNS.get(other, ()))


def _other_sort(kinds: set[str], other: Profile) -> bool:
    """`Who founded it` does not ask for the year."""
    return "who" in kinds and any(noun in other.keys for noun in _NOUNS["when"] | _NOUNS["where"])


def _kinds(tokens: Sequence[Token]) -> set[str]:
    """The question words, without those of clauses: in `what should I use when I travel`, `when` is none."""
    found: set[str] = set()
    for at, token in enumerate(tokens):
        if token.kind != "word" or not (kind := _kind(tokens, at)):
            continue
        if (
            not found
            or (found == {"whether"} and token.key not in _RELATIVES)
            or tokens[at - 1].key in _LINKS
            or token.starts
        ):
            found.add(kind)
    return found or ({"whether"} if _turned(tokens) else found)


def _turned(tokens: Sequence[Token]) -> bool:
    """Whether a phrase stands before a yes-or-no question: `in summer, is it open`, `in Spain, do people tip`."""
    return bool(tokens) and tokens[0].key in PREPOSITIONS and any(token.key in _VERBS for token in tokens)


def _kind(tokens: Sequence[Token], at: int) -> str:
    key = tokens[at].key
    if key == "how":
        measure = tokens[at + 1].key if at + 1 < len(tokens) else ""
        return f"how {measure}" if measure in MEASURES else "how"
    if key in _WHAT:
        return "what"
    if key == "whether" or (key == "if" and at and tokens[at - 1].key == "tell"):
        return "whether"
    if key in _VERBS and _opens(tokens, at):
        # `Is there a train` asks which train there is.
        return "what" if at + 1 < len(tokens) and tokens[at + 1].key == "there" else "whether"
    kind = _KINDS.get(key, "")
    if kind == "who" and at and tokens[at - 1].key in _TO_WHOM:
        return f"{tokens[at - 1].key} whom"  # `for whom was it written` is not `by whom`
    return kind


def _opens(tokens: Sequence[Token], at: int) -> bool:
    return tokens[at].starts or (at > 0 and tokens[at - 1].key in {"tell", "if"})


def _properties(read: Profile) -> list[str]:
    """The word before each `of`: that which is asked of something."""
    found = []
    for at, token in enumerate(read.tokens):
        if token.key == "of" and at and says_what(read.tokens[at - 1]):
            found.append(read.tokens[at - 1].key)
    return found

"""The thing asked for: who, when, where, why, how, how many, whether; and which property of a thing."""

from collections.abc import Sequence
from typing import Final

from headrace_workers.text.profile import Profile, in_words, is_content, preamble, read_once
from headrace_workers.text.tokens import Token
from headrace_workers.text.words import AUXILIARIES, MEASURES, PREPOSITIONS, alike, stem, words_of

_KINDS: Final = {"who": "who", "whom": "who", "whose": "whose", "when": "when", "where": "where", "why": "why"}
_WHAT: Final = frozenset({"what", "which"})
_VERBS: Final = AUXILIARIES | {"be"}
_ASKING: Final = _VERBS.union(_KINDS, _WHAT, {"how", "whether", "if"})
_RELATIVES: Final = frozenset({"which", "who", "whose", "whom"})
_LINKS: Final = frozenset({"and", "or", "tell"})
_TO_WHOM: Final = PREPOSITIONS - {"by"}
# The meaning of a question word, by a noun that may stand for it: `in which year` is `when`, `the age of` is `how old`.
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
_PROPERTIES: Final = frozenset(
    stem(noun)
    for noun in words_of(
        """age height length depth width weight size distance duration speed temperature point level rate price cost
        time date number amount capacity meaning definition"""
    )
)
_PRICES: Final = frozenset(stem(noun) for noun in ("cost", "price", "fee"))
_OPEN: Final = frozenset({"what", "who", "how much"})


class AskedFor:
    """Refuses another question word, and another property of the same thing: its area is not its population.

    `Where are stamps sold` asks where to buy them, and not where to sell them.
    """

    name = "asked for"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where both may ask for the same."""
        common = preamble(asked, cached)
        ours, theirs = _kinds(asked, common), _kinds(cached, common)
        if not _agree(ours, theirs, asked, cached):
            return f"asks {_types_text(ours)}; the answer says {_types_text(theirs)}"
        if _costs(asked, cached) or _costs(cached, asked):
            return "one question asks how much there is of something, the other what it costs"
        if {"sell"} <= asked.keys & cached.keys and _is_sold(asked) != _is_sold(cached):
            return "one question asks where something is sold, the other where to sell it"
        for one, other in zip(_properties(asked), _properties(cached), strict=False):
            if one != other and one not in cached.content and other not in asked.content and not alike(one, other):
                return f"asks for the {in_words([one], asked)}; the answer gives the {in_words([other], cached)}"
        return None


def _types_text(kinds: set[str]) -> str:
    return " and ".join(sorted(kinds)) or "what"


def _agree(ours: set[str], theirs: set[str], asked: Profile, cached: Profile) -> bool:
    if ours == theirs:
        return True
    if (ours or theirs) == {"how"} and not (ours and theirs):
        # `sort a list`, `how do I sort a list`; but not `the age of a cheese`, `how do I age a cheese`
        return not _names_property(cached if ours else asked, asked if ours else cached)
    ours, theirs = ours or {"what"}, theirs or {"what"}
    if ours == theirs:
        return True
    if len(ours) == len(theirs) == 1:
        (one,), (other,) = ours, theirs
        if _stands_for(one, other, asked, cached) or _stands_for(other, one, cached, asked):
            return True
    # `Tell me the author` asks what `who is the author` asks: an order names no kind.
    # `How much does it weigh` is `what is its weight`; but `how many planets` is not `which planets`.
    return ours <= _OPEN and theirs <= _OPEN and not _other_sort(ours, cached) and not _other_sort(theirs, asked)


def _stands_for(one: str, other: str, read: Profile, against: Profile) -> bool:
    """Return True if `what` or `how many` with a noun of the question asks what the other question word asks.

    A noun that the other question has, too, is what both are about: `post office opening time`, `where is the post
    office`.
    """
    nouns = _NOUNS.get(other, frozenset()) - against.keys
    return one in {"what", "how many"} and not nouns.isdisjoint(read.keys)


def _costs(read: Profile, other: Profile) -> bool:
    """Return True if one question asks what something costs, and the other how much there is: `how much rice is in a
    kilo`.

    The counted thing follows `how much`.
    """
    if read.keys.isdisjoint(_PRICES) or not other.keys.isdisjoint(_PRICES):
        return False
    return any(
        measure.key == "much" and is_content(counted) and before.key == "how"
        for before, measure, counted in zip(other.tokens, other.tokens[1:], other.tokens[2:], strict=False)
    )


def _is_sold(read: Profile) -> bool:
    """Return True if a question asks about something that is sold."""
    return any(token.text.lower() == "sold" for token in read.tokens) and "be" in read.keys


def _names_property(read: Profile, against: Profile) -> bool:
    """Return True if a question without a question word asks for a property that the other does not name: `the price of
    it`.

    A verb of the same stem is none: `age a cheese`.
    """
    for at, token in enumerate(read.tokens):
        if token.key in _PROPERTIES and (token.key not in against.keys or _owned(read.tokens, at)):
            return True
    return False


def _owned(tokens: Sequence[Token], at: int) -> bool:
    return at + 1 < len(tokens) and tokens[at + 1].key == "of"


def _other_sort(kinds: set[str], other: Profile) -> bool:
    """Return True if the other question names another sort of answer: `who founded it` does not ask for the year."""
    return "who" in kinds and any(noun in other.keys for noun in _NOUNS["when"] | _NOUNS["where"])


@read_once
def _kinds(read: Profile, first: int) -> set[str]:
    """Return the question words from this token on, without words that open a clause: in `what should I use when I
    travel`, `when` does not count.
    """
    tokens = read.tokens[first:]
    found: set[str] = set()
    for at, token in enumerate(tokens):
        if token.kind != "word" or token.key not in _ASKING or not (kind := _kind(tokens, at)):
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
    """Return True if a phrase precedes a yes-or-no question: `in summer, is it open`, `in Spain, do people tip`."""
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


@read_once
def _properties(read: Profile) -> list[str]:
    """Return the word before each `of`: the property of something that is asked for."""
    found = []
    for at, token in enumerate(read.tokens):
        if token.key == "of" and at and is_content(read.tokens[at - 1]):
            found.append(read.tokens[at - 1].key)
    return found

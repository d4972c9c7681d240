"""The profile of a question: all that comparisons read of it, read once."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property, wraps
from inspect import signature
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from headrace_workers.text.normalised import quiet, without_courtesies, without_smileys
from headrace_workers.text.rewrites import DATES, NUMERALS, UNITS, dates, measures, numerals, rewritten
from headrace_workers.text.tokens import Kind, Token, pieces, quotations, tokens
from headrace_workers.text.words import EMPTY_OR_SMALL, MEASURES

T = TypeVar("T")
P = ParamSpec("P")


_UNREAD: Final = object()
_MEASURED: Final = NUMERALS | UNITS | DATES  # without one of these no word says a number, a unit or a date


@dataclass(frozen=True)
class Profile:
    """A text as comparisons read it. Made by `profile`; the caller keeps it as long as the text.

    `tokens` are all tokens in order, phrases rewritten, numbers and dates read; `quoted` is what stands in quotation
    marks, letter by letter. `kept` is what comparisons have read of it: see `read_once`.
    """

    tokens: tuple[Token, ...]
    quoted: tuple[str, ...]
    kept: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def content(self) -> Counter[str]:
        """The number of each key that tells what the question is about, without the measure in `how many`."""
        found, before = [], ""
        for token in self.tokens:
            if is_content(token) and not (before == "how" and token.key in MEASURES):
                found.append(token.key)
            before = token.key
        return Counter(found)

    @cached_property
    def keys(self) -> frozenset[str]:
        """The keys of all tokens."""
        return frozenset([token.key for token in self.tokens])


def profile(text: str) -> Profile:
    """Return the profile of any text. Linear in its length."""
    parts = pieces(_asked(text))
    found = rewritten(tokens(parts))
    if not (
        _MEASURED.isdisjoint([token.key for token in found])
        and _MEASURED.isdisjoint([token.text.lower() for token in found])
    ):
        found = dates(measures(numerals(found)))
    return Profile(found, quotations(parts))


def _asked(text: str) -> str:
    """Return what a text asks, without greetings and thanks; a text of several lines as it stands."""
    if "\n" in text:
        return text
    return without_courtesies(quiet(without_smileys(" ".join(text.replace("’", "'").split()))))


def read_once(read: Callable[Concatenate[Profile, P], T]) -> Callable[Concatenate[Profile, P], T]:
    """Keep the result of a reading with the text, which is compared with many. Nobody may change it."""

    @wraps(read)
    def kept(profile: Profile, /, *where: P.args, **named: P.kwargs) -> T:
        key = (read, *where, *named.values())
        found = profile.kept.get(key, _UNREAD)
        if found is _UNREAD:
            found = profile.kept[key] = read(profile, *where, **named)
        return found  # type: ignore[no-any-return]

    @wraps(read)
    def kept_whole(profile: Profile, /) -> T:  # the same where nothing but the question is said: most are such
        found = profile.kept.get(read, _UNREAD)
        if found is _UNREAD:
            found = profile.kept[read] = read(profile)  # type: ignore[call-arg]
        return found  # type: ignore[no-any-return]

    return kept_whole if len(signature(read).parameters) == 1 else kept  # type: ignore[return-value]


@read_once
def of_kinds(read: Profile) -> dict[Kind, list[str]]:
    """Return the keys of all tokens by their kind, each in order, without kinds that no token has."""
    found: dict[Kind, list[str]] = {}
    for token in read.tokens:
        found.setdefault(token.kind, []).append(token.key)
    return found


def have_same_reading(one: Profile, other: Profile) -> bool:
    """Return True if nothing that a comparison reads differs: the words are the same, but for phrases with the same
    reading.
    """
    return _seen(one) == _seen(other)


@read_once
def _seen(read: Profile) -> tuple[object, ...]:
    """Return all that comparisons read.

    Of a phrase that was rewritten to a word which carries the sentence (`how do I`), comparisons ignore the text: it is
    left out.
    """
    tokens = [token[1:] if token.key in EMPTY_OR_SMALL and " " in token.text else token for token in read.tokens]
    return (*tokens, read.quoted)


def is_content(token: Token) -> bool:
    """Return True if a token tells what a question is about. Numbers and dates are compared by themselves."""
    return token.key not in EMPTY_OR_SMALL if token.kind == "word" else token.kind in {"literal", "symbol", "unit"}


def in_words(keys: Iterable[str], *reads: Profile) -> str:
    """Return some keys in the words of the texts, for a reason that people read: at most five, and `nothing` for
    none.
    """
    words = {token.key: token.text for read in reads for token in read.tokens}
    shown = [words.get(key, key)[:40] for key in keys]
    return (", ".join(shown[:5]) + (", …" if len(shown) > 5 else "")) or "nothing"


def preamble(asked: Profile, cached: Profile) -> int:
    """Return how many tokens precede the first sentence that differs; 0 where that is the first."""
    at = 0
    if not (_has_several(asked) and _has_several(cached)):
        return at
    for index, (one, other) in enumerate(zip(asked.tokens, cached.tokens, strict=False)):
        if one.starts and other.starts:
            at = index
        if one.key != other.key:
            break
    return at


@read_once
def _has_several(read: Profile) -> bool:
    """Return True if there is more than one sentence."""
    return any(token.starts for token in read.tokens[1:])

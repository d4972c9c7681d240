"""Several words that say what one word says, and openings that say nothing: rewritten before questions are compared."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from headrace_workers.features.cache.guards.stems import stem
from headrace_workers.features.cache.guards.tokens import Token
from headrace_workers.features.cache.guards.word_lists import lines_of

_GREETINGS: Final = frozenset({"hello", "hi", "hey", "please", "ok", "okay"})
_ACRONYMS: Final = {"US": "unitedstat", "USA": "unitedstat", "UK": "unitedkingdom", "NYC": "newyorkcity"}


class _Reading(NamedTuple):
    """The reading of a phrase, and whether it counts at the head of a sentence only."""

    keys: tuple[str, ...]
    heads: bool


def _choices(pattern: str) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    for part in pattern.replace("(", "\0(").replace(")", ")\0").split("\0"):
        options = part[1:-1].split("|") if part.startswith("(") else [part]
        found = [(*done, *option.split()) for done in found for option in options]
    return found


@dataclass(slots=True)
class _Node:
    """The reading of the words so far, and the words that may come next."""

    read: _Reading | None = None
    after: "dict[str, _Node]" = field(default_factory=dict)


def _tree() -> dict[str, _Node]:
    """Return the nodes of first words."""
    root = _Node()
    for rule in lines_of("phrases"):
        phrase, _, read = rule.partition(":")
        for words in _choices(phrase.removeprefix("^")):
            node = root
            for word in words:
                node = node.after.setdefault(stem(word) if word != "i'd" else "i", _Node())
            if words:
                node.read = _Reading(tuple(stem(word) for word in read.split()), phrase.startswith("^"))
    return root.after


_PHRASES: Final = _tree()


def rewritten(found: Sequence[Token]) -> tuple[Token, ...]:
    """Return the tokens with phrases rewritten, longest first, until the end is reached once.

    Literals stay as they are.
    """
    out: list[Token] = []
    keys = [token.key if token.kind == "word" else "\0" for token in found]
    greeted = next((at for at, token in enumerate(found) if token.key not in _GREETINGS), len(found))
    at, starts = 0, False
    while at < len(found):
        token = found[at]
        starts = starts or token.starts
        size, read = _match(keys, at, starts or at <= greeted) if keys[at] in _PHRASES else (0, ())
        if size:
            words = " ".join(one.text for one in found[at : at + size])
            named = any(one.name and not one.starts for one in found[at : at + size])
            for key in read:
                out.append(Token(words, key, "word", named, starts))
                starts = False
            at += size
            continue
        if token.text in _ACRONYMS and token.kind == "word":
            token = token._replace(key=_ACRONYMS[token.text])
        out.append(token if token.starts == starts else token._replace(starts=starts))
        starts = False
        at += 1
    return tuple(out)


def _match(keys: Sequence[str], at: int, heads: bool) -> tuple[int, tuple[str, ...]]:
    """Return the length of the longest phrase from here on, and its reading; 0 words if no phrase starts here."""
    found: tuple[int, tuple[str, ...]] = (0, ())
    nodes, size = _PHRASES, 0
    while at + size < len(keys) and (node := nodes.get(keys[at + size])) is not None:
        size += 1
        if node.read is not None and (not node.read.heads or (heads and at + size < len(keys))):  # it opens something
            found = size, node.read.keys
        nodes = node.after
    return found

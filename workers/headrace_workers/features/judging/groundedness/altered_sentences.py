"""A sentence with one thing changed: what it would say if it named another number, name or kind, or the opposite."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from typing import Final

from headrace_workers.features.cache.guards.words import EMPTY_OR_SMALL, stem
from headrace_workers.features.cache.guards.words import opposite as opposes
from headrace_workers.features.judging.groundedness.naming import names_in
from headrace_workers.features.judging.groundedness.sentence_reading import written_names

_NUMBER: Final = re.compile(r"(?<![\w.,])\d{1,40}(?:[.,]\d{1,40}){0,20}(?![\w]|[.,]\d)")
_AUXILIARY: Final = re.compile(
    r"\b(is|are|was|were|has|have|had|can|may|must|could|will|would|should|does|do|did)\b(?! not)", re.IGNORECASE
)
_DENIAL: Final = re.compile(r"\b(?:not|never|no longer)\s|n't\b", re.IGNORECASE)
# Of `nobody` and `nothing` the opposite is another sentence.
_OPPOSITES: Final = {"no": "a", "without": "with", "unable": "able", "cannot": "can"}
_DENYING: Final = re.compile(rf"\b({'|'.join(_OPPOSITES)})\b", re.IGNORECASE)
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z'-]{1,40}")
_MOST_WORDS: Final = 200  # of a sentence that are read for kinds
_MOST_NAMES: Final = 24
_PLACES: Final = frozenset(("in", "at", "to", "from", "near", "into", "between"))
_ANY: Final = frozenset(("of", "and", "or"))


def other_numbers(sentence: str, evidence: Iterable[str]) -> Iterator[str]:
    """Yield the sentence with each of its numbers, in figures, replaced by each number of these sentences."""
    own = set(_NUMBER.findall(sentence))
    rivals = dict.fromkeys(number for text in evidence for number in _NUMBER.findall(text) if number not in own)
    for match in _NUMBER.finditer(sentence):
        for rival in rivals:
            if abs(len(rival) - len(match.group())) <= 1:  # another size is seldom what was mistaken
                yield sentence[: match.start()] + rival + sentence[match.end() :]


def other_names(sentence: str, evidence: Iterable[str]) -> Iterator[str]:
    """Yield the sentence with each of its names replaced by each name of these sentences that is used alike: as a
    place, or as the one who acts.
    """
    texts = list(evidence)
    uses: dict[str, set[str]] = {}
    for text in texts:
        for name in written_names(text):
            uses.setdefault(name, set()).update(_uses(name, text))
    for name in names_in(sentence, uses)[:_MOST_NAMES]:
        own = uses.get(name) or _uses(name, sentence)
        beside = set(sentence.replace(name, "", 1).split())
        for rival, used in uses.items():
            there = rival in name or name in rival or not beside.isdisjoint(rival.split())
            if not there and own & used:
                yield sentence.replace(name, rival, 1)


def other_kinds(sentence: str, evidence: Iterable[str]) -> Iterator[str]:
    """Yield the sentence with each word that names a kind of thing replaced by another kind: `glass` of `glass fibre`
    where the evidence has another.
    """
    kinds: dict[str, set[str]] = {}
    words: set[str] = set()
    for text in evidence:
        found = [match.group().lower() for match in islice(_WORD.finditer(text), _MOST_WORDS)]
        words.update(found)
        for word, thing in pairwise(found):
            if word not in EMPTY_OR_SMALL and thing not in EMPTY_OR_SMALL:
                kinds.setdefault(stem(thing), set()).add(word)
    lowered = sentence.lower()
    for match in islice(_WORD.finditer(sentence), _MOST_WORDS):
        word = match.group().lower()
        rivals = {rival for kind in kinds.values() if word in kind for rival in kind}
        rivals |= {rival for rival in words if opposes(stem(word), stem(rival))}
        for rival in sorted(rivals):
            if rival not in lowered:
                yield sentence[: match.start()] + rival + sentence[match.end() :]


def opposite(sentence: str) -> str | None:
    """Return the sentence without its first denial, or with one; None where neither can be built."""
    if _DENIAL.search(sentence):
        return _DENIAL.sub("", sentence, count=1)
    if _DENYING.search(sentence):
        return _DENYING.sub(lambda match: _OPPOSITES[match.group().lower()], sentence, count=1)
    if _AUXILIARY.search(sentence):
        return _AUXILIARY.sub(r"\1 not", sentence, count=1)
    return None


def _uses(name: str, text: str) -> set[str]:
    if len(name) == 1:
        return {"letter"}
    before = text[: text.index(name)].split()
    last = before[-1].lower() if before else ""
    if last in _ANY:
        return {"place", "actor"}
    return {"place"} if last in _PLACES else {"actor"}

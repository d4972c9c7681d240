"""A sentence with one thing changed: what it would say if it named another number, another name, or the opposite."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from headrace_workers.groundedness.reading import written_names

_NUMBER: Final = re.compile(r"(?<![\w.,])\d{1,40}(?:[.,]\d{1,40}){0,20}(?![\w]|[.,]\d)")
_AUXILIARY: Final = re.compile(
    r"\b(is|are|was|were|has|have|had|can|may|must|could|will|would|should|does|do|did)\b(?! not)", re.IGNORECASE
)
_DENIAL: Final = re.compile(r"\b(?:not|never|no longer)\s|n't\b", re.IGNORECASE)
# Of `nobody` and `nothing` the opposite is another sentence.
_OPPOSITES: Final = {"no": "a", "without": "with", "unable": "able", "cannot": "can"}
_DENYING: Final = re.compile(rf"\b({'|'.join(_OPPOSITES)})\b", re.IGNORECASE)
_PLACES: Final = frozenset(("in", "at", "to", "from", "near", "into", "between"))
_ANY: Final = frozenset(("of", "and", "or"))


def other_numbers(sentence: str, evidence: Iterable[str]) -> Iterator[str]:
    """The sentence with each of its numbers, in figures, put as each other one of these sentences."""
    own = set(_NUMBER.findall(sentence))
    rivals = dict.fromkeys(number for text in evidence for number in _NUMBER.findall(text) if number not in own)
    for match in _NUMBER.finditer(sentence):
        for rival in rivals:
            if abs(len(rival) - len(match.group())) <= 1:  # another size is seldom what was mistaken
                yield sentence[: match.start()] + rival + sentence[match.end() :]


def other_names(sentence: str, evidence: Iterable[str]) -> Iterator[str]:
    """The sentence with each of its names put as each other one of these sentences that is used alike: as a place, or
    as who does something.
    """
    texts = list(evidence)
    uses: dict[str, set[str]] = {}
    for text in texts:
        for name in written_names(text):
            uses.setdefault(name, set()).update(_uses(name, text))
    for name in _own_names(sentence, uses):
        own = uses.get(name) or _uses(name, sentence)
        for rival, used in uses.items():
            if rival not in sentence and rival not in name and name not in rival and own & used:
                yield sentence.replace(name, rival, 1)


def opposite(sentence: str) -> str | None:
    """The sentence without its first denial, or with one; None where neither can be put together."""
    if _DENIAL.search(sentence):
        return _DENIAL.sub("", sentence, count=1)
    if _DENYING.search(sentence):
        return _DENYING.sub(lambda match: _OPPOSITES[match.group().lower()], sentence, count=1)
    if _AUXILIARY.search(sentence):
        return _AUXILIARY.sub(r"\1 not", sentence, count=1)
    return None


def _own_names(sentence: str, known: Iterable[str]) -> list[str]:
    """A name with which a sentence begins may be one word, if it is a name elsewhere."""
    found = written_names(sentence)
    first = sentence.split(maxsplit=1)[0].rstrip(",.'") if sentence else ""
    return [first, *found] if first in known and first not in found else found


def _uses(name: str, text: str) -> set[str]:
    if len(name) == 1:
        return {"letter"}
    before = text[: text.index(name)].split()
    last = before[-1].lower() if before else ""
    if last in _ANY:
        return {"place", "actor"}
    return {"place"} if last in _PLACES else {"actor"}

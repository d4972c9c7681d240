"""Profanity and insults: the linear classifier of alt-profanity-check, over the words of all texts at once. `make
profanity-weights` exports its weights.
"""

import gzip
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.resources import files
from itertools import repeat
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace_workers.features.moderation.detector import Detection, with_part
from headrace_workers.features.moderation.personal_words import QuickPattern

SCORE_FLOOR: Final = 0.5
WEIGHTS_VERSION: Final = "1.9.1"  # of alt-profanity-check, as `profanity_weights.json.gz` says
# A sentence is read in windows of so many words. The classifier normalises by length: in a window of 16 words it saw
# none of seven common insults at the default policy's score, in one of 4 nearly all, and plain prose suffered no more.
WINDOW_WORDS: Final = 4

_CATEGORY: Final = "profanity"
_STOPS: Final = re.compile(r"[.!?…:;\n]+")
_WORD: Final = re.compile(r"\b\w\w+\b")  # as the classifier's own vectorizer
# Compounds, and names beside another capitalised word, in which a profane word says nothing profane.
_NAMES: Final = r"(?:Dick|Fanny|Willy|Randy|Hooker|Butts?|Wang|Cox|Dyke|Gaylord|Weiner)"
_COMPOUNDS: Final = (
    r"\b(?i:(?:idiot|stupid|fool)[- ]?proof(?:ed|ing|s)?|idiot[- ](?:lights?|boards?|savants?)|crap[- ]?shoots?"
    r"|dumb[- ]?(?:bells?|waiters?|struck|terminals?)|tit[- ]for[- ]tat|(?:blue|great|coal)[- ]tits?"
    r"|screw[- ]?(?:drivers?|caps?|tops?)|booby[- ]?(?:traps?|trapped|prizes?)|pussy[- ]?(?:cats?|willows?)"
    r"|jackass[- ]penguins?|bastard[- ](?:files?|swords?))"
)
_SPARED: Final = re.compile(
    rf"{_COMPOUNDS}\b|\b{_NAMES}(?=[ ][A-Z][a-z]|,[ ]Jr)"
    rf"|\b(?!(?:You|He|She|It|What|The|An?|Such|My|Your|Is|Hey)\b)[A-Z][a-z]+[ ]{_NAMES}\b"
)
_MAY_SPARE: Final = QuickPattern(rf"{_COMPOUNDS}|{_NAMES}(?:[ ][A-Z][a-z]|,[ ]Jr)|[A-Z][a-z]+[ ]{_NAMES}")


@dataclass(frozen=True, slots=True)
class _Model:
    """The mean of calibrated linear classifiers over L2-normalised TF-IDF; the last word stands for all unknown."""

    vocabulary: dict[str, int]
    idf: NDArray[np.float64]  # (words,)
    weights: NDArray[np.float64]  # (words, classifiers), idf times coefficient
    intercept: NDArray[np.float64]  # (classifiers,)
    slope: NDArray[np.float64]  # (classifiers,) of Platt's sigmoid
    offset: NDArray[np.float64]  # (classifiers,)
    alone: NDArray[np.float64]  # (words,) the probability of a text that is this word alone

    def probabilities(self, words: NDArray[np.int64], segments: NDArray[np.int64], count: int) -> NDArray[np.float64]:
        """Return P(profane) of each of `count` segments, given the words and the segment of each."""
        keys, times = np.unique(segments * len(self.idf) + words, return_counts=True)
        where, which = np.divmod(keys, len(self.idf))
        norms = np.sqrt(np.bincount(where, weights=(times * self.idf[which]) ** 2, minlength=count))
        norms[norms == 0] = 1.0
        dots = np.stack(
            [np.bincount(where, weights=times * column[which], minlength=count) for column in self.weights.T], axis=1
        )
        return self._calibrated(dots / norms[:, None])

    def _calibrated(self, dots: NDArray[np.float64]) -> NDArray[np.float64]:
        means = 1.0 / (1.0 + np.exp(self.slope * (dots + self.intercept) + self.offset))
        return np.asarray(means.mean(axis=1), dtype=np.float64)


class ProfanityDetector:
    """A detector of profane words, by the probability of the word and its neighbours (four in all)."""

    name = "profanity"
    reads_words = True
    categories = frozenset({_CATEGORY})

    def detect(self, texts: Sequence[str]) -> list[list[Detection]]:
        """Return the profanities in each text. The model is loaded by the first call."""
        texts = [_SPARED.sub(_unknown, text) if _MAY_SPARE.search(text) else text for text in texts]
        found: list[list[Detection]] = [[] for _ in texts]
        model = self._model
        joined, of_sentences, of_texts = _joined_texts(texts)
        known, unknown = model.vocabulary.get, len(model.idf) - 1
        words = np.fromiter(map(known, map(str.lower, joined), repeat(unknown)), dtype=np.int64, count=len(joined))
        segments, count = _segments(of_sentences)
        scores = model.probabilities(words, segments, count)
        hits = np.flatnonzero(scores >= SCORE_FLOOR)
        ends = np.cumsum(of_texts)
        matches: dict[int, list[re.Match[str]]] = {}  # of the texts in which there is something
        for segment in hits.tolist():
            first, last = np.searchsorted(segments, [segment, segment + 1]).tolist()
            owner = int(np.searchsorted(ends, first, side="right"))
            if owner not in matches:
                matches[owner] = list(_WORD.finditer(texts[owner]))
            mine, before = matches[owner], int(ends[owner]) - of_texts[owner]
            score = min(1.0, float(scores[segment]))
            inside = range(first, last)
            spans = [mine[i - before].span() for i in inside if model.alone[words[i]] >= SCORE_FLOOR]
            spans = spans or [(mine[first - before].start(), mine[last - 1 - before].end())]
            found[owner] += [Detection(_CATEGORY, score, start, end) for start, end in spans]
        return found

    @cached_property
    def version(self) -> str:
        """The version of the classifier."""
        return with_part(WEIGHTS_VERSION)

    @cached_property
    def _model(self) -> _Model:
        return load(plain_words())


def _unknown(spared: re.Match[str]) -> str:
    """Return as many characters, which the classifier does not know as words."""
    return "_" * len(spared[0])


def _joined_texts(texts: Sequence[str]) -> tuple[list[str], list[int], list[int]]:
    """Return the words of all texts, and how many words each sentence and each text has."""
    joined: list[str] = []
    of_sentences: list[int] = []
    of_texts: list[int] = []
    for text in texts:
        begin, before = 0, len(joined)
        for end in (*_sentence_ends(text), len(text)):
            words = _WORD.findall(text, begin, end)
            joined += words
            of_sentences.append(len(words))
            begin = end
        of_texts.append(len(joined) - before)
    return joined, of_sentences, of_texts


def _segments(of_sentences: Sequence[int]) -> tuple[NDArray[np.int64], int]:
    """Return the segment of each word, ascending, from the words of each sentence; and the number of segments."""
    words = np.array(of_sentences, dtype=np.int64)
    segments = -(-words // WINDOW_WORDS)
    before, first = np.cumsum(words) - words, np.cumsum(segments) - segments
    places = np.arange(words.sum()) - np.repeat(before, words)
    return np.repeat(first, words) + places // WINDOW_WORDS, int(segments.sum())


def _sentence_ends(text: str) -> Iterator[int]:
    """Yield the places of stops before white space, a line feed of its own, or the end of the text."""
    # One pattern with a look-ahead would be quadratic in a long run.
    for run in _STOPS.finditer(text):
        start, end = run.span()
        if end == len(text) or text[end].isspace() or text.find("\n", start + 1, end) > 0:
            yield start


def plain_words() -> frozenset[str]:
    """Return the words that are hidden from the classifier: see `plain_words.txt`."""
    lines = (
        files("headrace_workers.features.moderation")
        .joinpath("plain_words.txt")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


@cache
def load(hidden: frozenset[str]) -> _Model:
    """Return the classifier, which does not know the `hidden` words. All detectors of a process share it."""
    packed = files("headrace_workers.features.moderation").joinpath("profanity_weights.json.gz").read_bytes()
    weights = json.loads(gzip.decompress(packed))
    parts = weights["classifiers"]
    idf = np.array([*weights["idf"], 0.0])
    coefficients = np.array([[*part["coefficients"], 0.0] for part in parts]).T
    model = _Model(
        vocabulary={word: i for i, word in enumerate(weights["words"]) if word not in hidden},
        idf=idf,
        weights=idf[:, None] * coefficients,
        intercept=np.array([part["intercept"] for part in parts]),
        slope=np.array([part["slope"] for part in parts]),
        offset=np.array([part["offset"] for part in parts]),
        alone=np.empty(0),
    )
    every = np.arange(len(idf))
    return replace(model, alone=model.probabilities(every, every, len(idf)))

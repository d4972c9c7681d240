"""Criteria that compare an output with a reference. Pure: two texts in, a value in [0, 1] out."""

import re
import string
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any, Final


def longest_common(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """Return its length, in words or in characters; one row of the table is one whole number (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(theirs):
        places[word] = places.get(word, 0) | 1 << place
    whole = (1 << len(theirs)) - 1
    row = whole
    for word in ours:
        number = row & places.get(word, 0)
        if number:
            row = ((row + number) | (row - number)) & whole
    return len(theirs) - row.bit_count()


_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def exact_match(output: str, reference: str, *, ignore_case: bool, trim: bool = True) -> float:
    """Return 1.0 when both are the same, else 0.0; with `trim`, white space around them does not count."""
    left, right = (output.strip(), reference.strip()) if trim else (output, reference)
    return float(left.casefold() == right.casefold() if ignore_case else left == right)


def token_f1(output: str, reference: str) -> float:
    """Return F1 of the two bags of words, without case, ASCII punctuation and English articles, as SQuAD 2.0 does
    (Rajpurkar 2018).
    """
    ours, theirs = _squad_words(output), _squad_words(reference)
    if not ours or not theirs:
        return float(ours == theirs)
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs))


def chrf(output: str, reference: str) -> float:
    """Return chrF2 as sacrebleu computes it (Popović 2015: characters 1 to 6, β = 2), divided by 100."""
    return _as_unit(_chrf().sentence_score(output, [reference]).score)


def bleu(output: str, reference: str) -> float:
    """Return sentence BLEU with effective order and exponential smoothing as sacrebleu computes it, divided by 100."""
    metric = _bleu()
    try:
        return _as_unit(metric.sentence_score(output, [reference]).score)
    finally:
        # sacrebleu's tokenizers remember 65,536 whole texts, which for texts that never come again is a leak.
        _forget(metric.tokenizer)


def gleu(output: str, reference: str) -> float:
    """Return sentence GLEU (Wu 2016, "Google's Neural Machine Translation System"): the runs of 1 to 4 tokens that both
    texts have, as a share of the runs of the text that has more. Tokens are split as in `bleu`.
    """
    ours, theirs = _token_runs(output), _token_runs(reference)
    most = max(ours.total(), theirs.total())
    return (ours & theirs).total() / most if most else 0.0


def fuzzy_match(output: str, reference: str) -> float:
    """Return twice the longest common subsequence of characters over both lengths, as `ratio` of RapidFuzz."""
    both = len(output) + len(reference)
    return 2 * longest_common(output, reference) / both if both else 1.0


def _token_runs(text: str) -> Counter[tuple[str, ...]]:
    tokenizer = _bleu().tokenizer
    try:
        tokens = tokenizer(text).split()
    finally:
        _forget(tokenizer)
    return Counter(run for n in range(1, 5) for run in zip(*(tokens[start:] for start in range(n)), strict=False))


def _squad_words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _as_unit(percent: float) -> float:
    """Return the score in [0, 1]. sacrebleu's sums exceed 100 by a few last digits."""
    return min(1.0, max(0.0, percent / 100))


def _forget(tokenizer: Any) -> None:
    for part in (tokenizer, getattr(tokenizer, "_post_tokenizer", None)):
        clear = getattr(vars(type(part)).get("__call__"), "cache_clear", None)
        if clear is not None:
            clear()


@cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


@cache
def _bleu() -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(effective_order=True)


# ROUGE (Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries"): the words that two texts share in order.
#
# The F1 of recall and precision, as the package rouge-score gives it without stemming; but letters of all scripts are
# words here, where that one knows a-z alone. Two texts without such a run of words share nothing.

_WORDS: Final = re.compile(r"[^\W_]+")


def rouge_n(output: str, reference: str, n: int) -> float:
    """Return F1 of the runs of n words of both texts, each counted as often as it occurs."""
    ours, theirs = _runs(output, n), _runs(reference, n)
    return _f1((ours & theirs).total(), ours.total(), theirs.total())


def rouge_l(output: str, reference: str) -> float:
    """Return F1 of the longest sequence of words that both texts have in this order, with gaps."""
    ours, theirs = _words(output), _words(reference)
    return _f1(longest_common(ours, theirs), len(ours), len(theirs))


def _words(text: str) -> list[str]:
    return _WORDS.findall(text.lower())


def _runs(text: str, n: int) -> Counter[tuple[str, ...]]:
    words = _words(text)
    return Counter(zip(*(words[start:] for start in range(n)), strict=False))


def _f1(shared: int, ours: int, theirs: int) -> float:
    return 2 * shared / (ours + theirs) if shared else 0.0

"""ROUGE (Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries"): the words that two texts share in order.

The F1 of recall and precision, as the package rouge-score gives it without stemming; but letters of all scripts are
words here, where that one knows a-z alone. Two texts without such a run of words share nothing.
"""

import re
from collections import Counter
from typing import Final

from headrace_workers.features.judging.subsequence import longest_common

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

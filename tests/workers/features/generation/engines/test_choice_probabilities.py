"""The probability of a choice."""

import numpy as np
import pytest

from headrace_workers.features.generation.engines.logits import first_tokens, mass

WORDS = {"yes": [1], " yes": [2], "no": [3], " no": [4], "1": [5], " 1": [9, 5], "2": [6], " 2": [9, 6], "nope": [3, 7]}
TEXT = {1: "yes", 2: " yes", 3: "no", 4: " no", 5: "1", 6: "2", 9: " "}


def heads(*choices: str) -> list[list[int]]:
    """First tokens in the vocabulary above."""
    return first_tokens(choices, lambda text: WORDS.get(text, []), lambda ids: TEXT[ids[0]])


def test_both_spellings_count() -> None:
    """With a leading space and without."""
    assert heads("yes", "no") == [[1, 2], [3, 4]]


def test_a_blank_first_token_says_nothing() -> None:
    """Where digits are tokens of their own, " 1" begins with a space that all share."""
    assert heads("1", "2") == [[5], [6]]


def test_choices_that_begin_alike_are_refused() -> None:
    """They could not be told apart."""
    with pytest.raises(ValueError, match="'no' and 'nope' begin with the same token"):
        heads("no", "nope")


def test_a_choice_without_a_token_is_refused() -> None:
    """An empty choice has no probability."""
    with pytest.raises(ValueError, match="has no first token"):
        heads("yes", "")


def test_the_softmax_is_over_the_whole_vocabulary() -> None:
    """So that the sum over choices is their mass, and large logits do not overflow."""
    logits = np.array([1000.0, 1000.0, 1000.0, 0.0], dtype=np.float32)
    assert mass(logits, [[0], [1, 3]]) == pytest.approx((1 / 3, 1 / 3))

"""ROUGE: the figures of the package rouge-score 0.1.2 (without stemming), and what it does not know."""

import random

import pytest

from headrace_workers.features.judging.reference import rouge_l, rouge_n

# Output, reference, and F1 of ROUGE-1, -2, -3 and -L as rouge-score 0.1.2 gives them.
FIGURES = [
    ("The cat sat on the mat.", "The cat is sitting on the mat.", 0.769231, 0.545455, 0.222222, 0.769231),
    ("It costs 3.50 euros, doesn't it?", "It costs 3.50 euros.", 0.769231, 0.727273, 0.666667, 0.769231),
    ("the gunman kill police", "police kill the gunman", 1.0, 0.333333, 0.0, 0.5),
    ("a b c a b c a b", "a b a b c", 0.769231, 0.545455, 0.222222, 0.769231),
    ("hello", "hello world", 0.666667, 0.0, 0.0, 0.666667),
    ("", "anything", 0.0, 0.0, 0.0, 0.0),
    ("snake_case words", "snake case words", 1.0, 1.0, 1.0, 1.0),
]


@pytest.mark.parametrize(("output", "reference", "one", "two", "three", "longest"), FIGURES)
def test_the_figures_are_those_of_rouge_score(
    output: str, reference: str, one: float, two: float, three: float, longest: float
) -> None:
    found = [rouge_n(output, reference, n) for n in (1, 2, 3)]
    assert [*found, rouge_l(output, reference)] == pytest.approx([one, two, three, longest], abs=1e-6)


def test_the_longest_common_subsequence_is_that_of_the_table() -> None:
    chance = random.Random(5)
    for _ in range(200):
        ours, theirs = ([chance.choice("abcd") for _ in range(chance.randrange(25))] for _ in range(2))
        table = [[0] * (len(theirs) + 1) for _ in range(len(ours) + 1)]
        for i, mine in enumerate(ours):
            for j, other in enumerate(theirs):
                table[i + 1][j + 1] = table[i][j] + 1 if mine == other else max(table[i][j + 1], table[i + 1][j])
        longest = table[-1][-1]
        expected = 2 * longest / (len(ours) + len(theirs)) if longest else 0.0
        assert rouge_l(" ".join(ours), " ".join(theirs)) == pytest.approx(expected)


def test_letters_of_all_scripts_are_words() -> None:
    assert rouge_l("Москва прекрасна", "москва прекрасна!") == 1.0
    assert rouge_n("Grüße aus Köln", "grüße aus Bonn", 1) == pytest.approx(2 / 3)


def test_two_hundred_thousand_characters() -> None:
    chance = random.Random(7)
    words = [chance.choice("abcdefgh") for _ in range(40_000)]
    text = " ".join(words)
    assert rouge_l(text + " x" * 40_000, text) == pytest.approx(2 / 3)
    assert rouge_n(text, text, 5) == 1.0

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_workers.features.judging.reference import bleu, chrf, exact_match, fuzzy_match, gleu, token_f1

PAIRS = [
    ("The cat sat on the mat.", "The cat is sitting on the mat."),
    ("It costs 3.50 euros, doesn't it?", "It costs 3.50 euros."),
    ("hello", "hello world"),
    ("entirely different words", "nothing shared here"),
]


# Output, reference, sentence_gleu of nltk 3.10.4 over sacrebleu's 13a tokens, and fuzz.ratio of RapidFuzz 3.14.6.
FIGURES = [
    (*PAIRS[0], 0.5, 0.830189),
    (*PAIRS[1], 0.384615, 0.730769),
    (*PAIRS[2], 0.333333, 0.625),
    (*PAIRS[3], 0.0, 0.418605),
    ("the the the", "the cat", 0.166667, 0.555556),
    ("", "", 0.0, 1.0),
    ("", "something", 0.0, 0.0),
]


@pytest.mark.parametrize(("output", "reference", "of_gleu", "of_ratio"), FIGURES)
def test_gleu_and_fuzzy_match_are_those_of_their_libraries(
    output: str, reference: str, of_gleu: float, of_ratio: float
) -> None:
    assert gleu(output, reference) == pytest.approx(of_gleu, abs=1e-6)
    assert fuzzy_match(output, reference) == pytest.approx(of_ratio, abs=1e-6)


@pytest.mark.parametrize(("output", "reference"), PAIRS)
def test_chrf_and_bleu_are_sacrebleus(output: str, reference: str) -> None:
    assert chrf(output, reference) == pytest.approx(sacrebleu.sentence_chrf(output, [reference]).score / 100)
    assert bleu(output, reference) == pytest.approx(sacrebleu.sentence_bleu(output, [reference]).score / 100)


@settings(deadline=None)
@given(output=st.text(max_size=60), reference=st.text(max_size=60))
def test_every_figure_is_in_the_unit_interval(output: str, reference: str) -> None:
    for figure in (chrf, bleu, token_f1, gleu, fuzzy_match):
        assert 0.0 <= figure(output, reference) <= 1.0


def test_bleu_keeps_no_texts() -> None:
    """sacrebleu's tokenizers would remember whole texts for ever: after a score they are empty."""
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
    from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp

    bleu("some text", "another text")
    gleu("some text", "another text")
    assert Tokenizer13a.__call__.cache_info().currsize == 0
    assert TokenizerRegexp.__call__.cache_info().currsize == 0


@pytest.mark.parametrize(
    ("output", "reference", "expected"),
    [
        ("The Eiffel Tower!", "eiffel tower", 1.0),
        ("in Paris, France", "Paris", 0.5),
        ("Paris Paris Rome", "Paris Paris", 4 / 5),  # bags, not sets: what both say twice counts twice
        ("to be or not to be", "to be to do", 0.6),
        ("", "Paris", 0.0),
        ("the", "a", 1.0),
    ],
)
def test_token_f1(output: str, reference: str, expected: float) -> None:
    """Case, punctuation and articles do not count, and a word counts as often as both have it."""
    assert token_f1(output, reference) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("output", "reference", "ignore_case", "expected"),
    [
        (" Yes\n", "Yes", False, 1.0),
        ("yes", "Yes", False, 0.0),
        ("STRASSE", "straße", True, 1.0),
        ("a b", "a  b", True, 0),
    ],
)
def test_exact_match(output: str, reference: str, ignore_case: bool, expected: float) -> None:
    """White space around the texts does not count, white space within does; case counts unless asked not to."""
    assert exact_match(output, reference, ignore_case=ignore_case) == expected

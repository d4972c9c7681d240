import pytest

from headrace_workers.features.cache.guards.profile import profile
from headrace_workers.features.cache.guards.wording import Form


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 2*(4+8)?", "What is 2*4+8?"),
        ("What is (a + b) * c?", "What is a + (b * c)?"),
        ("What is a - b?", "What is b - a?"),
        ("What is 10 / 5?", "What is 5 / 10?"),
        ("What is x^2?", "What is x^3?"),
        ("A list [1, 2]", "A tuple (1, 2)"),
        ("Is it A) red B) blue?", "Is it A) blue B) red?"),
        ("Is it 1. red 2. blue", "Is it 1. blue 2. red"),
        ("Sort them\na\nb", "Sort them\nb\na"),
        ("Sort them\na\nb", "Sort them a b"),
        ("Is it 5 MW?", "Is it 5 mW?"),
        ("Is it for US people?", "Is it for us people?"),
        ("What is plan B?", "What is plan b?"),
    ],
)
def test_refuses(one: str, other: str) -> None:
    assert Form().refuse(profile(one), profile(other))
    assert Form().refuse(profile(other), profile(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 2*(4+8)?", "what is 2 * (4 + 8)"),
        ("How do I open a PDF?", "How can I open a pdf"),
        ("On which day is it?", "It is on which day?"),
        ("Is a well-known word one word?", "is a well-known word a word?"),
        ("Is it A) red B) blue?", "So which is it, A) red  B) blue?"),
        ("Sort them\na\nb", "sort these\n\na\n b"),
        ("How much is 15 % of 80?", "How much is 15 percent of 80?"),
        ("Where can a friend and I park?", "where can a friend and i park"),
        ("Where do I buy a 3-day pass?", "where do i buy a 3 day pass"),
    ],
)
def test_passes(one: str, other: str) -> None:
    assert Form().refuse(profile(one), profile(other)) is None
    assert Form().refuse(profile(other), profile(one)) is None

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_workers.features.cache.audit_labels import NOT, Token, read


def _texts(text: str) -> list[str]:
    return [token.text for token in read(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The answer is A.", ["answer", "is", "a"]),  # what ends an answer is no article
        ("Use vitamin A daily", ["use", "vitamin", "a", "daily"]),
        ("e-mail me@here.org", ["e-mail", "me@here.org"]),
        ("1,234,567.50", ["1234567.5"]),
        ("+7 and −7", ["7", "and", "-7"]),
        ("50 % of 5kg", ["50", "%", "of", "5", "kg"]),
        ("5-10, 1.2.3 or 50,5", ["5-10", "1.2.3", "or", "50,5"]),
        ("on 31 December 1999 at 9:05", ["on", "1999-12-31", "at", "9:05"]),
        ("May 3 people", ["may", "3", "people"]),
        ("32 March 2020", ["32", "march", "2020"]),
        ("won't, shouldn’t", ["will", "not", "should", "not"]),
        ("!ready != done!", ["!", "ready", "!", "=", "done"]),
    ],
)
def test_words_are_read(text: str, words: list[str]) -> None:
    assert _texts(text) == words


def test_kinds_are_told_apart() -> None:
    assert read("twenty") == read("20") == (Token("number", "20", Decimal(20)),)
    assert read("never no") == (NOT, NOT)
    assert [token.kind for token in read("2020-01-02 10:30 x")] == ["date", "time", "word"]


@given(text=st.text(max_size=80))
def test_every_text_can_be_read_and_none_twice_differently(text: str) -> None:
    assert read(text) == read(f" {text}\n")

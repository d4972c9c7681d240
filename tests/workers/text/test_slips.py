"""Slips of the keyboard are read as what was meant, and words as themselves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_workers.text.tokens import corrected
from headrace_workers.text.words import lines_of

COMMON = sorted(word for line in lines_of("common") for word in line.split())


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("pasword", "password"),
        ("acccount", "account"),
        ("subscritpion", "subscription"),
        ("refudn", "refund"),
        ("recieve", "receive"),
        ("thier", "their"),
    ],
)
def test_a_slip_is_read_as_the_word_that_was_meant(typed: str, meant: str) -> None:
    assert corrected(typed) == meant


@pytest.mark.parametrize(
    "word",
    ["contact", "contract", "patent", "statin", "inulin", "county", "flickr", "kubectl", "form", "passwd", "café", "x"],
)
def test_a_word_of_its_own_stays(word: str) -> None:
    assert corrected(word) == word


@given(st.sampled_from(COMMON), st.data())
def test_no_common_word_is_a_slip_of_another(word: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(1, len(word) - 2))
    typed = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    assert corrected(word) == word
    assert corrected(corrected(typed)) == corrected(typed)

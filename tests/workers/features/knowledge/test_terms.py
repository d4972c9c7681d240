import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_workers.features.knowledge.lexical import VERSION, Terms, key_of, term_counts


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80))
def test_what_is_read_is_what_was_written(text: str) -> None:
    terms = Terms.of(text)
    again = Terms.from_bytes(terms.to_bytes())
    assert again is not None
    np.testing.assert_array_equal(again.keys, terms.keys)
    np.testing.assert_array_equal(again.counts, terms.counts)
    assert again.length == terms.length == term_counts(text).total()
    assert dict(zip(again.keys.tolist(), again.counts.tolist(), strict=True)) == {
        key_of(term): times for term, times in term_counts(text).items()
    }


def test_a_term_that_is_there_very_often_is_told_as_often_as_may_be() -> None:
    terms = Terms.of("mill " * 70_000)
    assert (terms.counts.tolist(), terms.length) == ([0xFFFF], 70_000)


@pytest.mark.parametrize("written", [None, b"", b"\x01", Terms.of("a mill").to_bytes()[:-1], b"\xff" * 40])
def test_what_is_nothing_of_the_kind_is_none(written: bytes | None) -> None:
    assert Terms.from_bytes(written) is None


def test_another_version_is_counted_anew() -> None:
    """What the ledger keeps would be looked up by other terms than it has."""
    written = bytearray(Terms.of("a mill").to_bytes())
    assert written[0] == VERSION
    written[0] += 1
    assert Terms.from_bytes(bytes(written)) is None


def test_the_version_follows_how_texts_become_terms() -> None:
    """A change of the terms needs a new VERSION, and the new digest here: else stored terms fit no query."""
    text = (
        "Café HTTPServer asyncio.TaskGroup max_age C++ C# 水車小屋 mühle Ünïcode 3.13 ไทย हिन्दी x1y2 don't e-mail _a__b"
    )
    digest = hashlib.sha256(Terms.of(text).to_bytes()).hexdigest()[:16]
    assert (VERSION, digest) == (1, "f78ff5e33024e101")

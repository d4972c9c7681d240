from hypothesis import given
from hypothesis import strategies as st

from headrace_workers.features.moderation.decision import Span, merge, redact


def test_replaces_spans_by_their_category() -> None:
    """Each span becomes its label; the rest stays."""
    text = "mail jo@headrace.io or 4111 now"
    assert redact(text, [Span(23, 27, "card"), Span(5, 19, "email")]) == "mail [EMAIL] or [CARD] now"


def test_overlapping_spans_become_one_named_after_the_longest() -> None:
    """The union is replaced once."""
    assert redact("abcdefgh", [Span(1, 3, "phone"), Span(2, 6, "card"), Span(5, 7, "ssn")]) == "a[CARD]h"


def test_a_chain_of_spans_is_named_after_its_longest_wherever_that_stands() -> None:
    """A short one between does not let a middling one name the whole."""
    assert merge([Span(0, 10, "card"), Span(1, 3, "ssn"), Span(2, 7, "phone")]) == [Span(0, 10, "card")]
    assert merge([Span(0, 2, "phone"), Span(0, 5, "card"), Span(4, 6, "ssn")]) == [Span(0, 6, "card")]


def test_the_first_of_equals_names_the_span() -> None:
    """Two detectors on one span: the first one names it."""
    assert merge([Span(0, 4, "phone"), Span(0, 4, "card")]) == [Span(0, 4, "phone")]


def test_touching_spans_stay_apart() -> None:
    """Two neighbours are two labels."""
    assert redact("abcd", [Span(0, 2, "a"), Span(2, 4, "b")]) == "[A][B]"


def test_empty_spans_and_no_spans_change_nothing() -> None:
    """Nothing to hide, nothing hidden."""
    assert redact("abc", [Span(1, 1, "a")]) == "abc"
    assert redact("", []) == ""


ALPHABET = st.text(st.sampled_from("abc 😀é𝒳"), min_size=1, max_size=60)


@given(text=ALPHABET, data=st.data())
def test_nothing_of_a_span_is_left_and_all_else_stays(text: str, data: st.DataObject) -> None:
    """Characters outside every span survive in order, and those inside any span are gone."""
    at = st.integers(0, len(text))
    pairs = data.draw(st.lists(st.tuples(at, at), max_size=6))
    spans = [Span(min(p), max(p), "x") for p in pairs]
    kept = "".join(c for i, c in enumerate(text) if not any(s.start <= i < s.end for s in spans))
    assert redact(text, spans).replace("[X]", "") == kept

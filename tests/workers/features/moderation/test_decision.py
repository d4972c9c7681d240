from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_schemas.hazards import HAZARDS, OF_OPENAI
from headrace_workers.features.moderation.decision import Judge, Span, merge, redact
from headrace_workers.features.moderation.detector import Detection
from headrace_workers.features.moderation.policy import Policy, Rule


class Named:
    def __init__(self, name: str, *categories: str) -> None:
        self.name, self.version, self.categories = name, f"of {name}", frozenset(categories)
        self.reads_words = True

    def detect(self, texts: Sequence[str]) -> list[list[Detection]]:
        return [[] for _ in texts]


POLICY = Policy({"email": Rule("redact"), "phone": Rule("allow"), "hate/threatening": Rule("block", 0.9)})
DATA, HATE = Named("data", "email", "phone"), Named("head", "hate/threatening")


def test_a_text_without_findings_was_looked_at() -> None:
    verdict = Judge([DATA, HATE], POLICY).decide("text", []).verdict
    assert (verdict.flagged, verdict.categories) == (False, {"hate/threatening": False, "personal_data": False})
    assert verdict.category_scores == {"hate/threatening": 0.0, "personal_data": 0.0}
    assert verdict.detectors == {"data": "of data", "head": "of head"}
    assert "hate" in verdict.not_covered
    assert not {"personal_data", "hate/threatening"} & set(verdict.not_covered)


def test_kinds_count_under_their_category() -> None:
    phone, email = Detection("phone", 0.4, 0, 1), Detection("email", 0.3, 2, 3)
    judge = Judge([DATA], POLICY)
    allowed = judge.decide("a b", [(DATA, phone)]).verdict
    assert (allowed.flagged, allowed.categories, allowed.category_scores) == (
        False, {"personal_data": False}, {"personal_data": 0.4},
    )  # fmt: skip
    both = judge.decide("a b", [(DATA, phone), (DATA, email)]).verdict
    assert (both.flagged, both.categories, both.category_scores) == (
        True, {"personal_data": True}, {"personal_data": 0.4},
    )  # fmt: skip


def test_a_score_below_the_policys_is_told_and_objects_to_nothing() -> None:
    verdict = Judge([HATE], POLICY).decide("text", [(HATE, Detection("hate/threatening", 0.89, 0, 4))]).verdict
    assert (verdict.action, verdict.findings) == ("allow", ())
    assert verdict.category_scores == {"hate/threatening": 0.89}
    assert verdict.categories == {"hate/threatening": False}


def test_a_policy_is_known_by_what_it_says() -> None:
    one, other = Policy({"a": Rule("block"), "b": Rule("allow")}), Policy({"b": Rule("allow"), "a": Rule("block")})
    assert one.version == other.version
    for rule in (Rule("block", 0.1), Rule("block", detectors=2), Rule("block", allowed=("x",)), Rule("review")):
        assert one.version != Policy({"a": rule, "b": Rule("allow")}).version
    assert Judge([DATA], POLICY).decide("text", []).verdict.policy == POLICY.version


def test_the_table_names_each_thing_once() -> None:
    kinds = [kind for hazard in HAZARDS for kind in (hazard.name, *hazard.kinds)]
    assert len(kinds) == len(set(kinds))
    assert len(OF_OPENAI) == 13


@pytest.mark.parametrize("hazard", HAZARDS, ids=lambda hazard: hazard.name)
def test_the_page_has_the_table(hazard, page) -> None:
    cells = (
        f"`{hazard.name}`",
        "yes" if hazard.openai else "",
        ", ".join(hazard.mlcommons),
        ", ".join(hazard.llama_guard),
    )
    assert f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in cells)}|" in page


@pytest.fixture(scope="module")
def page() -> str:
    return (Path(__file__).parents[4] / "docs" / "reference" / "moderation-policy.md").read_text(encoding="utf-8")


def test_replaces_spans_by_their_category() -> None:
    text = "mail jo@headrace.io or 4111 now"
    assert redact(text, [Span(23, 27, "card"), Span(5, 19, "email")]) == "mail [EMAIL] or [CARD] now"


def test_overlapping_spans_become_one_named_after_the_longest() -> None:
    assert redact("abcdefgh", [Span(1, 3, "phone"), Span(2, 6, "card"), Span(5, 7, "ssn")]) == "a[CARD]h"


def test_a_chain_of_spans_is_named_after_its_longest_wherever_that_stands() -> None:
    assert merge([Span(0, 10, "card"), Span(1, 3, "ssn"), Span(2, 7, "phone")]) == [Span(0, 10, "card")]
    assert merge([Span(0, 2, "phone"), Span(0, 5, "card"), Span(4, 6, "ssn")]) == [Span(0, 6, "card")]


def test_the_first_of_equals_names_the_span() -> None:
    assert merge([Span(0, 4, "phone"), Span(0, 4, "card")]) == [Span(0, 4, "phone")]


def test_touching_spans_stay_apart() -> None:
    assert redact("abcd", [Span(0, 2, "a"), Span(2, 4, "b")]) == "[A][B]"


def test_empty_spans_and_no_spans_change_nothing() -> None:
    assert redact("abc", [Span(1, 1, "a")]) == "abc"
    assert redact("", []) == ""


ALPHABET = st.text(st.sampled_from("abc 😀é𝒳"), min_size=1, max_size=60)


@given(text=ALPHABET, data=st.data())
def test_nothing_of_a_span_is_left_and_all_else_stays(text: str, data: st.DataObject) -> None:
    at = st.integers(0, len(text))
    pairs = data.draw(st.lists(st.tuples(at, at), max_size=6))
    spans = [Span(min(p), max(p), "x") for p in pairs]
    kept = "".join(c for i, c in enumerate(text) if not any(s.start <= i < s.end for s in spans))
    assert redact(text, spans).replace("[X]", "") == kept

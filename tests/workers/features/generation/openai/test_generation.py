""""""

from hypothesis import given
from hypothesis import strategies as st
from tests.workers.features.generation.openai.ends import JOB_ID, answered

from headrace_schemas import Category
from headrace_schemas.events import Attempt, Cost
from headrace_schemas.grounding import Grounding
from headrace_schemas.recall import CacheTier, Recall
from headrace_workers.features.generation.openai.generation import pieces, receipt


def test_a_receipt_has_all_but_the_text():
    told = receipt(
        answered(recall=Recall(tier=CacheTier.EXACT, age=3.0), grounding=Grounding(knowledge="mill", floor=0.35))
    )
    assert told["job_id"] == JOB_ID
    assert told["status"] == "completed"
    assert told["metadata"] == {"order": "17"}
    assert told["moderation"]["action"] == "allow"
    assert told["judge"] == {"scores": []}
    assert told["accepted_at"] == "2026-01-31T12:00:00Z"
    assert told["total_ms"] == 1500.0
    assert told["stages"] == []
    assert told["quantization"] == "int8"
    assert told["recall"]["tier"] == "exact"
    assert told["grounding"]["knowledge"] == "mill"
    assert "text" not in told
    assert "answer" not in told


def test_a_receipt_says_who_was_asked_who_saw_the_text_and_what_it_cost():
    attempts = (
        Attempt(model="far", provider="acme", category=Category.REROUTABLE, reason="no answer", ms=3.0, cost=20),
        Attempt(model="mill", ms=5.0, cost=0),
    )
    result = answered(attempts=attempts, because="mill answered in place of far").model_copy(
        update={"seen_by": ("acme",), "cost": Cost(amount=20, currency="EUR")}
    )
    told = receipt(result)
    assert [(attempt["model"], attempt["cost"]) for attempt in told["attempts"]] == [("far", 20), ("mill", 0)]
    assert told["because"] == "mill answered in place of far"
    assert told["seen_by"] == ["acme"]
    assert (told["cost"]["amount"], told["cost"]["currency"]) == (20, "EUR")


def test_what_was_not_asked_for_is_not_in_it():
    assert not {"recall", "grounding"} & receipt(answered()).keys()


@given(st.text(alphabet=st.sampled_from("a \n\u00e9\U0001f600"), max_size=300))
def test_all_pieces_together_are_the_text(text):
    cut = pieces(text)
    assert "".join(cut) == text
    assert all(0 < len(piece) <= 64 for piece in cut)


def test_a_piece_ends_at_a_space_where_there_is_one():
    """So that words come whole."""
    assert pieces("word " * 20)[0].endswith("word ")
    assert pieces("x" * 100) == ["x" * 64, "x" * 36]
    assert pieces("") == []

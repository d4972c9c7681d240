from tests.workers.features.generation.openai.ends import JOB_ID, answered

from headrace_schemas.grounding import Grounding
from headrace_schemas.recall import CacheTier, Recall
from headrace_workers.features.generation.openai.job_receipt import receipt


def test_a_receipt_has_all_but_the_text():
    """Verdicts, times, what was recalled and what it rests on."""
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


def test_what_was_not_asked_for_is_not_in_it():
    """No cache, no recall; no knowledge base, no grounding."""
    assert not {"recall", "grounding"} & receipt(answered()).keys()

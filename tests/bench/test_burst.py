from datetime import UTC, datetime

from bench.burst import generations, paraphrases, tiers

from headrace_schemas import Answer, Result, StageRecord, Usage
from headrace_schemas.job import derive_job_id
from headrace_schemas.recall import CacheTier, Recall

TOLD = Recall(tier=CacheTier.COALESCED, first_job=derive_job_id("default", "a"))
MADE = [StageRecord(stage=name, attempt=1, waited_ms=1, ran_ms=1, group_size=1) for name in ("recall", "generate")]


def result(recall, stages):
    answer = Answer(text="Yes.", finish_reason="stop", model="echo", quantization="none", recall=recall,
                    usage=Usage(prompt_tokens=1, completion_tokens=1))  # fmt: skip
    return Result(job_id=derive_job_id("default", "b"), tenant="default", stages=tuple(stages), status="completed",
                  kind="generation", answer=answer, accepted_at=datetime(2030, 1, 1, tzinfo=UTC))  # fmt: skip


def test_an_answer_counts_where_a_model_made_it():
    results = [result(Recall(), MADE), result(TOLD, MADE[:1]), result(TOLD, MADE[:1]), result(None, MADE[1:])]
    assert generations(results) == 2
    assert tiers(results) == {"none": 2, "exact": 0, "normalised": 0, "coalesced": 2, "semantic": 0}


def test_no_two_paraphrases_are_the_same():
    assert len(set(paraphrases(200))) == 200

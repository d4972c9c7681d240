from typing import Any

import pytest

from headrace_schemas import Answer, GenerationJob, Output, Usage
from headrace_schemas.codec import decode_job, decode_value
from headrace_schemas.recall import CacheMode
from headrace_workers.core.identity import audit_id, explored_id
from headrace_workers.core.ledger.steps import BATCH
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.features.cache.auditing import Auditing, twice
from headrace_workers.features.cache.semantic.lookup import Lookup
from headrace_workers.features.cache.semantic.questions import Neighbour
from headrace_workers.features.cache.store.audit_rows import NewAudit
from headrace_workers.features.cache.store.entries import Served

JOB = GenerationJob(model="small", prompt="Who?", tenant="shop", priority=9)
ANSWER = Answer(
    text="Ann.", finish_reason="stop", model="small", quantization="int8",
    usage=Usage(prompt_tokens=0, completion_tokens=0),
)  # fmt: skip


def job_id(number: int) -> str:
    return f"00000000-0000-5000-8000-{number:012d}"


def draw(auditing: Auditing, number: int = 1, similarity: float = 0.95) -> tuple[Any, ...]:
    """The rows of a serve: it, and its audit, if it is drawn."""
    served = Served(
        job_id=job_id(number), entry_id=7, tenant="shop", scope="ab" * 32, tier="semantic", similarity=similarity,
        first_job=job_id(0), saved_tokens=1, saved_ms=1.0,
    )  # fmt: skip
    output = Output(job_id=job_id(number), tenant="shop", answer=ANSWER)
    return auditing.draw(served, JOB.question, output, JOB)


def test_about_a_share_is_drawn_and_always_the_same() -> None:
    one, two = Auditing(Pipeline(), 0.2), Auditing(Pipeline(), 0.2)
    drawn = [n for n in range(2_000) if len(draw(one, n)) == 2]
    assert 320 < len(drawn) < 480
    assert drawn == sorted(n for n in reversed(range(2_000)) if len(draw(two, n)) == 2)
    assert {draw(one, n)[0].share for n in range(20)} == {0.2}


@pytest.mark.parametrize(
    ("similarity", "stratum"), [(0.5, 0), (0.9, 0), (0.93, 0), (0.94, 1), (0.97, 2), (0.99, 3), (1.0, 3)]
)
def test_the_stratum_is_that_of_the_similarity(similarity: float, stratum: int) -> None:
    for share in (0.0, 1.0):
        assert draw(Auditing(Pipeline(), share), similarity=similarity)[0].stratum == stratum


def test_an_audit_is_bulk_work_behind_all_other_for_the_model_of_its_job() -> None:
    _, audit = draw(Auditing(Pipeline(), 1.0))
    assert isinstance(audit, NewAudit)
    assert audit.id == audit_id(job_id(1), 7) != audit_id(job_id(2), 7)
    assert audit.afresh is not None
    step = audit.afresh.step
    assert (step.stage, step.queue, step.lane, step.rank, step.sized) == ("audit", "model.small", BATCH, 9, True)
    assert decode_job("generation", audit.afresh.job) == JOB
    assert decode_value(step.event_type, step.payload) == Output(job_id=job_id(1), tenant="shop", answer=ANSWER)
    assert (audit.question, audit.served, audit.tenant, audit.entry_id) == ("Who?", "Ann.", "shop", 7)


def test_an_audit_that_is_answered_twice_costs_twice() -> None:
    auditing = Auditing(Pipeline(), 1.0)
    tokens = {}
    for number in range(200):
        _, audit = draw(auditing, number)
        assert isinstance(audit, NewAudit)
        assert audit.afresh is not None
        tokens[audit.id] = audit.afresh.step.tokens
    once, both = sorted(set(tokens.values()))
    assert both == 2 * once
    assert {name for name, cost in tokens.items() if cost == both} == {name for name in tokens if twice(name)}
    assert 20 < sum(map(twice, tokens)) < 60


def test_what_is_nearly_served_is_drawn_with_the_chance_of_a_hit_and_makes_no_work() -> None:
    auditing = Auditing(Pipeline(), 0.2)
    assert 320 < sum(auditing.explores(job_id(n)) for n in range(2_000)) < 480
    assert not any(Auditing(Pipeline(), 0.0).explores(job_id(n)) for n in range(2_000))
    missed = Lookup(job_id(1), JOB, CacheMode.SEMANTIC)
    missed.kind, missed.near, missed.nearly = "refused", Neighbour(7, 0.75, "Whom?"), "Ann."
    audit = auditing.explore(missed)
    assert audit.id == explored_id(job_id(1)) != audit_id(job_id(1), 7)
    assert (audit.kind, audit.entry_id, audit.served, audit.question, audit.tenant) == (
        "refused", 7, "Ann.", "Who?", "shop",
    )  # fmt: skip
    assert (audit.share, audit.stratum, audit.afresh) == (0.2, 0, None)


def test_a_pipeline_without_the_stage_audits_nothing() -> None:
    alone = Auditing(Pipeline([stage for stage in Pipeline().stages if stage.name != "audit"]), 1.0)
    (served,) = draw(alone)
    assert (served.stratum, served.share) == (1, 0.0)
    assert not alone.explores(job_id(1))

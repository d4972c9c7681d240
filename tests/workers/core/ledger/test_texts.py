"""Jobs that bring a text, from the door to the receipt: embedding and moderation, on both databases."""

from functools import partial

import pytest
from tests.workers.core.ledger.test_work import begin, work, write
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import embedding, moderation

from headrace_schemas import DeadLetter, Result
from headrace_schemas.codec import decode_value
from headrace_schemas.job import Lane
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.tables import BUDGETS
from headrace_workers.features.knowledge.stage import embed
from headrace_workers.features.moderation.moderator import PolicyModerator
from headrace_workers.features.moderation.policy import Policy, Rule
from headrace_workers.features.moderation.secrets import SecretsDetector
from headrace_workers.features.moderation.step import moderate
from headrace_workers.testing import HashEmbedder

EMBED = partial(embed, embedder=HashEmbedder, embedder_alias="vectors")


def ends(ledger, job_ids):
    """The end of each of these jobs that has ended, as it was published."""
    return {job_id: decode_value(kind, value) for job_id, (kind, value) in ledger.terminals(job_ids).items()}


def test_a_text_comes_back_as_a_vector(ledger):
    good = take_in(ledger, [embedding(input=f"mill {n}", lane=Lane.BATCH) for n in range(5)])
    (bad,) = take_in(ledger, [embedding(input="mill " * 300, lane=Lane.BATCH)])
    started = begin(ledger, "embed", lane=1)
    assert len(started.steps) == 6
    write(ledger, started, work(embed=EMBED).do(started))
    found = ends(ledger, [*good, bad])
    assert found.keys() == {*good, bad}
    for number, job_id in enumerate(good):
        result = found[job_id]
        assert isinstance(result, Result)
        assert result.embedding.floats == tuple(HashEmbedder().embed([f"mill {number}"])[0].tolist())
        assert [(stage.stage, stage.group_size) for stage in result.stages] == [("embed", 6)]
    assert isinstance(found[bad], DeadLetter)
    assert "has 300 tokens, and vectors reads 256 at most" in found[bad].reason
    assert found[bad].topic == "jobs.embedding"
    assert ledger.active_jobs() == 0
    (letter,) = ledger.dead(DeadFilter())
    assert ledger.replay(DeadFilter(id=letter.id)) == (1, 0)
    assert len(begin(ledger, "embed", lane=1).steps) == 1


@pytest.mark.integration
def test_a_text_comes_back_as_a_verdict(ledger):
    moderator = PolicyModerator([SecretsDetector()], Policy({"secret": Rule("block")}))
    secret = "AKIAIOSFODNN7EXAMPLE"
    clean, text = take_in(ledger, [moderation(input="a mill"), moderation(input=f"the key is {secret}")])
    started = begin(ledger, "moderate")
    write(ledger, started, work(moderate=partial(moderate, moderator=moderator)).do(started))
    told = ends(ledger, [clean, text])
    assert {job_id: end.moderation.action for job_id, end in told.items()} == {clean: "allow", text: "block"}
    (finding,) = told[text].moderation.findings
    assert f"the key is {secret}"[finding.start : finding.end] == secret
    assert not any(secret.encode() in row.record.value for row in ledger.outbox(99))


@pytest.mark.parametrize("slow", [False, True])
def test_groups_of_texts_are_short(ledger, slow):
    """So that who looks something up by the same worker waits half a second: a slower group teaches a smaller one."""
    take_in(ledger, [embedding(input=f"mill {n}") for n in range(4)])
    started = begin(ledger, "embed")
    doing = work(embed=EMBED)
    quantum_ms = int(doing.quantum("embed") * 1000)
    assert quantum_ms == 500 < int(doing.quantum("recall") * 1000)
    ran_ms = 1_000 if slow else 100
    assert ledger.complete(started.claim_id, doing.do(started), ran_ms=ran_ms, quantum_ms=quantum_ms) is not None
    assert len(ledger.read(BUDGETS.select())) == slow

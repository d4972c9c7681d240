"""What likeness serves to jobs that ask for passages is audited with the passages of that moment."""

import pytest
from sqlalchemy import select
from tests.workers.features.cache.semantic.conftest import Flow, tiers
from tests.workers.features.cache.semantic.test_grounds import MILL, QUESTION, Recording, home, put, retrieval  # noqa: F401 - fixtures

from headrace_schemas import GenerationJob
from headrace_schemas.codec import decode_job, encode_value
from headrace_schemas.grounding import Grounding, WithoutPassages
from headrace_workers.core.ledger.change_feed import Follower
from headrace_workers.core.progress import Progress
from headrace_workers.features.cache.semantic.lookup import AnswerLookup
from headrace_workers.features.cache.semantic.nearest import NearestQuestions
from headrace_workers.features.cache.semantic.questions import Known, Questions
from headrace_workers.features.cache.store.audits import Audits
from headrace_workers.features.cache.tables import AUDITS
from headrace_workers.features.knowledge.grounding import NoGrounds, UnknownBase, afresh
from headrace_workers.testing import HashEmbedder


@pytest.fixture
def grounded(ledger, retrieval):  # noqa: F811
    put(ledger, {"mill.md": MILL})
    embedder = HashEmbedder()
    known = Known(embedder.dimensions)
    cache = AnswerLookup(ledger, lambda alias: f"{alias}/1", NearestQuestions(embedder, known, 0.7))
    flow = Flow(ledger, cache, retrieval, generator=Recording(), audit_share=1.0)
    flow.follower = Follower(Questions(ledger, known), Progress().loop("follow"))
    flow.follower.once()
    return flow


def served(flow, asks, knowledge):
    """Ask something, and the same in other words: the second job, which is served."""
    for number, prompt in enumerate((QUESTION, f"Then {QUESTION}")):
        (job,) = flow.send(asks(prompt, cache="semantic", knowledge=knowledge, idempotency_key=str(number)))
        flow.drain()
        flow.follower.once()
    assert tiers(flow, [job]) == ["semantic"]
    return job


def test_the_model_reads_the_passages(grounded, asks):
    served(grounded, asks, "docs")
    (first,) = grounded.generator.read
    assert grounded.run("model.echo", 1) == 1
    (_, again) = grounded.generator.read
    assert MILL in again[-1].content
    assert again[-1].content != first[-1].content  # the other words of the same question
    (audit,) = grounded.ledger.read(select(AUDITS))
    assert (audit.question, audit.label) == (f"Then {QUESTION}", "unknown")


def test_without_passages_its_audit_is_unknown(grounded, asks):
    """The job is served all the same; its audit stands among those that people are asked about."""
    grounded.retrieval = Nothing(grounded.retrieval)
    grounded.do()
    served(grounded, asks, "docs")
    assert grounded.run("model.echo", 1) == 0
    grounded.ledger.of(Audits).give_up()
    (audit,) = grounded.ledger.read(select(AUDITS))
    assert (audit.kind, audit.question, audit.label) == ("hit", f"Then {QUESTION}", "unknown")
    assert [row.id for row in grounded.ledger.of(Audits).unknown(None, None, 10)] == [audit.id]


class Nothing:
    """Finds passages once, and then fails."""

    def __init__(self, inner):
        self.retrieval, self.asked = inner, 0

    def find(self, jobs):
        self.asked += 1
        if self.asked == 1:
            return self.retrieval.find(jobs)
        from headrace_schemas.errors import Unavailable

        return [Unavailable("no embedder") for _ in jobs]


def test_what_would_go_on_without_passages_is_asked_without():
    """What would abstain is not asked; nor is a job whose passages nobody looked for."""
    none = NoGrounds(Grounding(knowledge="docs", floor=0.5, reason="nothing is relevant"))
    job = GenerationJob(model="echo", prompt=QUESTION, knowledge="docs")
    going_on = job.model_copy(update={"without_passages": WithoutPassages.ANSWER})
    assert afresh(job, none) is afresh(job, None) is afresh(job, UnknownBase("gone")) is None
    plain = GenerationJob(model="echo", prompt=QUESTION)
    assert afresh(going_on, none) == decode_job("generation", encode_value(plain)) == plain
    assert afresh(plain, None) is plain

"""Answers that rest on documents, from acceptance to their end, on each database."""

import pytest
from sqlalchemy import select
from tests.workers.recall.conftest import tiers
from tests.workers.recall.test_grounds import MILL, QUESTION, flow, home, put, retrieval  # noqa: F401 - fixtures

from headrace_workers.ledger.recall_tables import ENTRIES, USES

WINDMILL = "The mill by the river stood still all summer because the wind was weak."


@pytest.fixture
def asks(asks):
    """Makes a job that asks for documents, and for the cache."""
    numbers = iter(range(99))

    def make(prompt: str = QUESTION, **more: object):
        return asks(prompt, **{"knowledge": "docs", "idempotency_key": str(next(numbers))} | more)

    return make


def ask(flow, *jobs):  # noqa: F811 - the fixture
    """Answer these; their ids."""
    sent = flow.send(*jobs)
    flow.drain()
    return sent


def entries(flow):  # noqa: F811 - the fixture
    """State and end of each answer."""
    return [tuple(row) for row in flow.ledger.read(select(ENTRIES.c.state, ENTRIES.c.reason).order_by(ENTRIES.c.id))]


def test_an_answer_is_given_until_its_document_changes(flow, asks):  # noqa: F811
    """Then it is made anew, from what the document says now."""
    jobs = [*ask(flow, asks()), *ask(flow, asks())]
    put(flow.ledger, {"clock.md": "Another clock."}, sha256="2")  # the answer does not rest on it
    jobs += ask(flow, asks())
    put(flow.ledger, {"mill.md": WINDMILL}, sha256="2")
    jobs += ask(flow, asks())
    assert tiers(flow, jobs) == ["none", "exact", "exact", "none"]
    assert [WINDMILL in flow.result(job).answer.text for job in jobs] == [False, False, False, True]
    assert entries(flow) == [("dead", "document mill.md of knowledge base docs has changed"), ("live", None)]


def test_an_answer_from_what_a_document_said_before_is_its_own_jobs_alone(flow, asks):  # noqa: F811
    """The document changed after the model had read it; who waited for the answer makes one of its own."""
    first, second = flow.send(asks(), asks())
    flow.run("recall")
    flow.run("model.echo")
    put(flow.ledger, {"mill.md": WINDMILL}, sha256="2")
    flow.drain()
    texts = [flow.result(job).answer.text for job in (first, second)]
    assert sorted(WINDMILL in text for text in texts) == [False, True]
    assert sorted(MILL in text for text in texts) == [False, True]
    assert tiers(flow, [first, second]) == ["none", "none"]
    (third,) = ask(flow, asks())
    assert tiers(flow, [third]) == ["exact"]
    assert WINDMILL in flow.result(third).answer.text
    assert entries(flow) == [("live", None)]
    assert [row.sha256 for row in flow.ledger.read(select(USES.c.sha256))] == ["2"]

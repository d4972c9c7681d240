"""Answers that rest on documents, from acceptance to their end, on each database."""

import pytest
from sqlalchemy import delete, select, update
from tests.workers.features.cache.semantic.conftest import tiers
from tests.workers.features.cache.semantic.test_grounds import MILL, QUESTION, flow, home, put, retrieval  # noqa: F401 - fixtures

from headrace_workers.features.cache.tables import ENTRIES, USES
from headrace_workers.features.knowledge.store.documents import KnowledgeBases, NewDocument
from headrace_workers.features.knowledge.tables import DOCUMENTS

WINDMILL = "The mill by the river stood still all summer because the wind was weak."


@pytest.fixture
def asks(asks):
    numbers = iter(range(99))

    def make(prompt: str = QUESTION, **more: object):
        return asks(prompt, **{"knowledge": "docs", "idempotency_key": str(next(numbers))} | more)

    return make


def ask(flow, *jobs):  # noqa: F811 - the fixture
    sent = flow.send(*jobs)
    flow.drain()
    return sent


def entries(flow):  # noqa: F811 - the fixture
    return [tuple(row) for row in flow.ledger.read(select(ENTRIES.c.state, ENTRIES.c.reason).order_by(ENTRIES.c.id))]


def test_an_answer_is_given_until_its_document_changes(flow, asks):  # noqa: F811
    jobs = [*ask(flow, asks()), *ask(flow, asks())]
    put(flow.ledger, {"clock.md": "Another clock."}, sha256="2")  # the answer does not rest on it
    jobs += ask(flow, asks())
    put(flow.ledger, {"mill.md": WINDMILL}, sha256="2")
    jobs += ask(flow, asks())
    assert tiers(flow, jobs) == ["none", "exact", "exact", "none"]
    assert [WINDMILL in flow.result(job).answer.text for job in jobs] == [False, False, False, True]
    assert entries(flow) == [("dead", "document mill.md of knowledge base docs has changed"), ("live", None)]


def test_an_answer_from_what_a_document_said_before_is_its_own_jobs_alone(flow, asks):  # noqa: F811
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


RIVER = "Why stood the mill by the river still all summer? The weir was broken."


def test_a_new_document_ends_the_answers_that_would_rest_on_it(flow, asks):  # noqa: F811
    jobs = [*ask(flow, asks()), *ask(flow, asks())]
    put(flow.ledger, {"weir.md": RIVER})
    jobs += [*ask(flow, asks()), *ask(flow, asks())]
    assert tiers(flow, jobs) == ["none", "exact", "none", "exact"]
    cited = [{citation.document for citation in flow.result(job).answer.grounding.citations} for job in jobs]
    assert cited == [{"mill.md"}] * 2 + [{"mill.md", "weir.md"}] * 2
    assert entries(flow) == [
        ("dead", "its knowledge base has a newer document that it does not rest on"), ("live", None),
    ]  # fmt: skip


def test_a_new_document_about_something_else_ends_none(flow, asks):  # noqa: F811
    jobs = ask(flow, asks())
    put(flow.ledger, {"dogs.md": "Dogs bark at night, and cats do not."})
    jobs += ask(flow, asks())
    assert tiers(flow, jobs) == ["none", "exact"]


def test_what_an_answer_may_have_known_and_did_not_use_ends_it_for_some_seconds_only(flow, asks):  # noqa: F811
    first, *_ = ask(flow, asks())
    with flow.ledger.engine.begin() as connection:
        connection.execute(delete(USES))  # as if it had not been used
        connection.execute(update(DOCUMENTS).values(added_at=DOCUMENTS.c.added_at - 60_000))
    jobs = [first, *ask(flow, asks())]
    with flow.ledger.engine.begin() as connection:
        connection.execute(update(DOCUMENTS).values(added_at=DOCUMENTS.c.added_at + 60_000))
    jobs += ask(flow, asks())
    assert tiers(flow, jobs) == ["none", "exact", "none"]


def test_a_burst_after_a_new_document_is_answered_once(flow, asks):  # noqa: F811
    put(flow.ledger, {"weir.md": RIVER})
    jobs = ask(flow, *(asks() for _ in range(8)))
    assert sorted(tiers(flow, jobs)) == ["coalesced"] * 7 + ["none"]


def test_a_document_that_another_embedder_reads_anew_is_no_newer(ledger):
    (first,) = added(ledger, {})
    for change, newer in (({"embedder": "other"}, False), ({"sha256": "2"}, True), ({"attributes": {"a": 1}}, True)):
        with ledger.engine.begin() as connection:
            connection.execute(update(DOCUMENTS).values(added_at=first))
        (now,) = added(ledger, change)
        assert (now > first) == newer


def added(ledger, change):
    """When the document that is put became as it is: long before this, if it was so."""
    document = {
        "tenant": "t", "knowledge": "k", "name": "a.md", "sha256": "1", "format": "markdown", "size": 1,
        "embedder": "e", "chunks": [], **change,
    }  # fmt: skip
    ledger.of(KnowledgeBases).put(NewDocument(**document))
    if not change:
        with ledger.engine.begin() as connection:
            connection.execute(update(DOCUMENTS).values(added_at=DOCUMENTS.c.added_at - 60_000))
    return [row.added_at for row in ledger.of(KnowledgeBases).documents("t", "k", "", 9)]

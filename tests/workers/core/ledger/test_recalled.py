"""Wrong answers are called back: also from those who read them a moment before."""

from sqlalchemy import select
from tests.workers.features.cache.semantic.conftest import Flow, asks, flow, tiers  # noqa: F401 - fixtures
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.core.ledger.claims import Wanted
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.cache.tables import ENTRIES


def test_who_read_it_just_before_is_known_until_they_have_told(flow: Flow, asks):  # noqa: F811
    flow.send(asks(idempotency_key="1"))
    flow.drain()
    (late,) = flow.send(asks(idempotency_key="2"))
    ledger = flow.ledger
    (claim,) = ledger.claim([Wanted("recall", 0, 1, 9)], lease_ms=60_000, sender="b").claims
    (entry,) = [row.id for row in ledger.read(select(ENTRIES.c.id))]
    assert ledger.of(Answers).recall([], "none").looking_up == ()  # it has not begun
    started = ledger.start(claim.id, worker="w", lease_ms=60_000)
    settled = flow.work.do(started)
    recalled = ledger.of(Answers).recall([entry], "wrong")
    assert (recalled.killed, recalled.looking_up) == (1, (claim.id,))
    assert ledger.of(Answers).running(recalled.looking_up) == {claim.id}
    assert ledger.of(Answers).served([entry], 0, 9) == []
    ledger.complete(claim.id, settled, ran_ms=1, quantum_ms=5_000)
    assert ledger.of(Answers).running(recalled.looking_up) == frozenset()
    assert [row.job_id for row in ledger.of(Answers).served([entry], 0, 9)] == [late]


def test_an_answer_is_killed_once(flow: Flow, asks):  # noqa: F811
    flow.send(asks())
    flow.drain()
    (entry,) = [row.id for row in flow.ledger.read(select(ENTRIES.c.id))]
    assert flow.ledger.of(Answers).recall([entry], "first").killed == 1
    assert flow.ledger.of(Answers).recall([entry], "second").killed == 0
    assert flow.ledger.read(select(ENTRIES.c.reason)) == [("first",)]


def test_those_who_were_given_it_come_in_pages(flow: Flow, asks):  # noqa: F811
    (first,) = flow.send(asks(idempotency_key="first"))
    flow.drain()
    jobs = flow.send(*(asks(idempotency_key=str(n)) for n in range(5)))
    flow.drain()
    (answer,) = flow.ledger.of(Answers).of_job(first)
    assert answer.served == 5
    found, after = [], 0
    while page := flow.ledger.of(Answers).served([answer.entry_id], after, 2):
        assert len(page) <= 2
        found += [row.job_id for row in page]
        after = page[-1].id
    assert sorted(found) == sorted(jobs)

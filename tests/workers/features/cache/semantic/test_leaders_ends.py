"""How the end of who makes an answer is the end of those who wait for it, and how it is not."""

import pytest
from sqlalchemy import update
from tests.workers.features.cache.semantic.conftest import tiers
from tests.workers.features.cache.semantic.test_exact import entries

from headrace_schemas import Category, HeadraceError
from headrace_schemas.errors import PromptTooLong, Unavailable
from headrace_workers.core.ledger.claims import Wanted
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import CLAIMS, JOBS, STEPS
from headrace_workers.models.engines.echo import EchoGenerator


class Refuses(EchoGenerator):
    def __init__(self, error):
        super().__init__("echo")
        self._error = error

    @property
    def urgent(self):
        return self

    def generate(self, requests):
        return [self._error] * len(requests)


@pytest.mark.parametrize("error", [HeadraceError("it cannot"), PromptTooLong("it is too long")], ids=str)
def test_what_cannot_be_done_is_tried_once_for_all_who_ask_the_very_same(flow, asks, error):
    """They end as it did, and say so. Who asks for something else under the same words is no part of that."""
    flow.generator = Refuses(error)
    flow.do()
    jobs = flow.send(*(asks(idempotency_key=str(n)) for n in range(5)))
    flow.drain()
    assert len(flow.generated) == 1
    ends = [flow.result(job) for job in jobs]
    assert {end.category for end in ends} == {error.category}
    (first,) = [end.job_id for end in ends if end.reason == str(error)]
    others = {end.reason for end in ends if end.job_id != first}
    assert others == {f"the very same request of job {first} ended so: {error}"}
    assert entries(flow) == []


def test_what_kills_its_worker_does_so_no_more_for_all_who_ask_the_very_same(flow, asks):
    jobs = flow.send(*(asks(idempotency_key=str(n)) for n in range(5)))
    flow.run("recall")
    for _ in range(3):
        die(flow)
    assert sorted(flow.states(jobs)) == ["done"] + ["ready"] * 4
    flow.drain()
    assert {flow.result(job).category for job in jobs} == {Category.POISON}
    assert flow.generated == []


def die(flow):
    """A worker dies while it generates, alone."""
    (claim,) = flow.ledger.claim([Wanted("model.echo", 0, 1, 1)], lease_ms=60_000, sender="b").claims
    assert flow.ledger.start(claim.id, worker=f"w{claim.id}", lease_ms=60_000)
    with writing(flow.ledger.engine) as tx:
        tx.execute(update(CLAIMS).values(lease_until=1, renewed_at=0))
    flow.ledger.reap(3)


@pytest.mark.parametrize("what", ["asked otherwise", "may be tried again", "was withheld", "was replayed"])
def test_an_end_that_says_nothing_of_others_is_nobody_elses(flow, asks, what):
    leader, waiter = flow.send(asks(idempotency_key="1"), asks(idempotency_key="2"))
    flow.generator = Refuses(Unavailable("away") if what == "may be tried again" else HeadraceError("it cannot"))
    flow.do()
    flow.run("recall")
    if flow.states([leader]) == ["parked"]:
        leader, waiter = waiter, leader
    with writing(flow.ledger.engine) as tx:
        own = STEPS.c.job_id == leader
        match what:
            case "asked otherwise":
                other = asks("Name a lake.").model_dump_json(exclude_none=True).encode()
                tx.execute(update(JOBS).where(JOBS.c.id == leader).values(payload=other))
            case "may be tried again":
                tx.execute(update(STEPS).where(own, STEPS.c.stage == "generate").values(attempts=99))
            case "was withheld":
                tx.execute(update(STEPS).where(own, STEPS.c.stage == "generate").values(state="held", held_at=1))
    if what == "was withheld":
        flow.ledger.withhold([leader], "no")
    else:
        flow.run("model.echo")
    if what == "was replayed":
        assert flow.ledger.replay(DeadFilter()) == (1, 0)
    flow.generator = EchoGenerator("echo")
    flow.do()
    flow.drain()
    assert tiers(flow, [waiter]) == ["none"]

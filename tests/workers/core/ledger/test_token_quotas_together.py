"""Two processes at the quotas of tenants at a time. On PostgreSQL; SQLite has one writer at a time."""

from collections.abc import Callable, Iterator

import pytest
from tests.workers.core.ledger.test_locks import Meanwhile, ledger_url  # noqa: F401 - a fixture
from tests.workers.core.ledger.test_token_quotas import gateway_says, sound_refusal, state

from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.features.access.store import quotas
from headrace_workers.features.access.store.quotas import Quotas, WantedQuota

Make = Callable[..., NewJob]


@pytest.fixture
def other(ledger_url: str) -> Iterator[Ledger]:  # noqa: F811
    ledger = Ledger.at(ledger_url)
    yield ledger
    ledger.close()


@pytest.mark.parametrize(("tokens", "new", "reserved"), [(100, 1, 100), (101, 0, 10)])
def test_a_bridge_reads_what_a_gateway_reserves_at_this_moment(
    ledger: Ledger, other: Ledger, job: Make, tokens: int, new: int, reserved: int
):
    ledger.of(Quotas).put("a", 100, "ever")
    large = job(tokens=tokens)
    with writing(ledger.engine) as tx:
        assert quotas.reserve(tx, [WantedQuota(large.id, "a", 10, digest="small")], adopt=False) == {}
        taking_in = Meanwhile(ledger, lambda: other.ingest([large]))
        assert not taking_in.ended
    assert (taking_in.result().new, state(ledger)) == (new, (0, reserved))


def test_of_two_gateways_that_reserve_for_one_id_the_second_pays_only_the_rest(ledger: Ledger, other: Ledger):
    ledger.of(Quotas).put("a", 100, "ever")
    with writing(ledger.engine) as tx:
        quotas.reserve(tx, [WantedQuota("x", "a", 60)], adopt=False)
        second = Meanwhile(ledger, lambda: other.of(Quotas).reserve([WantedQuota("x", "a", 100)]))
        assert not second.ended
    assert (second.result(), state(ledger)) == ({}, (0, 100))


def test_a_refusal_beside_a_job_of_another_tenant_waits_for_nobody_in_a_circle(
    ledger: Ledger, other: Ledger, job: Make
):
    value, digest = gateway_says("p")
    late, of_b = job(), job(tenant="b")
    for tenant in ("a", "b"):
        ledger.of(Quotas).put(tenant, 100, "ever")
    ledger.of(Quotas).reserve([WantedQuota(late.id, "a", 10, digest=digest)])
    ledger.of(Quotas).reserve([WantedQuota("theirs", "b", 10, digest=digest)])
    with writing(ledger.engine) as tx:
        quotas.reserve(tx, [WantedQuota("another", "a", 5)], adopt=True, also={"b"})
        refusing = Meanwhile(ledger, lambda: other.ingest([of_b], [sound_refusal(late.id, value, 1)]))
        assert not refusing.ended
        quotas.release(tx, [("theirs", digest)])
    assert refusing.result().new == 1
    assert (state(ledger, "a"), state(ledger, "b")) == ((0, 5), (0, 10))

import pytest
from sqlalchemy import insert, select
from tests.workers.changed_settings import changed
from tests.workers.core.ledger.test_work import settings
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.core.sql.database import now_ms, writing
from headrace_workers.core.tables import CHANGES
from headrace_workers.features.cache.feature import FEATURE
from headrace_workers.features.cache.settings import CacheSettings
from headrace_workers.features.cache.store import removal
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.cache.store.entries import Served, kill
from headrace_workers.features.cache.tables import ENTRIES

DAY = 86_400_000


def keep(ledger, tenant, count, *, days=1.0, saved_ms=100.0, state="live"):
    """So many answers of a tenant; their ids."""
    with writing(ledger.engine) as tx:
        return [
            tx.execute(
                insert(ENTRIES)
                .values(
                    scope="s", key=f"{tenant} {days} {saved_ms} {number}", tenant=tenant, state=state, job_id="j",
                    lane=0, answer=b"x", saved_ms=saved_ms, made_at=now_ms() - int(days * DAY), expires_at=2**60,
                )
                .returning(ENTRIES.c.id)
            ).scalar_one()
            for number in range(count)
        ]  # fmt: skip


def give(ledger, entry_id, times):
    served = Served(job_id="j", entry_id=entry_id, tenant="a", scope="s", tier="exact", similarity=None,
                    first_job="f", saved_tokens=1, saved_ms=1.0)  # fmt: skip
    with writing(ledger.engine) as tx:
        for _ in range(times):
            served.write(tx)


def kept(ledger, tenant):
    query = select(ENTRIES.c.id).where(ENTRIES.c.tenant == tenant, ENTRIES.c.state == "live").order_by(ENTRIES.c.id)
    return [row.id for row in ledger.read(query)]


def test_one_over_its_quota_does_not_touch_another(ledger):
    mine, theirs = keep(ledger, "a", 7), keep(ledger, "b", 5, days=9)  # which are worth less
    keep(ledger, "b", 5, days=2, state="pending")
    dying = keep(ledger, "b", 3, days=3)
    with writing(ledger.engine) as tx:
        kill(tx, dying, "old")
    assert ledger.of(Answers).evict(5) == 2
    assert (len(kept(ledger, "a")), kept(ledger, "b")) == (5, theirs)
    assert ledger.of(Answers).evict(5) == 0
    gone = set(mine) - set(kept(ledger, "a"))
    (reason,) = {row.reason for row in ledger.read(select(ENTRIES.c.reason).where(ENTRIES.c.id.in_(gone)))}
    assert "more than 5 answers" in reason
    told = {row.subject for row in ledger.read(select(CHANGES.c.subject))}
    assert gone < told


def test_what_is_worth_least_goes_first(ledger):
    (given,) = keep(ledger, "a", 1, days=6)
    (costly,) = keep(ledger, "a", 1, days=5, saved_ms=5_000.0)
    (old,) = keep(ledger, "a", 1, days=4)
    (young,) = keep(ledger, "a", 1, days=0)
    give(ledger, given, 20)
    left = []
    for most in (3, 2, 1):
        assert ledger.of(Answers).evict(most) == 1
        left.append(set(kept(ledger, "a")))
    assert left == [{given, costly, young}, {costly, young}, {young}]
    assert old not in left[0]


def test_of_equals_the_oldest_goes(ledger):
    older, newer = keep(ledger, "a", 3, days=2, saved_ms=0), keep(ledger, "a", 3, days=1, saved_ms=0)
    assert ledger.of(Answers).evict(3) == 3
    assert kept(ledger, "a") == newer
    assert older


@pytest.mark.parametrize("place", [0, 3, 100])
def test_a_bounded_number_goes_at_once(ledger, monkeypatch, place):
    """Wherever the look begins, the tenant with the most answers comes first, and in the end no tenant keeps too
    many."""
    monkeypatch.setattr(removal, "EVICTED_AT_ONCE", 2)
    monkeypatch.setattr(removal, "COMPARED", 4)
    monkeypatch.setattr(removal.random, "randint", lambda low, high: min(place, high))
    keep(ledger, "a", 6), keep(ledger, "b", 9)
    assert ledger.of(Answers).evict(4) == 2
    assert (len(kept(ledger, "a")), len(kept(ledger, "b"))) == (6, 7)
    while ledger.of(Answers).evict(4):
        pass
    assert (len(kept(ledger, "a")), len(kept(ledger, "b"))) == (4, 4)


def test_a_bridge_evicts_by_the_deployment_s_quota(ledger):
    keep(ledger, "a", 7)
    assert FEATURE.upkeep(changed(settings(), CacheSettings(cache_max_entries=0)), ledger) is None
    evict = FEATURE.upkeep(changed(settings(), CacheSettings(cache_max_entries=5)), ledger)
    assert [evict(), evict()] == [2, 0]
    assert len(kept(ledger, "a")) == 5

import pytest
from sqlalchemy import update
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.features.access.store.keys import ApiKeys, NewKey
from headrace_workers.features.access.tables import API_KEYS


def key(key_id: str, tenant: str = "shop", lives_ms: int | None = None) -> NewKey:
    return NewKey(key_id, tenant, "of a test", ("jobs:read", "jobs:write"), "d" * 64, lives_ms)


def valid(ledger: Ledger) -> set[str]:
    return {row.id for row in ledger.of(ApiKeys).listed() if row.valid}


def pass_time(ledger: Ledger, ms: int) -> None:
    with writing(ledger.engine) as tx:
        tx.execute(update(API_KEYS).values(expires_at=API_KEYS.c.expires_at - ms, made_at=API_KEYS.c.made_at - ms))


def test_a_key_is_kept_as_it_was_made(ledger: Ledger):
    ledger.of(ApiKeys).add(key("k1"))
    ledger.of(ApiKeys).add(key("k2", "other", lives_ms=1_000))
    found = ledger.of(ApiKeys).find(["k1", "k3"])
    assert set(found) == {"k1"}
    row = found["k1"]
    assert (row.tenant, row.scopes, row.digest, row.expires_at) == ("shop", ("jobs:read", "jobs:write"), "d" * 64, None)
    assert [row.id for row in ledger.of(ApiKeys).listed("other")] == ["k2"]
    assert valid(ledger) == {"k1", "k2"}


def test_a_key_expires(ledger: Ledger):
    ledger.of(ApiKeys).add(key("k1", lives_ms=5_000))
    pass_time(ledger, 6_000)
    assert valid(ledger) == set()
    assert not ledger.of(ApiKeys).revoke("k1")


def test_a_key_is_revoked_once(ledger: Ledger):
    ledger.of(ApiKeys).add(key("k1"))
    assert ledger.of(ApiKeys).revoke("k1")
    assert not ledger.of(ApiKeys).revoke("k1")
    assert not ledger.of(ApiKeys).revoke("none")
    assert ledger.of(ApiKeys).find(["k1"])["k1"].revoked_at is not None
    assert valid(ledger) == set()


@pytest.mark.parametrize(("lives", "later"), [(None, {"k2"}), (1_000, {"k2"})])
def test_a_key_is_rotated_with_a_grace(ledger: Ledger, lives: int | None, later: set[str]):
    """Both open for a while, but for no longer than the old one would have."""
    ledger.of(ApiKeys).add(key("k1", lives_ms=lives))
    assert ledger.of(ApiKeys).rotate("k1", key("k2"), grace_ms=60_000)
    assert valid(ledger) == {"k1", "k2"}
    pass_time(ledger, 1_500 if lives else 61_000)
    assert valid(ledger) == later


def test_what_is_not_valid_is_not_rotated(ledger: Ledger):
    ledger.of(ApiKeys).add(key("k1"))
    ledger.of(ApiKeys).revoke("k1")
    assert not ledger.of(ApiKeys).rotate("k1", key("k2"), grace_ms=0)
    assert not ledger.of(ApiKeys).rotate("none", key("k2"), grace_ms=0)
    assert [row.id for row in ledger.of(ApiKeys).listed()] == ["k1"]

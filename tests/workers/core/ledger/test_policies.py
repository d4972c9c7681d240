"""A policy that is switched on, or refused, is one event, however many workers see it."""

from concurrent.futures import ThreadPoolExecutor, wait

from sqlalchemy import update
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_schemas.codec import decode_value
from headrace_schemas.policy import PolicyRefused, PolicySwitched
from headrace_schemas.topics import Topic
from headrace_workers.core.sql.database import alone, writing
from headrace_workers.features.moderation.store import KEY, Policies
from headrace_workers.features.moderation.tables import POLICIES


def told(ledger):
    """What was, in order; each is forgotten then."""
    rows = ledger.outbox(100)
    ledger.published([row.id for row in rows])
    assert all((row.record.topic, row.record.key) == (Topic.POLICIES, KEY) for row in rows)
    assert all(row.record.headers["ce_partitionkey"] == KEY and "ce_subject" not in row.record.headers for row in rows)
    return [decode_value(row.record.headers["ce_type"], row.record.value) for row in rows]


def switched(before, version, tenant=None):
    return PolicySwitched(tenant=tenant, before=before, version=version)


def test_the_first_policy_is_no_switch_and_another_one_is_told_once(ledger):
    for versions in ({"": "a"}, {"": "a"}):
        ledger.of(Policies).note(versions, None, switched=True)
    assert told(ledger) == []
    for _ in range(3):
        ledger.of(Policies).note({"": "b"}, None, switched=True)
    assert told(ledger) == [switched("a", "b")]
    ledger.of(Policies).note({"": "a"}, None, switched=True)
    assert told(ledger) == [switched("b", "a")]


def test_two_at_one_moment_tell_it_once(ledger):
    ledger.of(Policies).note({"": "a"}, None, switched=True)
    with ThreadPoolExecutor(1) as pool:
        with writing(ledger.engine) as tx:
            alone(tx, KEY)
            waits = pool.submit(ledger.of(Policies).note, {"": "b"}, None, switched=True)
            assert not wait([waits], timeout=0.5).done
            tx.execute(update(POLICIES).values(version="b"))
        assert waits.result() == 0
    assert told(ledger) == []


def test_a_tenants_own_policy_is_told_apart(ledger):
    ledger.of(Policies).note({"": "a"}, None, switched=True)
    ledger.of(Policies).note({"": "a", "mill": "a", "shop": "b"}, None, switched=True)
    assert told(ledger) == [switched("a", "b", "shop")]
    ledger.of(Policies).note({"": "c", "mill": "a", "shop": "d"}, None, switched=True)
    assert told(ledger) == [switched("a", "c"), switched("b", "d", "shop")]
    ledger.of(Policies).note({"": "c"}, None, switched=True)
    assert told(ledger) == [switched("a", "c", "mill"), switched("d", "c", "shop")]


def test_a_refused_policy_is_told_once_with_what_holds(ledger):
    ledger.of(Policies).note({"": "a"}, None, switched=True)
    for _ in range(2):
        ledger.of(Policies).note({"": "a"}, "line 2: no", switched=False)
    assert told(ledger) == [PolicyRefused(version="a", reason="line 2: no")]
    ledger.of(Policies).note({"": "a"}, "line 3: no" + "!" * 3_000, switched=False)
    (again,) = told(ledger)
    assert again.reason.startswith("line 3: no!")
    ledger.of(Policies).note({"": "a"}, None, switched=False)
    ledger.of(Policies).note({"": "a"}, "line 2: no", switched=False)
    assert told(ledger) == [PolicyRefused(version="a", reason="line 2: no")]
    ledger.of(Policies).note({"": "b"}, None, switched=True)
    assert told(ledger) == [switched("a", "b")]


def test_who_refuses_what_others_go_by_takes_nothing_back(ledger):
    ledger.of(Policies).note({"": "a"}, None, switched=True)
    ledger.of(Policies).note({"": "b"}, None, switched=True)
    ledger.of(Policies).note({"": "a"}, "no such list here", switched=False)
    assert told(ledger) == [switched("a", "b"), PolicyRefused(version="a", reason="no such list here")]
    ledger.of(Policies).note({"": "b"}, None, switched=True)
    assert told(ledger) == []

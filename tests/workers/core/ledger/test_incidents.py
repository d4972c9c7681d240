import time

from sqlalchemy import select, update
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import INCIDENTS


def age(ledger, ms):
    with writing(ledger.engine) as tx:
        tx.execute(update(INCIDENTS).values(since=INCIDENTS.c.since - ms, seen_at=INCIDENTS.c.seen_at - ms))


def test_troubles_are_told_and_end(ledger):
    """Each holder tells all of its own, a duty at a time; since when stays; what nobody says any more is forgotten."""
    ledger.tell("a", "ingest", {"": "no partitions", "t-0": "cannot be read"})
    ledger.tell("a", "relay", {"": "no broker"})
    ledger.tell("b", "ingest", {"": "no partitions"})
    [since] = {t.since for t in ledger.open_incidents() if (t.holder, t.subject) == ("a", "ingest")}
    time.sleep(0.01)
    ledger.tell("a", "ingest", {"": "still none"})
    told = {(t.holder, t.subject): t for t in ledger.open_incidents()}
    assert {place: t.reason for place, t in told.items()} == {
        ("a", "ingest"): "still none", ("a", "relay"): "no broker", ("b", "ingest"): "no partitions"
    }  # fmt: skip
    assert told["a", "ingest"].since == since
    ledger.tell("a", "ingest", {})
    assert len(ledger.open_incidents()) == 2
    with writing(ledger.engine) as tx:
        tx.execute(update(INCIDENTS).values(seen_at=INCIDENTS.c.seen_at - 61_000))
    assert ledger.open_incidents() == []
    ledger.prune(0)
    assert ledger.read(select(INCIDENTS.c.holder)) == []


def test_what_is_said_again_is_not_forgotten(ledger):
    ledger.tell("a", "relay", {"": "no broker"})
    ledger.tell("b", "relay", {"": "no broker"})
    age(ledger, 31_000)
    assert len(ledger.open_incidents()) == 2
    ledger.tell("a", "relay", {"": "no broker"})
    age(ledger, 31_000)
    ledger.prune(0)
    ((holder, seen, since),) = ledger.read(select(INCIDENTS.c.holder, INCIDENTS.c.seen_at, INCIDENTS.c.since))
    assert (holder, [trouble.holder for trouble in ledger.open_incidents()]) == ("a", ["a"])
    assert seen - since >= 31_000


def test_nobody_ends_anothers_trouble(ledger):
    ledger.tell("a", "ingest", {"t-0": "x"})
    ledger.tell("b", "ingest", {"t-1": "x"})
    assert [(trouble.holder, trouble.subject) for trouble in ledger.open_incidents()] == [
        ("a", "ingest t-0"), ("b", "ingest t-1")
    ]  # fmt: skip
    ledger.tell("b", "ingest", {})
    assert [trouble.holder for trouble in ledger.open_incidents()] == ["a"]


def test_what_began_first_is_told_first(ledger):
    ledger.tell("a", "ingest", {"t-1": "x", "t-0": "x", "t-2": "x"})
    ledger.tell("a", "relay", {"": "no broker"})
    with writing(ledger.engine) as tx:
        tx.execute(update(INCIDENTS).values(since=7))
        tx.execute(update(INCIDENTS).where(INCIDENTS.c.subject == "relay").values(since=5))
    told = [trouble.subject for trouble in ledger.open_incidents()]
    assert told == ["relay", "ingest t-0", "ingest t-1", "ingest t-2"]


def test_a_reason_and_a_name_are_of_bounded_length(ledger):
    ledger.tell("a", "ingest", {"t" * 300: "x" * 3_000})
    (told,) = ledger.open_incidents()
    assert (len(told.subject), len(told.reason)) == (255, 2_000)

import pytest
from sqlalchemy import insert, select, update

from headrace_workers.core.feature import installed
from headrace_workers.core.ledger import change_feed
from headrace_workers.core.ledger.change_feed import BEFORE_ALL
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import CHANGES
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.cache.tables import ENTRIES, ENTRY
from headrace_workers.features.knowledge.tables import DOCUMENT


def _entry(tx, key):
    """A live entry that was just admitted; its id."""
    row = {"scope": "s", "key": key, "tenant": "a", "state": "live", "job_id": key, "lane": 0, "question": key,
           "vector": b"v", "made_at": 1, "expires_at": 2**60}  # fmt: skip
    entry_id = tx.execute(insert(ENTRIES).values(row).returning(ENTRIES.c.id)).scalar_one()
    change_feed.note(tx, [entry_id], "entry")
    return entry_id


def test_changes_come_in_order_and_once(ledger):
    with writing(ledger.engine) as tx:
        ids = [_entry(tx, str(number)) for number in range(5)]
    position, seen = BEFORE_ALL, []
    while found := ledger.of(Answers).changed(position, 2):
        seen += [change.entry_id for change in found]
        position = found[-1].position
    assert seen == ids
    assert {change.question for change in ledger.of(Answers).changed(BEFORE_ALL, 9)} == set("01234")


def test_a_change_tells_what_the_entry_is_now(ledger):
    from headrace_workers.features.cache.store.entries import kill

    with writing(ledger.engine) as tx:
        first, second = _entry(tx, "a"), _entry(tx, "b")
    with writing(ledger.engine) as tx:
        kill(tx, [first], "wrong")
    with writing(ledger.engine) as tx:
        tx.execute(ENTRIES.delete().where(ENTRIES.c.id == second))
    assert [(change.entry_id, change.vector) for change in ledger.of(Answers).changed(BEFORE_ALL, 9)] == [
        (first, None), (second, None), (first, None),
    ]  # fmt: skip


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
def test_a_slow_writer_is_waited_for(ledger):
    """The slow writer got its numbers first; the reader sees neither change before the slow writer has ended, and then
    both."""
    slow = ledger.engine.connect()
    before = slow.begin()
    first = _entry(slow, "slow")
    with writing(ledger.engine) as tx:
        second = _entry(tx, "fast")
    try:
        assert ledger.of(Answers).changed(BEFORE_ALL, 9) == []
        begun_at = ledger.horizon()
        before.commit()
    finally:
        slow.close()
    assert [change.entry_id for change in ledger.of(Answers).changed(BEFORE_ALL, 9)] == [first, second]
    assert [change.entry_id for change in ledger.of(Answers).changed(begun_at, 9)] == [first, second]


def test_the_horizon_is_behind_all_that_was_committed(ledger):
    with writing(ledger.engine) as tx:
        _entry(tx, "a")
    begun_at = ledger.horizon()
    assert ledger.of(Answers).changed(begun_at, 9) == []
    with writing(ledger.engine) as tx:
        second = _entry(tx, "b")
    assert [change.entry_id for change in ledger.of(Answers).changed(begun_at, 9)] == [second]


def test_the_last_change_of_each_kind_outlives_the_others(ledger):
    kinds = sorted(kind for feature in installed() for kind in feature.change_kinds)
    assert kinds == [DOCUMENT, ENTRY]
    for kind in kinds:
        for subject in (1, 2):
            with writing(ledger.engine) as tx:
                change_feed.note(tx, [subject], kind)
    with writing(ledger.engine) as tx:
        tx.execute(update(CHANGES).values(at=CHANGES.c.at - change_feed.KEPT_MS - 60_000))
    assert ledger.prune(1_000) is False
    assert sorted(ledger.read(select(CHANGES.c.kind, CHANGES.c.subject))) == [(DOCUMENT, 2), (ENTRY, 2)]

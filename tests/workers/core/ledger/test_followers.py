from sqlalchemy import update
from tests.workers.core.ledger.test_documents import document
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.core.ledger.change_feed import BEFORE_ALL
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import CHANGES, FOLLOWERS
from headrace_workers.features.knowledge.store.documents import KnowledgeBases


def seen(ledger):
    return [(follower.holder, follower.kind, follower.behind) for follower in ledger.overview().followers]


def test_changes_that_were_not_taken_in_are_counted(ledger):
    ledger.of(KnowledgeBases).put(document())
    ledger.report_position("w", "entry", BEFORE_ALL)
    ledger.report_position("w", "document", ledger.horizon())
    assert seen(ledger) == [("w", "document", 0), ("w", "entry", 0)]
    assert ledger.overview().followers[0].lag_ms == 0
    for sha in "23":
        ledger.of(KnowledgeBases).put(document(sha=sha))
    with writing(ledger.engine) as tx:
        tx.execute(update(CHANGES).values(at=CHANGES.c.at - 3_600_000))
    assert seen(ledger) == [("w", "document", 2), ("w", "entry", 0)]
    assert 3_600_000 <= ledger.overview().followers[0].lag_ms < 4_000_000
    first, last = ledger.of(KnowledgeBases).changed(BEFORE_ALL, 9)[1:]
    ledger.report_position("w", "document", first.position)
    ledger.report_position("v", "document", last.position)
    assert seen(ledger) == [("v", "document", 0), ("w", "document", 1), ("w", "entry", 0)]


def test_who_says_nothing_is_gone(ledger):
    ledger.report_position("w", "entry", BEFORE_ALL)
    ledger.report_position("v", "entry", BEFORE_ALL)
    with writing(ledger.engine) as tx:
        tx.execute(update(FOLLOWERS).where(FOLLOWERS.c.holder == "w").values(seen_at=FOLLOWERS.c.seen_at - 61_000))
    assert seen(ledger) == [("v", "entry", 0)]
    ledger.prune(1)
    assert [row.holder for row in ledger.read(FOLLOWERS.select())] == ["v"]

"""People who ask for one item at the same moment, and decide about it at the same moment."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import func, select, text
from tests.services.eventually import eventually
from tests.services.tables import postgres_tables
from tests.workers.features.reviews.review_rows import ANN, BOB, EVE, ended, good

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.tables import JOBS
from headrace_workers.features.quality.tables import LABELS
from headrace_workers.features.reviews.decision import Conflict
from headrace_workers.features.reviews.store import Reviews
from headrace_workers.features.reviews.tables import REVIEW_ASSIGNMENTS, REVIEW_DECISIONS, REVIEW_ITEMS

PEOPLE = (ANN, BOB, EVE)
_WAITS = text("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
AT_ONCE_OVER, LONG = 1, 600_000  # leases in ms


def test_a_job_is_not_deleted_while_somebody_decides_about_it(postgres):
    """Else its labels would be refused, since nobody knows the job any more."""
    name = f"deleted_{uuid4().hex[:8]}"
    url = postgres_tables(postgres, name)
    ledger = Ledger.at(url)
    _, one = ended(ledger)
    lease = ledger.of(Reviews).next(ANN, LONG).lease
    with ThreadPoolExecutor() as pool, psycopg.connect(url.replace("+psycopg", "")) as other:
        other.execute("SELECT 1 FROM review_items FOR UPDATE")
        decided = pool.submit(ledger.of(Reviews).decide, ANN, one, good(lease))
        eventually(lambda: ledger.read(_WAITS))
        ledger.prune(-1_000)
        other.commit()
        assert decided.result(60).item.state == "done"
    assert ledger.read(select(func.count()).select_from(LABELS))[0][0] == 1
    ledger.prune(-1_000)
    assert ledger.read(select(func.count()).select_from(JOBS))[0][0] == 0
    ledger.close()


@pytest.mark.parametrize("times", [30, pytest.param(1_000, marks=pytest.mark.slow)])
def test_never_more_leases_or_decisions_than_wanted(ledger_url, times):
    """Every third item's leases end at once: all are given it, and all decide late."""
    times = min(times, 200) if ledger_url.startswith("sqlite") else times
    ledgers = [Ledger.at(ledger_url) for _ in PEOPLE]
    wanted = {f"r{n}": 1 + n % 2 for n in range(times)}
    for rule, people in wanted.items():
        ended(ledgers[0], id=str(uuid4()), rule=rule, wanted=people)
    together = threading.Barrier(len(PEOPLE))
    given, late, errors = Counter(), Counter(), []

    def takes_part(ledger, person):
        reviews = ledger.of(Reviews)
        try:
            for n, rule in enumerate(wanted):
                together.wait(60)
                item = reviews.next(person, AT_ONCE_OVER if n % 3 == 0 else LONG, rule=rule)
                given[rule] += item is not None
                together.wait(60)
                try:
                    if item is not None:
                        reviews.decide(person, item.row.id, good(item.lease))
                except Conflict:
                    late[rule] += 1
        except Exception as error:
            errors.append(error)
            together.abort()

    threads = [threading.Thread(target=takes_part, args=row) for row in zip(ledgers, PEOPLE, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    items = REVIEW_ITEMS.c
    found = {row.rule: row for row in ledgers[0].read(select(items.rule, items.id, items.decided, items.state))}
    assert {rule: (row.decided, row.state) for rule, row in found.items()} == {
        rule: (people, "done") for rule, people in wanted.items()
    }
    for table, column in ((REVIEW_DECISIONS, "item_id"), (LABELS, "item")):
        rows = ledgers[0].read(select(table.c[column], func.count()).group_by(table.c[column]))
        assert dict(map(tuple, rows)) == {row.id: wanted[rule] for rule, row in found.items()}
    lasting = [rule for n, rule in enumerate(wanted) if n % 3]
    assert {rule: given[rule] for rule in lasting} == {rule: wanted[rule] for rule in lasting}
    assert not any(late[rule] for rule in lasting)
    states = ledgers[0].read(select(REVIEW_ASSIGNMENTS.c.state, func.count()).group_by(REVIEW_ASSIGNMENTS.c.state))
    assert dict(map(tuple, states))["decided"] == sum(wanted.values())
    for ledger in ledgers:
        ledger.close()

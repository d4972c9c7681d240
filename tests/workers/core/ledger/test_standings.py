"""How scopes stand, as the ledger keeps it: what was found last counts, but for what a person did meanwhile."""

from dataclasses import replace

from sqlalchemy import update
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.core.sql.database import writing
from headrace_workers.features.cache.store.audits import Audits, ScopeStanding, Seen
from headrace_workers.features.cache.tables import STANDINGS

NOTHING = Seen((), 0)
FIRST = ScopeStanding(scope="ab" * 32, tenant="shop")


def write(ledger, **changes):
    ledger.of(Audits).judge(replace(FIRST, **{"sentence": "told", **changes}), NOTHING)


def found(ledger):
    (one,) = ledger.of(Audits).standings()
    return one


def test_what_was_found_last_counts(ledger):
    write(ledger, figures={"wrong": 0})
    with writing(ledger.engine) as tx:
        tx.execute(update(STANDINGS).values(changed_at=1))
    write(ledger, figures={"wrong": 1, "recent": None}, sentence="later")
    same = found(ledger)
    assert (same.changed_at, same.sentence, same.figures) == (1, "later", {"wrong": 1, "recent": None})
    assert [row.state for row in ledger.of(Audits).limiting()] == ["not yet shown"]
    write(ledger, state="shown")
    assert found(ledger).changed_at > 1
    assert [(row.scope, row.state) for row in ledger.of(Audits).limiting()] == [("ab" * 32, "shown")]


def test_one_that_is_off_stays_off_until_it_is_opened(ledger):
    write(ledger, state="off", sentence="Broken: 2 of 2")
    since = found(ledger).changed_at
    write(ledger, state="shown", sentence="Holds", figures={"wrong": 0})
    still = found(ledger)
    assert (still.state, still.sentence, still.figures, still.changed_at) == (
        "off", "Broken: 2 of 2", {"wrong": 0}, since,
    )  # fmt: skip
    assert [row.sentence for row in ledger.of(Audits).limiting()] == ["Broken: 2 of 2"]


def test_who_counted_before_it_was_opened_writes_nothing(ledger):
    """Else a scope would be off again at once, for what was found before."""
    write(ledger, state="off", sentence="Broken: 2 of 2")
    assert ledger.of(Audits).reopen("ab" * 32)
    write(ledger, state="off", sentence="Broken: 3 of 3")
    opened = found(ledger)
    assert (opened.state, opened.figures) == ("not yet shown", {})
    assert 0 < opened.since <= opened.changed_at  # the clock is asked twice
    write(ledger, state="shown", since=opened.since)
    assert found(ledger).state == "shown"


def test_those_that_are_off_come_first_and_are_troubles(ledger):
    for scope, tenant, state in (("aa", "shop", "shown"), ("bb", "shop", "off"), ("ba", "other", "off")):
        ledger.of(Audits).judge(replace(FIRST, scope=scope * 32, tenant=tenant, state=state, sentence="told"), NOTHING)
    assert [standing.scope[:2] for standing in ledger.of(Audits).standings()] == ["ba", "bb", "aa"]
    assert [standing.scope[:2] for standing in ledger.of(Audits).standings("shop")] == ["bb", "aa"]
    assert [standing.scope[:2] for standing in ledger.of(Audits).standings(scope="b")] == ["ba", "bb"]
    assert {incident.subject for incident in ledger.overview().incidents} == {
        "scope babababa of the tenant other", "scope bbbbbbbb of the tenant shop",
    }  # fmt: skip


def test_a_scope_is_read_as_it_was_written(ledger):
    one = replace(FIRST, state="shown", sentence="so", figures={"a": 1}, since=4)
    write(ledger, scope="zz" * 32)
    before = ledger.now()
    ledger.of(Audits).judge(one, NOTHING)
    (found,) = ledger.of(Audits).standings(scope="ab")
    assert before <= found.changed_at <= ledger.now()
    assert found == replace(one, changed_at=found.changed_at)
    assert ledger.of(Audits).counted(one.scope, "shop", 9).before == found
    assert not ledger.of(Audits).reopen(one.scope)
    assert ledger.of(Audits).standings(scope="ab") == [found]


def test_troubles_come_by_when_they_began(ledger):
    for at, scope, state in ((3, "aa", "off"), (1, "cc", "off"), (1, "bb", "off"), (2, "dd", "shown")):
        write(ledger, scope=scope * 32, state=state, sentence=f"why {scope}.")
        with writing(ledger.engine) as tx:
            tx.execute(update(STANDINGS).where(STANDINGS.c.scope == scope * 32).values(changed_at=at))
    assert [
        (incident.holder, incident.subject, incident.reason, incident.since) for incident in ledger.overview().incidents
    ] == [
        ("the cache", f"scope {name * 4} of the tenant shop",
         f"why {name}. `headrace cache serve {name * 4}` turns it on again", at)
        for name, at in (("bb", 1), ("cc", 1), ("aa", 3))
    ]  # fmt: skip

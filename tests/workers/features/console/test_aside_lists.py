"""What is set aside: which rows a list holds, page by page, and how many rows it reads."""

import pytest
from sqlalchemy import update
from tests.workers.features.console.aside_rows import bury, hold, refuse
from tests.workers.features.console.test_situation import ledger
from tests.workers.ledger_in_short import ledger_url

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import DEAD_LETTERS
from headrace_workers.features.console import aside_lists
from headrace_workers.features.console.aside_lists import AsideFilter, AsideLists
from headrace_workers.features.console.job_lists import Place

__all__ = ["ledger", "ledger_url"]
DAY = 86_400_000


def ids(ledger: Ledger, wanted: AsideFilter) -> list[str]:
    found, after = list[str](), None
    for _ in range(100):
        page = ledger.of(AsideLists).page(wanted, after)
        found += [row.id for row in page.rows]
        if page.after is None:
            return found
        after = Place.read(str(page.after))
    raise AssertionError("the list does not end")


def test_held_steps_are_listed_longest_first_by_each_condition(ledger: Ledger):
    one = hold(ledger, 3 * DAY, stage="screen", ready_at=77, reason="50% of_it", queue="screen")
    two = hold(ledger, 2 * DAY, "acme", application="triage@3")
    three = hold(ledger, 1_000, application="triage2@1", queue="model.echo")
    expected = {
        AsideFilter("held"): [one, two, three],
        AsideFilter("held", category="a person"): [two, three],
        AsideFilter("held", category="a service"): [one],
        AsideFilter("held", reason="50% OF_"): [one],
        AsideFilter("held", reason="5_%"): [],
        AsideFilter("held", stage="screen"): [one],
        AsideFilter("held", model="echo"): [three],
        AsideFilter("held", application="triage"): [two],
        AsideFilter("held", application="triage2@1"): [three],
        AsideFilter("held", age="over-1d"): [one, two],
        AsideFilter("held", age="under-1h"): [three],
        AsideFilter("held", tenant="acme"): [two],
    }
    assert {wanted: ids(ledger, wanted) for wanted in expected} == expected
    assert ledger.of(AsideLists).count(AsideFilter("held", age="over-1d")).count == 2


def test_dead_letters_are_listed_newest_first_by_each_condition(ledger: Ledger):
    one = bury(ledger, 3 * DAY, "acme", application="triage@3", queue="model.other", reason="no room")
    two = bury(ledger, 1_000, category="poison")
    three = refuse(ledger, died_at=ledger.now() - 500)
    gone = bury(ledger)
    with writing(ledger.engine) as tx:
        tx.execute(update(DEAD_LETTERS).where(DEAD_LETTERS.c.id == gone).values(replayed_at=5))
    expected = {
        AsideFilter("dead"): [three, two, one],
        AsideFilter("dead", category="poison"): [two],
        AsideFilter("dead", reason="ROOM"): [one],
        AsideFilter("dead", stage="ingest"): [three],
        AsideFilter("dead", model="echo"): [two],
        AsideFilter("dead", application="triage"): [one],
        AsideFilter("dead", age="over-7d"): [],
        AsideFilter("dead", age="under-7d", tenant="acme"): [one],
    }
    assert {wanted: ids(ledger, wanted) for wanted in expected} == expected


@pytest.mark.parametrize("kind", ["held", "dead"])
def test_pages_and_plans_leave_nothing_out_and_read_no_more_than_their_bound(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, kind: aside_lists.Kind
):
    monkeypatch.setattr(aside_lists, "MOST_READ", 3)
    monkeypatch.setattr(aside_lists, "PAGE", 2)
    make = hold if kind == "held" else bury
    made = [make(ledger, ago, "acme" if ago > 4_000 else "b") for ago in (9_000, 5_000, 5_000, 5_000, 2_000, 1_000)]
    assert sorted(ids(ledger, AsideFilter(kind))) == sorted(made)
    assert sorted(ids(ledger, AsideFilter(kind, tenant="acme"))) == sorted(made[:4])
    lists = ledger.of(AsideLists)
    assert str(lists.count(AsideFilter(kind, tenant="b"))) in ("0+", "2+")  # of the first rows
    found, more = lists.places(AsideFilter(kind, tenant="acme"))
    assert (sorted(place.job_id for place in found), more) == (sorted(made[:4]), False)
    monkeypatch.setattr(aside_lists, "MOST", 2)
    assert str(lists.count(AsideFilter(kind))) == "2+"
    found, more = lists.places(AsideFilter(kind))
    assert (len(found), more) == (2, True)
    assert [row.id for row in lists.of_places(kind, found)] == [place.job_id for place in found]
    assert lists.of_places(kind, [place._replace(at=1) for place in found]) == []

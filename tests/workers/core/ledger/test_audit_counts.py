"""What audits say in sum: of what was served, in windows, by guard, and what stands beside that."""

import pytest
from sqlalchemy import select, text, update
from tests.workers.core.ledger.rows import SCOPE, audit, serve, write
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.features.cache.store.audits import (
    Audits,
    Labels,
    OfGuard,
    OtherCounts,
    ScopeStanding,
    Seen,
    Tally,
    Window,
)
from headrace_workers.features.cache.tables import AUDITS

OTHER = "77777" + "0" * 59
TEXTS = {"question": "q?", "served": "s!", "fresh": "f!", "again": "a!"}


def row_of(ledger, name):
    (found,) = ledger.read(select(AUDITS).where(AUDITS.c.id == name))
    return found._asdict()


def served(ledger, times, **fields):
    for _ in range(times):
        serve(ledger, 1, "j", **{"scope": SCOPE, "tier": "semantic", "stratum": 1, "share": 0.5} | fields)


@pytest.fixture
def counted(ledger):
    """A scope with audits of all kinds; beside it what does not count: another scope, and what was before."""
    served(ledger, 4)
    served(ledger, 3, stratum=2, share=1.0, served_at=300)
    served(ledger, 5, share=0.0)
    served(ledger, 6, scope=OTHER)
    served(ledger, 7, served_at=49)
    for label in ("clean", "clean", "wrong", "unknown", None):
        audit(ledger, label=label, similarity=0.8)
    audit(ledger, stratum=2, share=1.0, served_at=300, label="wrong", own="wrong")
    audit(ledger, stratum=3, share=0.25, served_at=400, label="unknown", own="clean")
    audit(ledger, kind="refused", label="wrong", guard="dates", share=0.25)
    for beside in ({"scope": OTHER}, {"served_at": 49}):
        audit(ledger, label="wrong", own="wrong", **beside)
        audit(ledger, kind="refused", label="wrong", **beside)
    return ledger


def test_what_was_served_and_audited_is_counted(counted):
    """By stratum and chance, since the scope counts; never fewer serves than audits."""
    write(counted, text(f"INSERT INTO standings (scope, tenant, state, sentence, figures, since, changed_at) "
                        f"VALUES ('{SCOPE}', 'a', 'shown', '', '{{}}', 50, 1)"))  # fmt: skip
    found = counted.of(Audits).counted(SCOPE, "a", 3)
    assert found.before.since == 50
    assert found.tallies == (
        Tally(1, 0.5, 4, Labels(2, 1, 1)), Tally(2, 1.0, 3, Labels(0, 1, 0)), Tally(3, 0.25, 1, Labels(0, 0, 1)),
    )  # fmt: skip
    assert found.other_counts == OtherCounts(Labels(0, 1, 0), Labels(1, 1, 0))
    # Of seven hits those that lie in the third window of three: the last of them.
    assert found.window == Window(3, (Tally(3, 0.25, 1, Labels(0, 0, 1)),))
    assert Labels(1, 2, 4).decided == 3


def test_what_was_served_as_a_window_began_is_in_it(ledger):
    for at, times in ((99, 4), (100, 3), (200, 2)):
        served(ledger, times, served_at=at)
        audit(ledger, served_at=at)
    write(ledger, text(f"INSERT INTO standings (scope, tenant, state, sentence, figures, since, changed_at) "
                       f"VALUES ('{SCOPE}', 'a', 'shown', '', '{{}}', 100, 1)"))  # fmt: skip
    found = ledger.of(Audits).counted(SCOPE, "a", 1)
    assert found.tallies == (Tally(1, 0.5, 5, Labels(2, 0, 0)),)
    assert found.window == Window(2, (Tally(1, 0.5, 2, Labels(1, 0, 0)),))
    assert ledger.of(Audits).counted(SCOPE, "a", 2).window == Window(1, found.tallies)


def test_a_window_begins_where_the_one_before_is_full(counted):
    for size, number in ((8, 1), (7, 2), (100, 1)):
        assert counted.of(Audits).counted(SCOPE, "a", size).window.number == number
    nothing = counted.of(Audits).counted("unheard of", "z", 3)
    assert nothing.window == Window(1, ())
    assert (nothing.tallies, nothing.other_counts, nothing.seen) == ((), OtherCounts(), Seen((), 0))
    assert nothing.before == ScopeStanding(scope="unheard of", tenant="z", state="not yet shown", sentence="")


def test_guards_are_counted_by_what_they_refuse(ledger):
    for guard, label, share, tenant in (
        ("dates", "clean", 0.5, "a"), ("dates", "wrong", 0.25, "a"), ("dates", "unknown", 1.0, "b"),
        ("names", "wrong", 0.125, "a"), ("units", "clean", 0.125, "a"), ("several", "wrong", 1.0, "a"),
        ("dates", None, 0.1, "a"), (None, "wrong", 0.1, "a"),
    ):  # fmt: skip
        audit(ledger, kind="refused", guard=guard, label=label, share=share, tenant=tenant)
    audit(ledger, kind="hit", guard="dates")
    expected = [
        OfGuard("names", 8.0, Labels(0, 1, 0)), OfGuard("units", 8.0, Labels(1, 0, 0)),
        OfGuard("dates", 7.0, Labels(1, 1, 1)), OfGuard("several", 1.0, Labels(0, 1, 0)),
    ]  # fmt: skip
    assert ledger.of(Audits).by_guard() == expected
    assert ledger.of(Audits).by_guard(limit=1) == expected[:1]
    assert ledger.of(Audits).by_guard("b") == [OfGuard("dates", 1.0, Labels(0, 0, 1))]


def test_labels_are_judged_once_and_again_when_they_change(ledger):
    audit(ledger, "one", labelled_at=10)
    audit(ledger, "two", labelled_at=20)
    audit(ledger, "other", scope=OTHER, tenant="b", labelled_at=5)
    audit(ledger, "waits", label=None, labelled_at=None)
    audit(ledger, "before", judged=True)
    assert sorted(ledger.of(Audits).unjudged(9)) == [(SCOPE, "a"), (OTHER, "b")]
    assert len(ledger.of(Audits).unjudged(1)) == 1
    seen = ledger.of(Audits).counted(SCOPE, "a", 9).seen
    assert (sorted(seen.audit_ids), seen.newest) == (["one", "two"], 20)
    write(ledger, update(AUDITS).where(AUDITS.c.id == "one").values(labelled_at=21))  # a person says something else
    now = ScopeStanding(scope=SCOPE, tenant="a", state="shown", sentence="so")
    ledger.of(Audits).judge(now, seen)
    assert {name: row_of(ledger, name)["judged"] for name in ("one", "two", "other")} == {
        "one": False, "two": True, "other": False,
    }  # fmt: skip
    assert [standing.sentence for standing in ledger.of(Audits).standings()] == ["so"]

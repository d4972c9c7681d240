"""Steps that are held: in which order they come, how they end, and that no other is touched."""

import pytest
from sqlalchemy import select
from tests.workers.core.ledger.rows import entry, job, serve, states, step
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.core.ledger import recovery
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS, NEVER, RELEASED, STEPS
from headrace_workers.features.cache.tables import ENTRIES

A, B, C, D, NEW, GOES_ON = (f"00000000-0000-5000-8000-00000000000{n}" for n in "abcdef")


def hold(ledger, name, since, state="held", **fields):
    """A job that is held since then (ms), unless it is said otherwise."""
    job(ledger, name, "active", **{key: fields.pop(key) for key in ("tenant", "payload") if key in fields})
    step(ledger, name, state, **{"ready_at": NEVER, "held_at": since, "reason": f"why {name}"} | fields)


def steps(ledger):
    return {(row.job_id, row.stage): row._asdict() for row in ledger.read(select(STEPS))}


@pytest.fixture
def four(ledger):
    """Held ones of two tenants, not in the order in which they came to be so; and one that is not held any more."""
    for name, since, fields in (
        (B, 20, {"tenant": "t", "ready_at": 77}), (C, 30, {}), (A, 10, {"stage": "judge"}),
        (GOES_ON, 5, {"state": "ready"}), (D, 40, {"payload": b"p", "event_type": "e"}),
    ):  # fmt: skip
        hold(ledger, name, since, **fields)
    step(ledger, D, "done", "before", reason="done")
    return ledger


def test_what_is_held_comes_longest_first(four):
    """So many; of each all that people are shown."""
    assert [tuple(row) for row in four.held()] == [
        (A, "a", "judge", f"why {A}", 10, NEVER), (B, "t", "recall", f"why {B}", 20, 77),
        (C, "a", "recall", f"why {C}", 30, NEVER), (D, "a", "recall", f"why {D}", 40, NEVER),
    ]  # fmt: skip
    assert [row.job_id for row in four.held(2)] == [A, B]


def test_what_is_held_of_a_job_comes_with_what_its_step_is_given(four):
    assert tuple(four.held_of(D)) == (D, "a", "recall", f"why {D}", 40, NEVER, "generation", b"p", "e", None)
    assert four.held_of(GOES_ON) is four.held_of("nobody") is None


def test_what_is_released_is_ready_and_the_others_stay(four):
    before, now = steps(four), four.now()
    assert four.release_held([A, B, GOES_ON, "nobody"]) == 2
    after = steps(four)
    for key, woken_by in (((A, "judge"), RELEASED), ((B, "recall"), None)):
        at = after[key]["ready_at"]
        assert now <= at <= four.now()
        before[key] |= {"state": "ready", "ready_at": at, "reason": None, "woken_by": woken_by, "held_at": None}
    assert after == before


def test_what_is_held_too_long_is_withheld_a_bounded_number_a_call(four, monkeypatch):
    monkeypatch.setattr(recovery, "_AT_ONCE", 3)
    hold(four, NEW, four.now())
    assert [four.withhold_late(60_000) for _ in range(3)] == [3, 1, 0]
    assert {row.id for row in four.read(select(JOBS.c.id).where(JOBS.c.state == "dead"))} == {A, B, C, D}
    assert {key[0] for key, row in steps(four).items() if row["state"] in ("held", "ready")} == {NEW, GOES_ON}


def test_answers_of_what_is_withheld_are_given_to_nobody(four):
    """Those that it made and those that it was given; nobody else's, also where another job was given one of both."""
    for number, maker in ((1, C), (2, "x"), (3, "x"), (4, D), (5, C)):
        entry(four, number, job_id=maker, state="pending" if number == 5 else "live")
    for number, given in ((1, "y"), (2, C), (2, "y"), (3, "y"), (4, "y")):
        serve(four, number, given)
    assert four.withhold([C, GOES_ON], "not so") == {C}
    assert {number: state for number, state in states(four).items() if number != 5} == {
        1: "dead", 2: "dead", 3: "live", 4: "live",
    }  # fmt: skip
    reasons = four.read(select(ENTRIES.c.reason).where(ENTRIES.c.id.in_([1, 2])))
    assert [tuple(row) for row in reasons] == [("withheld: not so",)] * 2


def test_a_job_counts_as_held_still_only_since_the_time_that_is_named(four):
    named = {A: 10, B: 21, C: 30, GOES_ON: 5, "nobody": 1}
    with writing(four.engine) as tx:
        assert recovery.still_held(tx, named) == [A, C]
    four.release_held([A])
    with writing(four.engine) as tx:
        assert recovery.still_held(tx, named) == [C]

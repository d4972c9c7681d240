import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event, update
from tests.workers.core.ledger.conftest import claim, job  # noqa: F401 - fixtures
from tests.workers.core.ledger.rows import write
from tests.workers.features.reviews.rows import (
    counts,
    end,
    hold,
    items,
    job_id,
    receipt,
    set_rules,
    tell_held,
)

from headrace_schemas.review import ReviewRule
from headrace_workers.core.identity import review_item_id
from headrace_workers.core.ledger.accounting import FinishedJob
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.job_ends import wake_waiters_of_held
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import Done, Held
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.ledger.steps import Tried
from headrace_workers.core.log import Action
from headrace_workers.core.sql.database import writing
from headrace_workers.core.sql.statements import as_text
from headrace_workers.core.tables import NEVER, STEPS
from headrace_workers.features.applications.tables import APPLICATION_VERSIONS
from headrace_workers.features.reviews import hooks
from headrace_workers.features.reviews.hooks import ReviewQueue, ReviewUpkeep, close_held, draw_ended
from headrace_workers.features.reviews.rules import HELD, ReviewRules, drawn
from headrace_workers.features.reviews.tables import REVIEW_COUNTS, REVIEW_ITEMS

A, B, C = (job_id(number) for number in range(3))
AUDIT = {"name": "audit", "share": 1.0}


def account(ledger: Ledger) -> None:
    while ledger.account():
        pass


def close_all(ledger: Ledger) -> None:
    after: str | None = ""
    while after is not None:
        with writing(ledger.engine) as tx:
            after = close_held(tx, after)


@contextmanager
def counted(ledger: Ledger) -> Iterator[list[str]]:
    found: list[str] = []

    def note(_connection, _cursor, statement, *_):
        found.append(statement)

    event.listen(ledger.engine, "before_cursor_execute", note)
    yield found
    event.remove(ledger.engine, "before_cursor_execute", note)


# The deployment's rules.


def upkeep(ledger: Ledger, path: Path, *, required: bool = False) -> ReviewUpkeep:
    return ReviewUpkeep(ledger.of(ReviewQueue), path, required=required)


def test_a_bridge_copies_the_rules_of_a_file_when_it_changes(ledger: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "reviews.toml"
    keep_up = upkeep(ledger, file)
    seen = []
    for text in (None, '[[rules]]\nname = "one"', 'people = 2\n[[rules]]\nname = "two"'):
        if text is not None:
            file.write_text(text)
        assert not keep_up()
        rules = ledger.of(ReviewQueue).rules()
        seen.append((rules.people, [rule.name for rule in rules.rules]))
    file.unlink()
    keep_up()
    assert seen == [(1, []), (1, ["one"]), (2, ["two"])]
    assert ledger.of(ReviewQueue).rules() == ReviewRules()


def test_a_wrong_file_leaves_the_rules_as_they_were_and_is_an_incident(ledger: Ledger, tmp_path: Path, caplog) -> None:
    file = tmp_path / "reviews.toml"
    file.write_text('[[rules]]\nname = "one"')
    keep_up = upkeep(ledger, file)
    keep_up()
    file.write_text('[[rules]]\nname = "one"\nshare = 2')
    caplog.set_level("INFO")
    keep_up()
    upkeep(ledger, file)()  # of another bridge: it is no news
    assert [rule.name for rule in ledger.of(ReviewQueue).rules().rules] == ["one"]
    (incident,) = [item for item in ledger.overview().incidents if item.subject == "review rules"]
    assert f"{file}, line 3: rules 1.share: must be at most 1" in incident.reason
    assert [record.action for record in caplog.records if record.name == "headrace.reviews"] == [Action.RULES_REFUSED]
    file.write_text('[[rules]]\nname = "one"')
    keep_up()
    assert not [item for item in ledger.overview().incidents if item.subject == "review rules"]


def test_a_wrong_file_at_the_start_draws_nothing(ledger: Ledger, tmp_path: Path) -> None:
    upkeep(ledger, tmp_path / "missing.toml", required=True)()
    assert ledger.of(ReviewQueue).rules() == ReviewRules()
    assert "is no file" in next(incident.reason for incident in ledger.overview().incidents)


def test_two_bridges_that_follow_one_file_write_a_change_once(ledger: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "reviews.toml"
    bridges = [upkeep(ledger, file), upkeep(ledger, file)]
    for text in ('[[rules]]\nname = "one"', '[[rules]]\nname = "two"'):
        file.write_text(text)
        with counted(ledger) as statements:
            for _ in range(3):
                for keep_up in bridges:
                    keep_up()
        assert sum("INSERT INTO review_rules" in statement for statement in statements) == 1
    assert [rule.name for rule in ledger.of(ReviewQueue).rules().rules] == ["two"]


# Held steps.


def test_a_job_that_is_held_at_several_stages_has_an_item_for_each(ledger: Ledger) -> None:
    hold(ledger, A, "screen", held_at=10)
    for place, stage in enumerate(("moderate", "judge"), start=1):
        write(ledger, update(STEPS).where(STEPS.c.job_id == A).values(state="done"))
        hold(ledger, A, stage, place, new=False, held_at=10 + place)
    found = items(ledger)
    assert [(row.stage, row.ordinal, row.rank) for row in found] == [
        ("screen", 0, 10),
        ("moderate", 1, 11),
        ("judge", 2, 12),
    ]
    assert {(row.rule, row.probability, row.wanted, row.state) for row in found} == {(HELD, 1.0, 1, "open")}
    assert found[1].id == review_item_id("a", A, "moderate", 1, 0, HELD)


def test_a_step_that_waits_for_no_person_has_no_item(ledger: Ledger) -> None:
    hold(ledger, A, ready_at=NEVER - 1)
    assert items(ledger) == []
    with counted(ledger) as statements, writing(ledger.engine) as tx:
        wake_waiters_of_held(tx, {A: False})
    assert not any("review" in statement for statement in statements)


def test_a_hold_reads_the_steps_of_its_own_jobs_alone(ledger: Ledger) -> None:
    """PostgreSQL would read the index of all held steps, of which there may be very many, if it were offered."""
    if ledger.engine.dialect.name != "postgresql":
        pytest.skip("SQLite takes the key by which it finds the fewest rows")
    with ledger.engine.begin() as tx:
        query, parameters = as_text(hooks._steps_of("postgresql"), {"jobs": [A, B]})
        plan = "\n".join(row[0] for row in tx.exec_driver_sql(f"EXPLAIN {query}", dict(parameters)))
    assert "steps_pkey" in plan, plan


def test_a_step_that_is_tried_and_held_where_it_is_made_has_an_item(ledger: Ledger, job, claim) -> None:  # noqa: F811
    new = job()
    ledger.ingest([new])
    begun = ledger.start(claim().id, worker="w", lease_ms=60_000)
    step = new.steps[0]._replace(stage="moderate", tried=Tried(ledger.now(), Held("?")))
    assert ledger.complete(begun.claim_id, [StepResult(new.id, Done(), (), (step,))], ran_ms=1, quantum_ms=1)
    (item,) = items(ledger)
    assert (item.job_id, item.stage, item.state) == (new.id, "moderate", "open")


def test_a_step_that_was_released_and_is_held_again_at_its_place_is_open_for_one_more_person(ledger: Ledger) -> None:
    hold(ledger, A, held_at=10)
    hold(ledger, B, held_at=20)
    write(ledger, update(STEPS).values(state="ready"))
    close_all(ledger)
    write(ledger, update(REVIEW_ITEMS).where(REVIEW_ITEMS.c.job_id == B).values(state="done", decided=1))
    write(ledger, update(STEPS).values(state="held", held_at=30))
    tell_held(ledger, A, B)
    assert {(row.job_id, row.state, row.reason, row.wanted, row.rank) for row in items(ledger)} == {
        (A, "open", None, 1, 30), (B, "open", None, 2, 30),
    }  # fmt: skip


def test_a_job_that_is_replayed_has_another_item(ledger: Ledger) -> None:
    hold(ledger, A)
    ledger.withhold([A], "not so")
    ledger.replay(DeadFilter(id=A))
    write(ledger, update(STEPS).values(state="held", ready_at=NEVER, held_at=5))
    tell_held(ledger, A)
    assert {row.replays for row in items(ledger)} == {0, 1}
    close_all(ledger)
    assert [(row.replays, row.state) for row in items(ledger)] == [(1, "open"), (0, "gone")]


# Ended answers.


def test_an_answer_enters_by_the_first_rule_that_it_meets_or_not_at_all(ledger: Ledger) -> None:
    low = {"name": "low", "share": 0.5, "people": 3, "below": {"criterion": "good", "value": 0.5}}
    set_rules(ledger, low, AUDIT)
    names = [job_id(number) for number in range(20)]
    for place, name in enumerate(names):
        end(ledger, receipt(name, {"good": 0.2 if place < 10 else 0.9}))
    account(ledger)
    rule = ReviewRule.model_validate(low)
    wanted = {name: found for name in names[:10] if (found := drawn(rule, name))}
    assert 0 < len(wanted) < 10
    found = {row.job_id: row for row in items(ledger)}
    assert {name for name, row in found.items() if row.rule == "low"} == set(wanted)
    assert {name for name, row in found.items() if row.rule == "audit"} == set(names[10:])
    assert all(found[name].rank == stratum.rank for name, stratum in wanted.items())
    assert {(row.probability, row.wanted, row.stage) for row in items(ledger, rule="low")} == {(0.5, 3, None)}
    assert counts(ledger) == {("a", "audit"): (10, 10, 0), ("a", "low"): (10, len(wanted), 0)}


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "embedding"}, {"kind": "moderation"}, {"status": "blocked"}, {"metadata": {"evaluation": "eval_1"}},
    ],
)  # fmt: skip
def test_what_has_no_answer_to_be_asked_about_belongs_to_no_rule(ledger: Ledger, fields) -> None:
    set_rules(ledger, AUDIT)
    end(ledger, receipt(A, **fields))
    end(ledger, receipt(B, kind="evaluation"))
    account(ledger)
    assert [row.job_id for row in items(ledger)] == [B]
    assert counts(ledger) == {("a", "audit"): (1, 1, 0)}


@pytest.mark.parametrize(("stage", "enters"), [("screen", True), ("moderate", False), ("judge", False)])
def test_an_answer_that_a_person_was_asked_about_enters_no_other_stratum(ledger: Ledger, stage, enters) -> None:
    set_rules(ledger, AUDIT)
    hold(ledger, A, stage)
    told = json.dumps(receipt(A)).encode()
    write(ledger, update(STEPS).values(state="done"))
    with writing(ledger.engine) as tx:
        draw_ended(tx, [FinishedJob("a", 1, json.loads(told))])
    assert [row.rule for row in items(ledger)] == [HELD, "audit"][: 1 + enters]
    assert counts(ledger) == {("a", "audit"): (1, int(enters), 0)}


def test_without_rules_nothing_is_drawn_by_one_statement(ledger: Ledger) -> None:
    with counted(ledger) as statements, writing(ledger.engine) as tx:
        draw_ended(tx, [FinishedJob("a", 1, receipt(job_id(number))) for number in range(50)])
    assert sum("review" in statement for statement in statements) == 1
    assert items(ledger) == []


def test_a_rule_that_matches_everything_fills_its_queue_and_counts_the_rest(ledger: Ledger) -> None:
    set_rules(ledger, AUDIT, most_open=30)
    with writing(ledger.engine) as tx:
        for first in (0, 50):
            jobs = [FinishedJob("a", 1, receipt(job_id(number))) for number in range(first, first + 50)]
            draw_ended(tx, [*jobs, FinishedJob("b", 1, receipt(job_id(1_000 + first)))])
    assert len(items(ledger, tenant="a", state="open")) == 30
    assert counts(ledger) == {("a", "audit"): (100, 100, 70), ("b", "audit"): (2, 2, 0)}
    write(ledger, update(REVIEW_ITEMS).where(REVIEW_ITEMS.c.tenant == "a").values(state="done"))
    with writing(ledger.engine) as tx:
        draw_ended(tx, [FinishedJob("a", 1, receipt(job_id(2_000)))])
    assert len(items(ledger, tenant="a", state="open")) == 1


def test_the_number_of_statements_does_not_grow_with_the_jobs(ledger: Ledger) -> None:
    set_rules(ledger, {"name": "low", "below": {"criterion": "good", "value": 0.5}}, AUDIT)
    numbers = iter(range(10_000))
    seen = []
    for many in (4, 400):
        jobs = [
            FinishedJob(f"t{place % 4}", 1, receipt(job_id(next(numbers)), {"good": place % 2}))
            for place in range(many)
        ]
        with counted(ledger) as statements, writing(ledger.engine) as tx:
            draw_ended(tx, jobs)
        seen.append(len(statements))
    assert seen[0] == seen[1] <= 7
    assert len(items(ledger)) == 404


def test_an_answer_that_is_accounted_for_after_a_replay_has_another_item(ledger: Ledger) -> None:
    set_rules(ledger, AUDIT)
    with writing(ledger.engine) as tx:
        for replays in (0, 1, 1):
            draw_ended(tx, [FinishedJob("a", 1, receipt(A), None, replays)])
    assert sorted(row.replays for row in items(ledger)) == [0, 1]


# Rules of applications.


def version(ledger: Ledger, number: int, scope: str = "", **review) -> dict:
    digest = f"{number:064x}"
    row = {
        "scope": scope, "name": "triage", "number": number, "digest": digest, "definition": json.dumps(review),
        "pushed_at": 1, "pushed_by": "x",
    }  # fmt: skip
    write(ledger, APPLICATION_VERSIONS.insert().values(row))
    return {"name": "triage", "version": number, "digest": digest}


@pytest.fixture(autouse=True)
def _no_versions_are_kept() -> Iterator[None]:
    hooks.OF_VERSIONS.clear()
    yield
    hooks.OF_VERSIONS.clear()


def test_rules_of_an_application_take_the_place_of_the_deployments(ledger: Ledger) -> None:
    set_rules(ledger, AUDIT, people=2)
    own = version(ledger, 1, "a", review={"rules": [{"name": "mine"}]})
    without = version(ledger, 2)
    none = version(ledger, 3, review={"rules": []})
    unknown = {"name": "triage", "version": 9, "digest": "9" * 64}
    later = version(ledger, 4, review={"rules": [{"name": "mine", "of_a_later_headrace": 1}]})
    given = dict(zip((job_id(number) for number in range(6)), (own, without, none, unknown, later, None), strict=True))
    for name, app in given.items():
        application = None if app is None else f"triage@{app['version']}"
        end(ledger, receipt(name, **({} if app is None else {"application": app})), application=application)
    account(ledger)
    drawn_by = {row.job_id: (row.rule, row.application, row.wanted) for row in items(ledger)}
    assert drawn_by == {
        job_id(0): ("mine", "triage@1", 2), job_id(1): ("audit", "triage@2", 2), job_id(3): ("audit", "triage@9", 2),
        job_id(4): ("audit", "triage@4", 2), job_id(5): ("audit", None, 2),
    }  # fmt: skip


# Items that end without a decision.


def test_items_whose_steps_wait_for_no_person_any_more_are_closed_with_the_reason(ledger: Ledger) -> None:
    names = cancelled, withheld, expired, released, waits = [job_id(number) for number in range(5)]
    for name in names:
        hold(ledger, name, deadline=1 if name == expired else NEVER)
    ledger.cancel(Cancellation(cancelled, "a", "changed my mind"))
    ledger.withhold([withheld], "names a customer")
    ledger.reap(3)
    ledger.release_held([released])
    close_all(ledger)
    found = {row.job_id: (row.state, row.reason) for row in items(ledger)}
    assert found == {
        cancelled: ("gone", "its job was cancelled"),
        withheld: ("gone", "its job is dead: withheld: names a customer"),
        expired: ("gone", "its job is dead: the deadline passed before a worker could take it"),
        released: ("gone", "its job was released elsewhere"),
        waits: ("open", None),
    }
    assert {row.ended_at is None for row in items(ledger, state="gone")} == {False}


def test_items_are_looked_at_a_bounded_number_at_a_time(ledger: Ledger, monkeypatch) -> None:
    monkeypatch.setattr(hooks, "AT_ONCE", 2)
    for number in range(5):
        hold(ledger, job_id(number))
    write(ledger, update(STEPS).values(state="ready"))
    steps, after = 0, ""
    while after is not None:
        with writing(ledger.engine) as tx:
            after = close_held(tx, after)
        steps += 1
        assert len(items(ledger, state="gone")) == min(5, 2 * steps)
    assert steps == 3


def test_items_of_forgotten_jobs_are_closed(ledger: Ledger) -> None:
    set_rules(ledger, AUDIT)
    end(ledger, receipt(A))
    end(ledger, receipt(B))
    account(ledger)
    write(ledger, update(REVIEW_ITEMS).where(REVIEW_ITEMS.c.job_id == B).values(state="done", decided=1))
    while ledger.prune(60_000):
        pass
    assert {(row.job_id, row.state) for row in items(ledger)} == {(A, "gone"), (B, "done")}
    assert "forgotten" in items(ledger, job_id=A)[0].reason


def test_items_that_nobody_decided_about_are_forgotten_after_as_long_as_verdicts(ledger: Ledger) -> None:
    for number in range(4):
        hold(ledger, job_id(number))
    now = ledger.now()
    for number, fields in enumerate(
        (
            {"state": "gone", "ended_at": 5},
            {"state": "gone", "ended_at": 5, "decided": 1},
            {"state": "gone", "ended_at": now},
        )
    ):
        write(ledger, update(REVIEW_ITEMS).where(REVIEW_ITEMS.c.job_id == job_id(number)).values(fields))
    day = {"tenant": "a", "rule": "audit", "seen": 1, "drawn": 1, "overflow": 0}
    write(ledger, REVIEW_COUNTS.insert().values([day | {"day": at // hooks.DAY_MS} for at in (5, now)]))
    while ledger.prune(60_000):
        pass
    assert {row.job_id for row in items(ledger)} == {job_id(number) for number in (1, 2, 3)}
    assert len(ledger.read(REVIEW_COUNTS.select())) == 1

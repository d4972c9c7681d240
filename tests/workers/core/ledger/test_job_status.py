"""What is told of jobs over HTTP, and of their units: whole rows, in order, and of no other job."""

from uuid import uuid4

import pytest
from sqlalchemy import insert, select, update
from tests.workers.core.ledger.rows import LATE, job, step, write
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_schemas import Category, Topic
from headrace_workers.core.ledger.accepted import AdmissionRequest
from headrace_workers.core.ledger.dead_letters import Record, refusal
from headrace_workers.core.ledger.job_status import JobRow, Looked, Standing, StepRow
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import ACCEPTED, CLAIMS, DEAD_LETTERS, JOBS, STEPS
from headrace_workers.features.webhooks.store.deliveries import announce, message_id
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.features.webhooks.tables import DELIVERIES

HOUR_MS = 3_600_000


def refuse(ledger, job_id, reason="no", topic=Topic.GENERATION):
    record = Record(topic, 0, len(ledger.read(select(DEAD_LETTERS.c.id))), (), b"{}", 1, job_id.encode())
    ledger.ingest([], [refusal(record, Category.INVALID, reason, refers_to=job_id, tenant="a")])


def reason_of(found, job_id):
    """Why a record under this id was refused."""
    return found.standings([job_id])[job_id].refused.reason


def ended(ledger, name, **fields):
    job(ledger, name, **{"terminal_type": f"type {name}", "terminal": name.encode(), "ended_at": 200} | fields)


def test_how_jobs_stand_is_told_with_their_steps(ledger):
    ended(ledger, "one")
    ended(ledger, "other", tenant="b", state="dead")
    job(ledger, "runs", "active", kind="embedding")
    ended(ledger, "unit", subject="one")
    for stage, ordinal, state, fields in (
        ("d", 0, "ready", {"ready_at": 5}), ("b", 0, "done", {"ended_at": 20, "ready_at": 4}),
        ("a", 0, "done", {"ended_at": 30, "ready_at": 3}), ("c", 0, "ready", {"ready_at": 4, "reason": "why"}),
        ("a", 1, "done", {"ended_at": 10, "started_at": 9, "attempts": 2}),
    ):  # fmt: skip
        step(ledger, "one", state, stage, ordinal, **fields)
    step(ledger, "other", "done", "a", ended_at=1)
    standings = ledger.standings(["one", "runs", "unit", "nobody"])
    steps = (
        StepRow("one", "b", 0, "done", 0, 4, None, 20, None), StepRow("one", "a", 0, "done", 0, 3, None, 30, None),
        StepRow("one", "c", 0, "ready", 0, 4, None, None, "why"),
        StepRow("one", "d", 0, "ready", 0, 5, None, None, None), StepRow("one", "a", 1, "done", 2, 1, 9, 10, None),
    )  # fmt: skip
    one = Standing("a", JobRow("one", "a", "generation", "done", 100, 200, "type one", b"one"), steps, 100)
    runs = Standing("a", JobRow("runs", "a", "embedding", "active", 100, None, None, None), (), 100)
    assert standings == {"one": one, "runs": runs}
    assert (one.row.end, runs.row.end) == (("type one", b"one"), None)
    assert ledger.standings([]) == {}


def test_one_look_tells_the_ends_of_many(ledger):
    for name in ("k1", "k2", "u1", "u2"):
        ended(ledger, name)
    for name in ("k3", "u3"):
        job(ledger, name, "active")
    ended(ledger, "beside")
    refuse(ledger, refused := str(uuid4()))
    looked = ledger.look_for(
        ["k1", "k2", "k3"], ["u1", "u2", "u3", refused, "nobody"], ["k2", "k3", "u2", "u3", refused]
    )
    assert looked.ended == {name: (f"type {name}", name.encode()) for name in ("k1", "k2", "u1", "u2")}
    assert looked.known == {"u1", "u2", "u3"}
    assert {name: letter.reason for name, letter in looked.refused.items()} == {refused: "no"}
    assert {name: standing.row and standing.row.id for name, standing in looked.standings.items()} == {
        "k2": "k2", "u2": "u2", refused: None,
    }  # fmt: skip
    assert looked.standings[refused].refused.reason == "no"
    alone = ledger.look_for(["k1"], [])
    assert alone == Looked({"k1": ("type k1", b"k1")})


def test_a_refusal_is_told_until_the_id_is_tried_again(ledger):
    one, other, wish = (str(uuid4()) for _ in range(3))
    for reason in ("first", "second"):
        refuse(ledger, one, reason)
        write(ledger, update(DEAD_LETTERS).values(died_at=DEAD_LETTERS.c.died_at - 1_000))
    refuse(ledger, other, "theirs")
    refuse(ledger, wish, "a wish", Topic.CANCELLATION)
    assert (reason_of(ledger, one), reason_of(ledger, other)) == ("second", "theirs")
    assert ledger.standings([wish]) == {}
    write(ledger, update(DEAD_LETTERS).where(DEAD_LETTERS.c.reason == "second").values(replayed_at=1))
    assert reason_of(ledger, one) == "first"
    ledger.confirm_admission([AdmissionRequest(one, "a", b"{}", "x" * 64)])
    now = ledger.standings([one, other])
    assert (now[one].tenant, now[one].refused, now[one].row) == ("a", None, None)
    ((at,),) = ledger.read(select(ACCEPTED.c.at).where(ACCEPTED.c.job_id == one))
    assert now[one].accepted_at == at
    assert now[other].refused.reason == "theirs"
    write(ledger, update(ACCEPTED).values(published=False))
    assert ledger.standings([one]) == {}


def test_one_job_is_shown_whole_with_what_follows_it(ledger):
    job(ledger, "one", "active")
    job(ledger, "two", "active")
    write(ledger, insert(CLAIMS).values(
        id=5, queue="q", stage="b", group_key="g", lane=1, size=1, tokens=1, sender="s", worker="w", claimed_at=1,
        started_at=7, lease_until=LATE,
    ))  # fmt: skip
    step(ledger, "one", "ready", "c", ready_at=3)
    step(ledger, "one", "leased", "b", ready_at=2, claim_id=5)
    step(ledger, "one", "done", "a", ready_at=3)
    step(ledger, "two", "ready", "x")
    view = ledger.job("one")
    assert (view.job.id, view.set_aside) == ("one", ())
    assert [(row.stage, row.begun_at, row.worker) for row in view.steps] == [
        ("b", 7, "w"), ("a", None, None), ("c", None, None),
    ]  # fmt: skip
    assert abs(ledger.now() - view.now) < HOUR_MS
    assert ledger.job("three") is None
    for name, at, subject, endpoint in (("u1", 9, "one", "e"), ("u2", 8, "one", "f"), ("u3", 8, "one", "e"),
                                        ("u4", 7, "two", "e")):  # fmt: skip
        job(ledger, name, "active", kind="unit", subject=subject, endpoint=endpoint, accepted_at=at)
        step(ledger, name, "waiting", "deliver", attempts=2, reason="busy")
    assert [tuple(row) for row in ledger.units_of("one")] == [
        ("u3", "deliver", "e", "waiting", 2, "busy"), ("u2", "deliver", "f", "waiting", 2, "busy"),
        ("u1", "deliver", "e", "waiting", 2, "busy"),
    ]  # fmt: skip
    assert [row.id for row in ledger.units_of("one", 1)] == ["u3"]


def test_contents_and_ends_are_told_of_the_jobs_that_are_asked_about(ledger):
    ended(ledger, "one", payload=b"p1")
    job(ledger, "two", "active", kind="evaluation", payload=b"p2")
    ended(ledger, "three")
    asked = ["one", "two", "nobody"]
    assert ledger.jobs_of(asked) == {"one": ("generation", b"p1"), "two": ("evaluation", b"p2")}
    assert ledger.terminals(asked) == {"one": ("type one", b"one")}


@pytest.mark.parametrize("occurrence", ["", "again"])
def test_what_an_endpoint_is_told_is_a_unit_of_work(ledger, occurrence):
    ledger.of(Webhooks).add(
        endpoint_id="we_1",
        tenant="a",
        name="n",
        url="http://x/",
        events=("e",),
        whole=False,
        secret="s",
        hint="h",
        most=9,
    )
    before = ledger.now()
    with writing(ledger.engine) as tx:
        assert announce(tx, tenant="a", event_type="e", subject="batch_1", occurrence=occurrence) == 1
    name = message_id(f"batch_1\n{occurrence}", "e", "we_1")
    (unit,), (work,), (told,) = ledger.read(select(JOBS)), ledger.read(select(STEPS)), ledger.read(select(DELIVERIES))
    assert (unit.id, unit.tenant, unit.kind, unit.state, unit.endpoint) == (name, "a", "unit", "active", "we_1")
    assert (work.job_id, work.stage, work.queue, work.group_key) == (name, "deliver", "deliver", "deliver|we_1")
    assert (work.lane, work.rank, work.tokens, work.event_type, work.read_bytes) == (1, 4, 1, "e", len(told.body))
    assert work.deadline % HOUR_MS == 0
    assert before + 143 * HOUR_MS <= work.deadline <= ledger.now() + 144 * HOUR_MS
    assert (told.id, told.endpoint_id, told.tenant, told.type, told.subject, told.url) == (
        name, "we_1", "a", "e", "batch_1", None,
    )  # fmt: skip
    assert before <= told.created_at <= ledger.now()

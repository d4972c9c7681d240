"""What people and doors ask of the ledger in one query each: by tenant and time, and of nobody else's."""

from uuid import uuid4

import pytest
from sqlalchemy import insert, select, update
from tests.workers.core.ledger.rows import LATE, job, step, write

from headrace_schemas import ModerationVerdict, Result
from headrace_schemas.codec import encode_value
from headrace_schemas.job import derive_job_id
from headrace_workers.core.ledger.counts import Pressure
from headrace_workers.core.ledger.unserved_steps import Move, Stay
from headrace_workers.core.tables import CLAIMS, OUTBOX, STEPS, TURNS
from headrace_workers.features.access.store.keys import ApiKeys, NewKey
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.features.knowledge.store.documents import KnowledgeBases, LatelyUsed
from headrace_workers.features.knowledge.tables import BASE_USES, DOCUMENTS
from headrace_workers.features.moderation.store import ModeratedJobs, Span, VerdictRow
from headrace_workers.features.quality.store import PassRate, PassRates

DAY_MS = 86_400_000


# -- jobs


def test_what_like_jobs_took_is_told_of_those_that_ended_last(ledger):
    for name, at, fields in (
        ("j1", 10, {}), ("j2", 20, {}), ("j3", 30, {"state": "dead"}), ("j4", 40, {"kind": "evaluation"}),
        ("j5", 50, {"subject": "s"}), ("j6", None, {}), ("j7", 60, {}),
    ):  # fmt: skip
        job(ledger, name, payload=name.encode(), terminal=b"end", **{"state": "done", "ended_at": at} | fields)
        step(ledger, name, "done", "generate", started_at=at, ended_at=None if at is None else at + 1)
        step(ledger, name, "done", "moderate", started_at=0)
    step(ledger, "j7", "dead", "generate", ordinal=1)
    found = ledger.of(Batches).lately("generate", 9)
    assert sorted(tuple(row) for row in found) == [
        (b"j1", b"end", 10, 11), (b"j2", b"end", 20, 21), (b"j7", b"end", 60, 61),
    ]  # fmt: skip
    assert [row.payload for row in ledger.of(Batches).lately("generate", 1)] == [b"j7"]
    assert [row.payload for row in ledger.of(Batches).lately("generate", 4)] == [b"j7"]


def test_jobs_that_ended_are_counted(ledger):
    for name, fields in (("a", {"ended_at": 1}), ("b", {"ended_at": 1, "state": "dead"}), ("c", {"state": "active"}),
                         ("d", {"ended_at": 1, "subject": "s"})):  # fmt: skip
        job(ledger, name, **fields)
    assert ledger.ended_jobs() == (2, 1)
    assert ledger.active_jobs() == 1


def test_how_long_the_next_of_each_place_has_waited(ledger):
    now = ledger.now()
    for name, fields in (
        ("a", {"rank": 2, "ready_at": now - 900_000}), ("b", {"rank": 1, "ready_at": now - 100_000}),
        ("c", {"rank": 1, "due": 5, "turn": 2, "ready_at": now - 300_000}),
        ("d", {"rank": 1, "due": 5, "turn": 1, "ready_at": now - 500_000}),
        ("e", {"rank": 0, "lane": 0, "ready_at": now + 100_000}),
    ):  # fmt: skip
        job(ledger, name, "active")
        step(ledger, name, "ready", "q", **fields)
    job(ledger, "f", "active")
    step(ledger, "f", "leased", "q", rank=0, ready_at=0)
    places = [("q", 1), ("q", 0), ("q", 2), ("p", 1)]
    pressure = ledger.pressure(places)
    assert set(pressure.ages) == {("q", 1), ("q", 0)}
    assert 500_000 <= pressure.ages["q", 1] < 900_000
    assert pressure.ages["q", 0] == 0
    assert ledger.pressure([]) == Pressure(6, {})


def test_jobs_are_found_by_their_names(ledger):
    keyed, plain = derive_job_id("a", "name"), derive_job_id("default", "name")
    for name, fields in (
        (keyed, {"accepted_at": 40}), (plain, {"accepted_at": 10, "tenant": "default"}),
        ("by correlation", {"accepted_at": 30, "correlationid": "name"}),
        ("by event", {"accepted_at": 20, "ce_id": "name", "tenant": "b"}), ("other", {"correlationid": "other"}),
        (derive_job_id("a", "other"), {}),
    ):  # fmt: skip
        job(ledger, name, **fields)
    assert ledger.named("name", "a", 9) == [keyed, "by correlation"]
    assert ledger.named("name", "b", 9) == ["by event"]
    assert ledger.named("name", None, 9) == ["by correlation", "by event", plain]
    write(ledger, insert(TURNS).values(queue="q", lane=1, urgency=9, tenant="a", flow=0, turn=1))
    assert ledger.named("name", None, 9) == [keyed, "by correlation", "by event", plain]
    assert ledger.named("name", None, 2) == [keyed, "by correlation"]


# -- moderation and rates


def receipt(verdict):
    end = Result(
        job_id=str(uuid4()), tenant="a", status="completed", kind="generation", accepted_at="2026-01-01T00:00:00Z",
        moderation=verdict,
    )  # fmt: skip
    return {"terminal": encode_value(end), "terminal_type": "headrace.result.v1"}


def test_what_moderation_said_is_told_of_a_span_of_time(ledger):
    allow = ModerationVerdict(action="allow", categories={"toxicity": False})
    flag = ModerationVerdict(action="block", categories={"toxicity": True})
    for name, at, verdict, fields in (
        ("a", 10, allow, {}), ("b", 20, flag, {"tenant": "b", "payload": b"pb"}),
        ("c", 30, None, {"kind": "evaluation"}), ("d", 40, flag, {}), ("e", 25, allow, {"subject": "s"}),
        ("f", 25, allow, {"terminal_type": "other"}),
    ):  # fmt: skip
        job(ledger, name, ended_at=at, **receipt(verdict) | fields)
    said = {name: VerdictRow(at, verdict.action, dict(verdict.categories)) for name, at, verdict in (
        ("a", 10, allow), ("b", 20, flag), ("d", 40, flag),
    )}  # fmt: skip
    assert ledger.of(ModeratedJobs).verdicts(Span(10, 40), 9) == [said["b"], said["a"]]
    assert ledger.of(ModeratedJobs).verdicts(Span(0, 99), 2) == [said["d"]]
    assert ledger.of(ModeratedJobs).verdicts(Span(0, 99, "a"), 9) == [said["d"], said["a"]]
    span, mine = Span(10, 40), Span(0, 99, "b")
    assert [row.id for row in ledger.of(ModeratedJobs).ended(span, "generation", 9)] == ["b", "a"]
    (row,) = ledger.of(ModeratedJobs).ended(mine, "generation", 9)
    assert tuple(row)[:4] == (20, "b", "b", b"pb")
    assert b'"block"' in row.terminal
    assert [row.id for row in ledger.of(ModeratedJobs).ended(span, "generation", 1)] == ["b"]
    assert [ledger.of(ModeratedJobs).count(*which) for which in (
        (span, "generation"), (span, "evaluation"), (mine, "generation"), (Span(0, 99), "generation"),
    )] == [2, 1, 1, 3]  # fmt: skip


def test_pass_rates_are_a_tenants_newest(ledger):
    rate = PassRate("c", "1", 0.5, 0.25, 0.75, 0.95, 10, 20, "few")
    ledger.of(PassRates).put("b", [rate])
    ledger.of(PassRates).put("a", [PassRate("old", "1", 1.0, 1.0, 1.0, 0.5, 1, 1)])
    before = ledger.now()
    ledger.of(PassRates).put("a", [PassRate("d", "1", 0.5, 0.0, 1.0, 0.95, 1, 2), rate])
    found = ledger.of(PassRates).all()
    assert [(row.tenant, row.criterion) for row in found] == [("a", "c"), ("a", "d"), ("b", "c")]
    assert before <= found[0].computed_at <= ledger.now()
    assert found[0]._asdict() == {
        "tenant": "a", "criterion": "c", "version": "1", "value": 0.5, "low": 0.25, "high": 0.75, "level": 0.95,
        "labels": 10, "verdicts": 20, "reason": "few", "computed_at": found[0].computed_at,
    }  # fmt: skip
    assert sorted(ledger.of(PassRates).tenants()) == ["a", "b"]
    ledger.of(PassRates).put("a", [])
    assert ledger.of(PassRates).tenants() == ["b"]
    ledger.of(PassRates).put("a", [PassRate(f"{n:03}", "1", 0.5, 0.0, 1.0, 0.95, 1, 2) for n in range(101)])
    assert len(ledger.of(PassRates).all()) == 101  # of a tenant a hundred are kept


# -- keys, doors and bases


def test_a_key_that_nobody_was_shown_is_taken_back(ledger):
    for name, lives in (("k1", 900_000), ("k2", None), ("k3", 900_000), ("other", 900_000)):
        ledger.of(ApiKeys).add(NewKey(name, "a", name, ("s",), "d" * 64, lives))
    before = ledger.of(ApiKeys).find(["k1", "k2", "k3", "other"])
    for old, new in (("k1", "n1"), ("k2", "n2")):
        assert ledger.of(ApiKeys).rotate(old, NewKey(new, "a", new, ("s",), "e" * 64), 0)
        ledger.of(ApiKeys).take_back(new, before[old])
    ledger.of(ApiKeys).take_back("k3")
    found = ledger.of(ApiKeys).find(["k1", "k2", "k3", "other", "n1", "n2"])
    assert {name: row.expires_at for name, row in found.items()} == {
        name: before[name].expires_at for name in ("k1", "k2", "other")
    }


def test_events_that_kafka_refused_are_dropped_by_number(ledger):
    row = {"topic": "t", "headers": "{}", "value": b"v"}
    write(ledger, *(insert(OUTBOX).values(**row, set_aside_at=at) for at in (1, None, 1)))
    first, second, third = [row.id for row in ledger.read(select(OUTBOX.c.id).order_by(OUTBOX.c.id))]
    assert ledger.drop_outbox([first, second]) == 1
    assert [row.id for row in ledger.read(select(OUTBOX.c.id).order_by(OUTBOX.c.id))] == [second, third]


def test_bases_that_were_asked_or_filled_lately_come_by_how_much(ledger):
    now = ledger.now()
    for number, (tenant, base, at, chunks) in enumerate([
        ("a", "asked", 1, 2), ("a", "asked", 1, 3), ("a", "filled", now - 1_000, 4), ("a", "new", now, 5),
        ("a", "old", 1, 6), ("b", "asked", now - 2_000, 7), ("a", "empty", now, 0),
    ]):  # fmt: skip
        write(ledger, insert(DOCUMENTS).values(
            id=number + 1, tenant=tenant, knowledge=base, name=str(number), sha256="s", format="plain", embedder="e",
            size=1, chunks=chunks, added_at=at,
        ))  # fmt: skip
    ledger.of(KnowledgeBases).asked({("a", "asked"): 3, ("a", "gone"): 1})
    found = [
        LatelyUsed("a", "asked", 5),
        LatelyUsed("a", "new", 5),
        LatelyUsed("a", "filled", 4),
        LatelyUsed("b", "asked", 7),
    ]
    assert ledger.of(KnowledgeBases).lately_used(9) == found
    assert ledger.of(KnowledgeBases).lately_used(2) == found[:2]
    of_asked = update(BASE_USES).where(BASE_USES.c.knowledge == "asked")
    write(ledger, of_asked.values(asked_at=now - 2 * DAY_MS))
    ledger.of(KnowledgeBases).asked({("a", "asked"): 4})
    uses = {row.knowledge: row for row in ledger.read(select(BASE_USES))}
    assert (uses["asked"].questions, uses["gone"].questions) == (5.5, 1.0)
    assert now <= uses["asked"].asked_at <= ledger.now()
    write(ledger, of_asked.values(asked_at=now - 8 * DAY_MS))
    assert [row.knowledge for row in ledger.of(KnowledgeBases).lately_used(9)] == ["new", "filled", "asked"]


# -- first steps that nobody runs


def claim(ledger, number, queue="q", worker=None, at=1):
    write(ledger, insert(CLAIMS).values(
        id=number, queue=queue, stage="s", group_key="g", lane=1, size=1, tokens=1, sender="b", worker=worker,
        claimed_at=at, lease_until=LATE,
    ))  # fmt: skip


@pytest.mark.parametrize("handed_out", [False, True])
def test_what_has_waited_long_is_seen(ledger, handed_out):
    now = ledger.now()
    job(ledger, "j", "active")
    for number, queue, at in ((1, "q", now - 500_000), (2, "late", now)):
        if handed_out:
            claim(ledger, number, queue, at=at)
        else:
            step(ledger, "j", "ready", "s", ordinal=number, queue=queue, ready_at=at)
    claim(ledger, 3, "begun", worker="w")
    step(ledger, "j", "leased", "s", ordinal=3, queue="leased")
    assert ledger.waits("q", 100_000)
    assert not ledger.waits("q", 5_000_000)
    assert [ledger.waits(queue, 100_000) for queue in ("late", "begun", "leased", "none")] == [False] * 4


def test_first_steps_are_moved_where_somebody_runs_them(ledger):
    claim(ledger, 1)
    claim(ledger, 2, worker="w")
    claim(ledger, 3, "other")
    there = set()
    for name, state, stage, fields in (
        ("moves", "ready", "s", {}), ("moves", "ready", "s", {"ordinal": 1, "reason": "before"}),
        ("stays", "ready", "s", {}), ("told", "ready", "s", {"reason": "no model"}),
        ("handed", "leased", "s", {"claim_id": 1}), ("begun", "leased", "s", {"claim_id": 2}),
        ("there", "leased", "s", {"claim_id": 3, "queue": "other"}), ("else", "ready", "s", {"queue": "other"}),
        ("stage", "ready", "t", {}), ("later", "ready", "s", {"payload": b"event"}),
        ("moves", "done", "t", {"ordinal": 1}), ("stays", "done", "t", {}),
    ):  # fmt: skip
        if name not in there:
            there.add(name)
            job(ledger, name, "active", payload=name.encode(), kind=f"of {name}")
        step(ledger, name, state, stage, **{"queue": "q", "group_key": name} | fields)
    seen = []

    def where(row):
        seen.append((row.job_id, row.ordinal, row.kind, row.payload))
        if row.job_id == "moves" and row.ordinal == 1:
            return Move("moves", 1, "u", "v", "w", b"context", 8)
        return Stay(row.job_id, row.ordinal) if row.job_id in ("stays", "moves") else None

    before = {(row.job_id, row.stage, row.ordinal): row._asdict() for row in ledger.read(select(STEPS))}
    now = ledger.now()
    assert ledger.move_on("s", "q", where, "no model") == 1
    after = {(row.job_id, row.stage, row.ordinal): row._asdict() for row in ledger.read(select(STEPS))}
    assert sorted(seen) == [
        ("handed", 0, "of handed", b"handed"), ("moves", 0, "of moves", b"moves"), ("moves", 1, "of moves", b"moves"),
        ("stays", 0, "of stays", b"stays"),
    ]  # fmt: skip
    assert {row.id for row in ledger.read(select(CLAIMS.c.id))} == {2, 3}
    moved = after["moves", "u", 1]
    assert now <= moved["ready_at"] <= ledger.now()
    before["moves", "u", 1] = before.pop(("moves", "s", 1)) | {
        "stage": "u", "queue": "v", "group_key": "w", "context": b"context", "prefix": 8, "ready_at": moved["ready_at"],
        "turn": 1,  # of its new queue
    }  # fmt: skip
    for stays in (("moves", "s", 0), ("stays", "s", 0)):
        before[stays] |= {"reason": "no model"}
    assert after["handed", "s", 0]["state"] == "ready"
    assert after == before | {("handed", "s", 0): after["handed", "s", 0]}

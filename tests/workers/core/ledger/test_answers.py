"""Answers that may be given again: who makes them, whom they were given to, and their end."""

from sqlalchemy import insert, select, update
from tests.workers.core.ledger.rows import LATE, entry, job, serve, states, write
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.core.ledger.change_feed import BEFORE_ALL, Position
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import CHANGES, CLAIMS
from headrace_workers.features.cache.store.answers import Answers, Change
from headrace_workers.features.cache.store.entries import Admit, Entry, Leader, NewEntry, Served, expire
from headrace_workers.features.cache.store.removal import AnswerOf, Recalled
from headrace_workers.features.cache.tables import AUDITS, ENTRIES, USES
from headrace_workers.features.knowledge.store.documents import KnowledgeBases
from headrace_workers.features.knowledge.tables import DOCUMENTS

# -- who makes an answer, and what it is


def test_who_asks_first_makes_the_answer(ledger):
    entry(ledger, 1_000, key="there", asked_at=90)  # which no number that the database gives can be
    one = NewEntry(scope="s", key="k", tenant="a", job_id="first", lane=2, question="q", vector=b"v")
    other = NewEntry(scope="s", key="k", tenant="b", job_id="second", lane=0)
    plain = NewEntry(scope="t", key="l", tenant="b", job_id="third", lane=0)
    late = NewEntry(scope="s", key="there", tenant="a", job_id="fourth", lane=1, vector=b"v")
    before = ledger.now()
    led = ledger.of(Answers).lead([one, other, plain, late])
    made = {row.key: row for row in ledger.read(select(ENTRIES).where(ENTRIES.c.state == "pending"))}
    assert led.leaders == {"k": Leader(made["k"].id, "first", 2), "l": Leader(made["l"].id, "third", 0)}
    row = made["k"]
    assert (row.scope, row.tenant, row.question, row.vector, row.answer) == ("s", "a", "q", b"v", None)
    assert before <= row.made_at <= ledger.now()
    assert before <= row.asked_at <= ledger.now()
    assert row.expires_at == 2**62
    age = led.live["there"].age_ms
    assert led.live == {"there": Entry(1_000, "there", "1000cope", "maker 1000", "q1000", b"{}", 2.5, age, 90, None)}
    assert before - 100 <= age <= ledger.now() - 100
    assert [row.subject for row in ledger.read(select(CHANGES.c.subject))] == [made["k"].id]
    again = ledger.of(Answers).lead([late, plain], passed=[1_000])
    assert again.live == {}
    assert set(again.leaders) == {"there", "l"}
    assert again.leaders["l"] == led.leaders["l"]
    assert ledger.of(Answers).lead([]) == ({}, {})
    ids = [leader.entry_id for leader in again.leaders.values()]
    assert ledger.of(Answers).in_the_making(ids) == {leader.entry_id: leader for leader in again.leaders.values()}
    assert ledger.of(Answers).in_the_making(ids[:1]) == {ids[0]: next(iter(again.leaders.values()))}
    assert ledger.of(Answers).in_the_making([1_000]) == ledger.of(Answers).in_the_making([]) == {}


def test_an_answer_is_found_by_its_key_and_its_id_while_it_lives(ledger):
    entry(ledger, 1)
    entry(ledger, 2, asked_at=50, question=None)
    entry(ledger, 3, expires_at=1)
    entry(ledger, 4, state="pending")
    entry(ledger, 5, state="dead")
    keys = [f"key {number}" for number in range(1, 6)]
    found = ledger.of(Answers).exact(keys)
    assert {key: (item.id, item.asked_at, item.question) for key, item in found.items()} == {
        "key 1": (1, 100, "q1"), "key 2": (2, 50, None),
    }  # fmt: skip
    assert [set(ledger.of(Answers).exact([key])) for key in keys] == [{"key 1"}, {"key 2"}, set(), set(), set()]
    assert set(ledger.of(Answers).living([1, 3, 4, 5])) == set(ledger.of(Answers).living([1])) == {1}
    assert ledger.of(Answers).living([5]) == ledger.of(Answers).living([]) == ledger.of(Answers).exact([]) == {}


def test_an_answer_that_was_admitted_takes_the_place_of_an_older_one(ledger):
    entry(ledger, 1, key="k")
    entry(ledger, 2)
    entry(ledger, 3, key="k", state="pending", answer=None, made_at=1)
    before = ledger.now()
    with writing(ledger.engine) as tx:
        Admit(3, b"[1]", 7.5, 100_000).write(tx)
        Admit(2, b"[2]", 1.0, 1).write(tx)  # it is not being made
    rows = {row.id: row for row in ledger.read(select(ENTRIES))}
    assert {number: row.state for number, row in rows.items()} == {1: "dead", 2: "live", 3: "live"}
    assert (rows[3].answer, rows[3].saved_ms, rows[2].answer) == (b"[1]", 7.5, b"{}")
    assert before <= rows[3].made_at <= ledger.now()
    assert before + 90_000 - 1 <= rows[3].expires_at <= ledger.now() + 100_000
    dead = rows[1]
    assert (dead.reason, dead.question, dead.vector, dead.answer) == ("replaced by a newer one", None, None, None)
    assert before <= dead.died_at <= ledger.now()


def test_an_answer_that_rests_on_what_has_changed_is_withdrawn(ledger):
    for number, digest in ((1, "s1"), (2, "s2")):
        write(ledger, insert(DOCUMENTS).values(
            id=number, tenant="a", knowledge="kb", name=str(number), sha256=digest, format="plain", embedder="e",
            size=1, chunks=1, added_at=1,
        ))  # fmt: skip
        entry(ledger, number, state="pending")
    with writing(ledger.engine) as tx:
        Admit(1, b"[]", 1.0, 1_000, ((1, "s1"), (2, "s2"))).write(tx)
        Admit(2, b"[]", 1.0, 1_000, ((1, "s1"), (2, "old"))).write(tx)
    assert states(ledger) == {1: "live"}
    uses = [tuple(row) for row in ledger.read(select(USES).order_by(USES.c.document_id))]
    assert uses == [(1, 1, "s1"), (1, 2, "s2")]
    entry(ledger, 3)
    entry(ledger, 4)
    write(ledger, insert(USES).values(entry_id=3, document_id=1, sha256="s1"))
    wanted = {1: [(1, "s1"), (2, "s2")], 3: [(1, "s1"), (2, "s2")]}
    assert ledger.of(Answers).outdate(wanted, "they were shown") == {3}
    assert states(ledger) == {1: "live", 3: "dead", 4: "live"}
    assert [row.reason for row in ledger.read(select(ENTRIES.c.reason).where(ENTRIES.c.id == 3))] == ["they were shown"]


def test_an_answer_is_withdrawn_while_it_is_made(ledger):
    for number, state in ((1, "pending"), (2, "pending"), (3, "live")):
        entry(ledger, number, state=state)
    assert ledger.of(Answers).withdraw(1)
    assert not ledger.of(Answers).withdraw(1)
    assert not ledger.of(Answers).withdraw(3)
    assert states(ledger) == {2: "pending", 3: "live"}


def test_what_was_given_is_noted_whole(ledger):
    before = ledger.now()
    with writing(ledger.engine) as tx:
        Served(
            job_id="j", entry_id=4, tenant="a", scope="s", tier="semantic", similarity=0.5, first_job="f",
            saved_tokens=6, saved_ms=1.5, stratum=2, share=0.25,
        ).write(tx)  # fmt: skip
    (row,) = ledger.of(Answers).given("j")
    assert before <= row.served_at <= ledger.now()
    assert row._asdict() == {
        "id": 1, "job_id": "j", "entry_id": 4, "tenant": "a", "scope": "s", "tier": "semantic", "similarity": 0.5,
        "first_job": "f", "saved_tokens": 6, "saved_ms": 1.5, "served_at": row.served_at, "stratum": 2, "share": 0.25,
    }  # fmt: skip
    assert ledger.of(Answers).given("k") == []


def test_answers_that_likeness_may_find_come_in_pages(ledger):
    for number, state in ((3, "live"), (1, "live"), (2, "live"), (4, "pending"), (5, "dead"), (7, "pending")):
        entry(ledger, number, state=state)
    entry(ledger, 6, vector=None)
    entry(ledger, 8, vector=None, state="pending")
    assert ledger.of(Answers).snapshot(0, 1) == [Change(1, "1cope", "q1", b"v")]
    assert [row.entry_id for row in ledger.of(Answers).snapshot(0, 9)] == [1, 2, 3]
    assert [row.entry_id for row in ledger.of(Answers).snapshot(1, 1)] == [2]
    assert [row.entry_id for row in ledger.of(Answers).snapshot(0, 9, making=True)] == [4, 7]


def test_answers_whose_time_has_come_end(ledger):
    entry(ledger, 1, expires_at=1)
    entry(ledger, 2)
    entry(ledger, 3, expires_at=1, state="pending")
    with writing(ledger.engine) as tx:
        assert expire(tx) == 1
        assert expire(tx) == 0
    assert states(ledger) == {1: "dead", 2: "live", 3: "pending"}
    assert [row.reason for row in ledger.read(select(ENTRIES.c.reason).where(ENTRIES.c.id == 1))] == ["too old"]


# -- changes


def test_what_changed_is_found_from_a_mark_on(ledger):
    entry(ledger, 1_000, vector=None, state="dead")
    led = ledger.of(Answers).lead([
        NewEntry(scope=scope, key=scope, tenant="a", job_id="j", lane=0, question=f"of {scope}", vector=b"v")
        for scope in ("s", "t", "u")
    ])  # fmt: skip
    s, t = (led.leaders[scope].entry_id for scope in "st")
    with writing(ledger.engine) as tx:
        Admit(s, b"{}", 1.0, 60_000).write(tx)
    found = ledger.of(Answers).changed(BEFORE_ALL, 9)
    assert [(item.scope, item.making) for item in found] == [("s", False), ("t", True), ("u", True), ("s", False)]
    first, _, third, last = found
    assert (first.entry_id, first.question, first.vector) == (s, "of s", b"v")
    assert [row.mark.number for row in ledger.of(Answers).lately(0, ["s", "u"], 9)] == [4, 3, 1]
    assert [row.mark.number for row in ledger.of(Answers).lately(1, ["s", "u"], 1)] == [4]
    assert [row.mark.number for row in ledger.of(Answers).lately(2, ["t"], 9)] == []
    assert [(row.entry_id, row.making) for row in ledger.of(Answers).lately(0, ["t"], 9)] == [(t, True)]
    assert ledger.of(Answers).mark(Position(2**60, 0)) == last.mark
    assert ledger.of(Answers).mark(third.position) == third.mark
    assert ledger.of(Answers).mark(BEFORE_ALL) is None
    assert ledger.of(KnowledgeBases).mark(Position(2**60, 0)) is None
    assert ledger.of(Answers).stands(third.mark)
    assert not ledger.of(KnowledgeBases).stands(third.mark)
    for other in ({"subject": 99}, {"at": 1}, {"number": 99}, {"xact": 99}):
        assert not ledger.of(Answers).stands(third.mark._replace(**other))
    write(ledger, update(CHANGES).values(at=1))
    old = [row.mark for row in ledger.of(Answers).changed(BEFORE_ALL, 9)]
    assert [ledger.of(Answers).stands(mark) for mark in old] == [False, False, False, True]


# -- what turns out to be wrong


def test_the_answers_of_a_job_are_those_that_it_made_and_was_given(ledger):
    entry(ledger, 1, job_id="j")
    entry(ledger, 2, state="dead", reason="why", expires_at=500)
    entry(ledger, 3)
    serve(ledger, 2, "j")
    serve(ledger, 2, "k")
    serve(ledger, 9, "j", tenant="b", scope="gone", first_job="first")
    assert ledger.of(Answers).of_job("j") == [
        AnswerOf(entry_id=1, state="live", tenant="a", scope="1cope", first_job="j", served=0, made_at=100,
                 expires_at=LATE),
        AnswerOf(entry_id=2, state="dead", tenant="a", scope="2cope", first_job="maker 2", served=2, made_at=100,
                 expires_at=500, reason="why"),
        AnswerOf(entry_id=9, state="gone", tenant="b", scope="gone", first_job="first", served=1),
    ]  # fmt: skip
    assert [row.entry_id for row in ledger.of(Answers).of_job("k")] == [2]
    assert [row.entry_id for row in ledger.of(Answers).of_job("first")] == [9]
    assert ledger.of(Answers).of_job("nobody") == []


def test_what_is_recalled_is_given_to_nobody_and_others_stay(ledger):
    for number, state in ((1, "live"), (2, "pending"), (3, "live"), (4, "dead"), (5, "pending")):
        entry(ledger, number, state=state)
    for number in (1, 3):
        write(ledger, insert(AUDITS).values(
            id=f"audit {number}", job_id="j", entry_id=number, tenant="a", scope="s", similarity=1.0, stratum=1,
            share=1.0, served_at=1, question="q?",
        ))  # fmt: skip
    for number, stage, started in ((1, "recall", 5), (2, "recall", None), (3, "generate", 5)):
        write(ledger, insert(CLAIMS).values(
            id=number, stage=stage, queue="q", group_key="g", lane=0, size=1, tokens=1, sender="b",
            claimed_at=1, lease_until=LATE, started_at=started,
        ))  # fmt: skip
    before = ledger.now()
    assert ledger.of(Answers).recall([1, 2, 4], "r" * 3_000) == Recalled(1, 1, (1,))
    assert states(ledger) == {1: "dead", 3: "live", 4: "dead", 5: "pending"}
    (row,) = ledger.read(select(ENTRIES).where(ENTRIES.c.id == 1))
    assert (row.reason, row.question, row.vector, row.answer) == ("r" * 2_000, None, None, None)
    assert before <= row.died_at <= ledger.now()
    questions = {row.entry_id: row.question for row in ledger.read(select(AUDITS.c.entry_id, AUDITS.c.question))}
    assert questions == {1: None, 3: "q?"}
    assert ledger.of(Answers).running([1, 3, 9]) == {1, 3}
    assert ledger.of(Answers).running([]) == frozenset()


def test_those_who_were_given_an_answer_come_in_order(ledger):
    job(ledger, "j1")
    job(ledger, "j2", "dead")
    for number, name in ((1, "j1"), (2, "j2"), (1, "gone"), (1, "j2")):
        serve(ledger, number, name)
    found = ledger.of(Answers).served([1], 0, 9)
    assert [(row.id, row.job_id, row.state) for row in found] == [
        (1, "j1", "done"),
        (3, "gone", None),
        (4, "j2", "dead"),
    ]
    assert [row.id for row in ledger.of(Answers).served([1, 2], 1, 2)] == [2, 3]
    assert [row.entry_id for row in ledger.of(Answers).given("j2")] == [1, 2]
    asked = ledger.of(Answers).to_ask_again(["j2", "gone"])
    assert {name: tuple(row) for name, row in asked.items()} == {"j2": ("j2", "a", "generation", "dead", b"{}", None)}

"""Audits in the ledger: their rows, their labels, and what is counted of them, by scope and tenant."""

from uuid import uuid4

import pytest
from sqlalchemy import insert, select
from tests.workers.core.ledger.rows import SCOPE, audit, entry, states, write
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.core.identity import audit_id, explored_id
from headrace_workers.core.ledger.charges import NextCall
from headrace_workers.core.ledger.steps import NewStep
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS, STEPS
from headrace_workers.features.cache.store.audit_rows import (
    BY_ITSELF,
    PATIENCE_MS,
    Audited,
    AuditWork,
    NewAudit,
    forget,
    give_up,
)
from headrace_workers.features.cache.store.audits import Audits
from headrace_workers.features.cache.tables import AUDITS, ENTRIES

OTHER = "77777" + "0" * 59
TEXTS = {"question": "q?", "served": "s!", "fresh": "f!", "again": "a!"}

CALL = NextCall("small", None, 0)


def row_of(ledger, name):
    (found,) = ledger.read(select(AUDITS).where(AUDITS.c.id == name))
    return found._asdict()


def new(name, **fields):
    known = {
        "job_id": "served", "entry_id": 7, "tenant": "a", "scope": SCOPE, "similarity": 0.75, "stratum": 2,
        "share": 0.25, "question": "q?", "served": "s!",
    }  # fmt: skip
    return NewAudit(id=name, **known | fields)


# -- one audit


def test_an_audit_is_written_with_its_work(ledger):
    name = str(uuid4())
    step = NewStep(
        job_id=name, stage="audit", queue="q", group_key="g", lane=1, rank=3, deadline=0, turn=5, tokens=6,
        event_type="t",
    )  # fmt: skip
    before = ledger.now()
    for question in ("q?", "again"):
        with writing(ledger.engine) as tx:
            new(
                name,
                guard="dates",
                question=question,
                afresh=AuditWork(
                    job=b"{}", step=step, call=CALL, tenant="a", subject="served", endpoint="scope 5c09e000"
                ),
            ).write(tx)
    found = row_of(ledger, name)
    assert before <= found["served_at"] <= ledger.now()
    assert found == {
        "id": name, "kind": "hit", "job_id": "served", "entry_id": 7, "tenant": "a", "scope": SCOPE,
        "similarity": 0.75, "stratum": 2, "share": 0.25, "served_at": found["served_at"], "question": "q?",
        "served": "s!", "fresh": None, "again": None, "own": None, "guard": "dates", "label": None,
        "labelled_by": None, "labelled_at": None, "reason": None, "judged": False,
    }  # fmt: skip
    (job,) = ledger.read(select(JOBS))
    assert (job.id, job.tenant, job.kind, job.state, job.payload) == (name, "a", "audit", "active", b"{}")
    assert (job.subject, job.endpoint) == ("served", "scope 5c09e000")
    assert before <= job.accepted_at <= ledger.now()
    (row,) = ledger.read(select(STEPS))
    assert (row.job_id, row.stage, row.queue, row.rank, row.tokens) == (name, "audit", "q", 3, 6)
    assert row.deadline == job.accepted_at + PATIENCE_MS


def test_what_was_nearly_served_makes_no_work(ledger):
    with writing(ledger.engine) as tx:
        new("x", kind="refused", guard="several").write(tx)
    found = row_of(ledger, "x")
    assert (found["kind"], found["guard"]) == ("refused", "several")
    assert ledger.read(select(JOBS.c.id)) == []


def test_a_scope_of_which_too_many_wait_is_not_audited_more(ledger):
    row = {"kind": "hit", "job_id": "j", "entry_id": 1, "tenant": "a", "similarity": 1.0, "stratum": 1, "share": 1.0,
           "served_at": 1}  # fmt: skip
    waiting = [{**row, "id": f"w{n}", "scope": SCOPE, "label": None} for n in range(999)]
    beside = [
        {**row, "id": "other", "scope": OTHER, "label": None},
        {**row, "id": "l", "scope": SCOPE, "label": "wrong"},
    ]
    with writing(ledger.engine) as tx:
        tx.execute(insert(AUDITS), waiting + beside)
        new("thousandth").write(tx)
        new("too many").write(tx)
        new("elsewhere", scope=OTHER).write(tx)
    there = {row.id for row in ledger.read(select(AUDITS.c.id))}
    assert there & {"thousandth", "too many", "elsewhere"} == {"thousandth", "elsewhere"}


def test_what_an_audit_came_to_is_written_once(ledger):
    for name in ("one", "two"):
        audit(ledger, name, label=None, labelled_at=None, **TEXTS)
    before = ledger.now()
    for label, reason in (("clean", "r" * 3_000), ("unknown", "late")):
        with writing(ledger.engine) as tx:
            Audited("one", label, reason, "fresh", "again", "wrong").write(tx)
    found = row_of(ledger, "one")
    assert before <= found["labelled_at"] <= ledger.now()
    names = ("label", "labelled_by", "reason", "judged", "question", "served", "fresh", "again", "own")
    assert tuple(found[name] for name in names) == (
        "clean", "headrace", "r" * 2_000, False, None, None, None, None, "wrong",
    )  # fmt: skip
    other = row_of(ledger, "two")
    assert (other["label"], {name: other[name] for name in TEXTS}) == (None, TEXTS)


def test_what_an_audit_finds_wrong_is_given_to_nobody(ledger):
    """The answer that was served, and no other; texts stay for people to see. What was nearly served may be right."""
    for number in (1, 2, 3):
        entry(ledger, number)
    for name, kind, number in (("one", "hit", 1), ("near", "refused", 2)):
        audit(ledger, name, kind=kind, entry_id=number, label=None, labelled_at=None, question="q?", served="s!")
    with writing(ledger.engine) as tx:
        Audited("one", "wrong", "it differs", "fresh", "again", "clean").write(tx)
        Audited("near", "wrong", "it differs").write(tx)
    assert states(ledger) == {1: "dead", 2: "live", 3: "live"}
    (why,) = ledger.read(select(ENTRIES.c.reason).where(ENTRIES.c.id == 1))
    assert why.reason == "an audit found it wrong for another question: it differs"
    found = row_of(ledger, "one")
    names = ("label", "reason", "question", "served", "fresh", "again", "own")
    assert tuple(found[name] for name in names) == ("wrong", "it differs", "q?", "s!", "fresh", "again", "clean")


def test_a_persons_label_holds_whatever_was_there(ledger):
    audit(ledger, "one", label="unknown", judged=True, **TEXTS)
    audit(ledger, "two", label="unknown", judged=True, **TEXTS)
    audit(ledger, "waits", label=None, labelled_at=None)
    before = ledger.now()
    assert ledger.of(Audits).label("one", "clean", "p" * 200).label == "unknown"
    found = row_of(ledger, "one")
    assert before <= found["labelled_at"] <= ledger.now()
    assert (found["label"], found["labelled_by"], found["reason"], found["judged"]) == (
        "clean", "p" * 128, "a person said clean", False,
    )  # fmt: skip
    assert [found[name] for name in TEXTS] == [None] * 4
    other = row_of(ledger, "two")
    assert (other["label"], other["judged"], {name: other[name] for name in TEXTS}) == ("unknown", True, TEXTS)
    assert ledger.of(Audits).label("waits", "wrong", "p").label is None
    assert row_of(ledger, "waits")["label"] is None
    assert ledger.of(Audits).label("nothing", "wrong", "p") is None


@pytest.mark.parametrize(
    ("kind", "said", "kill", "dies"),
    [("hit", "wrong", True, True), ("hit", "wrong", False, False), ("hit", "clean", True, False),
     ("refused", "wrong", True, False)],
)  # fmt: skip
def test_a_person_who_says_wrong_ends_what_was_served(ledger, kind, said, kill, dies):
    entry(ledger, 1)
    entry(ledger, 2)
    audit(ledger, "one", kind=kind, entry_id=1, label="unknown")
    ledger.of(Audits).label("one", said, "Ann", kill=kill)
    assert states(ledger) == {1: "dead" if dies else "live", 2: "live"}
    (why,) = ledger.read(select(ENTRIES.c.reason).where(ENTRIES.c.id == 1))
    assert why.reason == ("wrong: Ann said so of an audit" if dies else None)


@pytest.mark.parametrize(
    ("kind", "said", "already", "dies"),
    [("hit", "wrong", {}, True), ("hit", "clean", {}, False), ("refused", "wrong", {}, False),
     ("hit", "wrong", {"label": "clean", "labelled_by": "Ann"}, False)],
)  # fmt: skip
def test_a_verifier_that_says_wrong_ends_what_was_served_unless_a_person_spoke(ledger, kind, said, already, dies):
    entry(ledger, 1)
    entry(ledger, 2)
    audit(ledger, "one", **{"kind": kind, "entry_id": 1, "label": "unknown", "labelled_by": BY_ITSELF} | already)
    ledger.of(Audits).verified(Audited("one", said, "why", by="verifier:m"))
    assert states(ledger) == {1: "dead" if dies else "live", 2: "live"}
    expected = {"label": said, "labelled_by": "verifier:m"} | already
    assert {name: row_of(ledger, "one")[name] for name in expected} == expected


def test_what_a_person_should_label_comes_in_order(ledger):
    for name, kind, at, more in (
        ("b1", "refused", 1, {}), ("h3", "hit", 3, {}), ("h2b", "hit", 2, {}), ("h2a", "hit", 2, {"scope": OTHER}),
        ("r0", "refused", 0, {"tenant": "b"}), ("done", "hit", 0, {"label": "clean"}),
    ):  # fmt: skip
        audit(ledger, name, kind=kind, served_at=at, **{"label": "unknown"} | more)

    def names(*how, **more):
        return [row.id for row in ledger.of(Audits).unknown(*how, **more)]

    assert names() == ["h2a", "h2b", "h3", "r0", "b1"]
    assert names(limit=2) == ["h2a", "h2b"]
    assert names("a") == ["h2a", "h2b", "h3", "b1"]
    assert names(None, "5c09e") == ["h2b", "h3", "r0", "b1"]
    assert names("a", OTHER) == ["h2a"]
    assert names(None, "%") == names(None, "_") == []


def test_the_audit_of_a_job_is_found(ledger):
    job = str(uuid4())
    audit(ledger, audit_id(job, 5))
    audit(ledger, explored_id(job))
    assert ledger.of(Audits).of_job(job, 5).id == audit_id(job, 5)
    assert ledger.of(Audits).of_job(job, None).id == explored_id(job)
    assert ledger.of(Audits).of_job(job, 6) is None


def test_audits_whose_work_ended_in_vain_are_given_up(ledger):
    names = {name: str(uuid4()) for name in ("dead", "gone", "runs", "said", "near", "near runs")}
    waits = {"label": None, "labelled_at": None, "question": "q?"}
    audit(ledger, names["said"])
    for name in ("dead", "gone", "runs"):
        audit(ledger, names[name], **waits)
    for name in ("near", "near runs"):
        audit(ledger, names[name], kind="refused", job_id=f"job {name}", **waits)
    for job_id, state in (
        (names["dead"], "dead"), (names["runs"], "active"), ("job near", "done"), ("job near runs", "active"),
    ):  # fmt: skip
        write(ledger, insert(JOBS).values(
            id=job_id, tenant="a", kind="audit", state=state, payload=b"", accepted_at=1,
        ))  # fmt: skip
    before = ledger.now()
    assert ledger.of(Audits).give_up() == 3
    labels = {row.id: row.label for row in ledger.read(select(AUDITS.c.id, AUDITS.c.label))}
    assert labels == {
        names["dead"]: "unknown", names["gone"]: "unknown", names["runs"]: None, names["said"]: "clean",
        names["near runs"]: None,
    }  # fmt: skip
    given = row_of(ledger, names["gone"])
    assert (given["labelled_by"], given["reason"], given["question"], given["judged"]) == (
        "headrace", "given up: it was not answered afresh in time, or trying failed", "q?", False,
    )  # fmt: skip
    assert before <= given["labelled_at"] <= ledger.now()
    assert ledger.of(Audits).give_up() == 0


def test_what_was_labelled_meanwhile_is_not_given_up(ledger):
    names = {name: str(uuid4()) for name in ("said", "waits", "other", "near said", "near", "near other")}
    for name, audit_name in names.items():
        label = {"label": "wrong"} if "said" in name else {"label": None, "labelled_at": None}
        audit(ledger, audit_name, kind="refused" if "near" in name else "hit", **label)
    before = {name: row_of(ledger, audit_name) for name, audit_name in names.items()}
    with writing(ledger.engine) as tx:
        give_up(tx, [audit_name for name, audit_name in names.items() if "other" not in name])
    assert row_of(ledger, names["waits"])["label"] == "unknown"
    there = {row.id for row in ledger.read(select(AUDITS.c.id))}
    assert there == set(names.values()) - {names["near"]}
    for name in ("said", "other", "near said", "near other"):
        assert row_of(ledger, names[name]) == before[name]


def test_what_a_person_has_called_right_no_audit_ends(ledger):
    """It comes too late: the answer is given on."""
    entry(ledger, 1)
    audit(ledger, "one", entry_id=1, label="clean")
    before = row_of(ledger, "one")
    with writing(ledger.engine) as tx:
        Audited("one", "wrong", "it differs", "fresh").write(tx)
    assert (states(ledger), row_of(ledger, "one")) == ({1: "live"}, before)


def test_texts_of_answers_that_go_are_forgotten(ledger):
    maker, other = str(uuid4()), str(uuid4())
    entry(ledger, 1, job_id=maker)
    entry(ledger, 2, job_id=other)
    gone, kept = [str(uuid4()), explored_id(maker)], [str(uuid4()), explored_id(other)]
    for name, number in zip((*gone, *kept), (1, 7, 2, 7), strict=True):
        audit(ledger, name, entry_id=number, label="wrong", **TEXTS)
    before = {name: row_of(ledger, name) for name in (*gone, *kept)}
    with writing(ledger.engine) as tx:
        forget(tx, [])
        forget(tx, {1, 9})
    nothing = dict.fromkeys(TEXTS)
    assert {name: row_of(ledger, name) for name in before} == before | {name: before[name] | nothing for name in gone}

"""Near misses are explored: what a guard refused is compared with the answer that its job was given instead."""

import pytest
from sqlalchemy import func, select, update
from tests.workers.features.cache.semantic.conftest import Flow, tiers
from tests.workers.features.cache.semantic.test_audits import ask, asked, like

from headrace_schemas import Answer
from headrace_workers.core.identity import explored_id
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.change_feed import Follower
from headrace_workers.core.ledger.claims import Wanted
from headrace_workers.core.progress import Progress
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import CLAIMS, JOBS
from headrace_workers.features.cache.semantic.lookup import AnswerLookup
from headrace_workers.features.cache.semantic.nearest import NearestQuestions
from headrace_workers.features.cache.semantic.questions import Known, Questions
from headrace_workers.features.cache.semantic.scope_limits import ScopeLimits
from headrace_workers.features.cache.store import audit_rows
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.cache.store.audits import Audits
from headrace_workers.features.cache.store.removal import EntryFilter
from headrace_workers.features.cache.tables import AUDITS, ENTRIES, SERVES, STANDINGS
from headrace_workers.testing import HashEmbedder

VAGUE = "Look under settings, then under security, and follow what it says there."


@pytest.fixture
def strict(ledger):
    """A flow that explores all that guards refuse."""
    return strictly(ledger, 0.9)


def strictly(ledger, least):
    embedder = HashEmbedder()
    known = Known(embedder.dimensions)
    standings = ScopeLimits(ledger, 0.01, "w", Progress().loop("standings"), serves_unshown=True)
    nearest = NearestQuestions(embedder, known, least, standings.limit)
    flow = Flow(ledger, AnswerLookup(ledger, lambda alias: f"{alias}/1", nearest), audit_share=1.0)
    flow.known = known
    flow.follower, flow.standings = Follower(Questions(ledger, known), Progress().loop("follow")), standings
    flow.follower.once()
    standings.once()
    return flow


def audits(flow):
    return flow.ledger.read(select(AUDITS).order_by(AUDITS.c.served_at, AUDITS.c.id))


def known(flow, asks, number, says, **more):
    """Let a question have this answer; its job."""
    job = ask(flow, asks, asked(number), **more)
    with writing(flow.ledger.engine) as tx:
        query = select(ENTRIES.c.answer).where(ENTRIES.c.job_id == job)
        answer = Answer.model_validate_json(tx.execute(query).scalar_one()).with_text(says)
        planted = answer.model_dump_json(exclude_none=True).encode()
        tx.execute(update(ENTRIES).where(ENTRIES.c.job_id == job).values(answer=planted))
    return job


def test_what_a_guard_refused_is_compared_with_the_jobs_own_answer(strict, asks):
    known(strict, asks, 3, asked(4))
    job = ask(strict, asks, asked(4))
    assert tiers(strict, [job]) == ["none"]
    assert strict.result(job).answer.recall.refused.startswith("numbers: ")
    (found,) = audits(strict)
    entry = strict.ledger.read(select(ENTRIES.c.id).order_by(ENTRIES.c.id))[0].id
    assert (found.id, found.kind, found.guard, found.job_id, found.entry_id) == (
        explored_id(job), "refused", "numbers", job, entry,
    )  # fmt: skip
    assert (found.label, found.reason, found.share) == ("clean", "the same text", 1.0)
    assert found.similarity == strict.result(job).answer.recall.similarity
    assert (found.question, found.served, found.fresh) == (None, None, None)
    assert strict.ledger.read(select(func.count()).select_from(JOBS)) == [(2,)]
    assert strict.run("model.echo", 1) == 0


def test_what_the_threshold_refused_is_not_explored(ledger, asks):
    flow = strictly(ledger, 0.96)
    known(flow, asks, 3, like(3))
    job = ask(flow, asks, like(3))
    assert "is below 0.96" in flow.result(job).answer.recall.refused
    assert audits(flow) == []


def test_an_answer_that_would_have_been_wrong_stays_with_its_own_question(strict, asks):
    known(strict, asks, 3, asked(3))
    ask(strict, asks, asked(4))
    (wrong,) = audits(strict)
    assert (wrong.label, wrong.served, wrong.fresh) == ("wrong", asked(3), asked(4))
    strict.ledger.of(Audits).label(wrong.id, "wrong", "ann")
    again = ask(strict, asks, asked(3), key="again")
    assert tiers(strict, [again]) == ["exact"]
    assert strict.result(again).answer.text == asked(3)


def test_where_several_guards_refuse_none_is_blamed_alone(ledger, asks):
    strict = strictly(ledger, 0.5)
    known(strict, asks, 3, asked(3))
    ask(strict, asks, asked(4) + " Not now.")
    (found,) = audits(strict)
    assert (found.kind, found.guard) == ("refused", "several")
    with writing(ledger.engine) as tx:
        tx.execute(update(AUDITS).values(share=0.05))
    (of_guard,) = ledger.of(Audits).by_guard()
    assert (of_guard.guard, of_guard.refused, sum(of_guard.labels)) == ("several", pytest.approx(20), 1)


def test_what_is_explored_never_enters_what_was_served(strict, asks):
    """However much of it would have been wrong, the bound is of what was served."""
    known(strict, asks, 3, asked(3))
    for number in (4, 5, 6):
        ask(strict, asks, asked(number))
    assert {(audit.kind, audit.label) for audit in audits(strict)} == {("refused", "wrong")}
    strict.standings.once()
    (stands,) = strict.ledger.of(Audits).standings()
    assert (stands.state, stands.figures["served"], stands.figures["audits"], stands.figures["wrong"]) == (
        "not yet shown", 0, 0, 0,
    )  # fmt: skip
    assert stands.figures["refused"] == {"clean": 0, "wrong": 3, "unknown": 0}
    assert strict.ledger.read(select(SERVES)) == []


@pytest.mark.parametrize("why", ["share", "far", "off", "same", "full"])
def test_not_all_is_explored(strict, asks, monkeypatch, why):
    known(strict, asks, 3, like(3))
    if why == "share":
        strict.audit_share = 0.0
        strict.do()
    if why == "off":
        ask(strict, asks, asked(4), key="first")
        strict.standings.once()
        with writing(strict.ledger.engine) as tx:
            tx.execute(update(STANDINGS).values(state="off"))
        strict.standings.once()
    if why == "full":
        monkeypatch.setattr(audit_rows, "MOST_OPEN", 0)
    before = len(audits(strict))
    ask(strict, asks, {"far": "Where is the mill?", "same": asked(3)}.get(why, asked(5)), key="later")
    assert len(audits(strict)) == before


def test_of_a_job_that_was_never_answered_nothing_is_kept(strict, asks):
    known(strict, asks, 3, asked(4))
    (job,) = strict.send(asks(asked(4), cache="semantic"))
    strict.run("recall")
    (waits,) = audits(strict)
    assert (waits.label, waits.served) == (None, asked(4))
    assert strict.standings.once() == 0
    strict.ledger.cancel(Cancellation(job, "default", "enough"))
    strict.standings.once()
    assert audits(strict) == []


@pytest.mark.parametrize("whose", ["the one that was nearly served", "the job's own"])
def test_texts_are_forgotten_with_either_answer(strict, asks, whose):
    first = known(strict, asks, 3, VAGUE)
    job = ask(strict, asks, asked(4))
    (found,) = strict.ledger.of(Audits).unknown()
    assert (found.served, found.fresh) == (VAGUE, asked(4))
    made = job if whose == "the job's own" else first
    (entry,) = strict.ledger.read(select(ENTRIES.c.id).where(ENTRIES.c.job_id == made))
    strict.ledger.of(Answers).purge(EntryFilter(made_before=2**62, ids=(entry.id,)), 0, "purged")
    (kept,) = audits(strict)
    assert (kept.label, kept.question, kept.served, kept.fresh) == ("unknown", None, None, None)


def test_people_are_asked_about_what_was_served_first(ledger, asks):
    flow = strictly(ledger, 0.6)
    known(flow, asks, 3, VAGUE)
    ask(flow, asks, asked(4))
    known(flow, asks, 8, VAGUE)
    ask(flow, asks, like(8))
    flow.run("model.echo", 1)
    kinds = [row.kind for row in flow.ledger.of(Audits).unknown()]
    assert (kinds[0], kinds.count("hit"), "refused" in kinds) == ("hit", 1, True)


def test_a_worker_that_lost_its_lease_compares_nothing(strict, asks):
    known(strict, asks, 3, asked(4))
    strict.send(asks(asked(4), cache="semantic"))
    strict.run("recall")
    (claim,) = strict.ledger.claim([Wanted("model.echo", 0, 1, 8)], lease_ms=60_000, sender="b").claims
    settled = strict.work.do(strict.ledger.start(claim.id, worker="dead", lease_ms=60_000))
    with writing(strict.ledger.engine) as tx:
        tx.execute(update(CLAIMS).values(lease_until=1))
    strict.ledger.reap(3)
    assert strict.ledger.complete(claim.id, settled, ran_ms=1, quantum_ms=5_000) is None
    assert [audit.label for audit in audits(strict)] == [None]
    strict.drain()
    assert [audit.label for audit in audits(strict)] == ["clean"]

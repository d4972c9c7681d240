"""What likeness serves is audited: answered afresh beside the user's way, compared, and counted for its scope."""

import pytest
from sqlalchemy import func, select, update
from tests.workers.features.cache.semantic.conftest import Flow, tiers

from headrace_schemas import Answer
from headrace_workers.core.ledger.change_feed import Follower
from headrace_workers.core.progress import Progress
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import OUTBOX, STEPS
from headrace_workers.features.cache.semantic.lookup import AnswerLookup
from headrace_workers.features.cache.semantic.nearest import NearestQuestions
from headrace_workers.features.cache.semantic.questions import Known, Questions
from headrace_workers.features.cache.semantic.scope_limits import ScopeLimits
from headrace_workers.features.cache.store import audit_rows
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.cache.store.audits import Audits
from headrace_workers.features.cache.store.removal import EntryFilter
from headrace_workers.features.cache.tables import AUDITS, ENTRIES, SERVES
from headrace_workers.testing import HashEmbedder

BATCH = 1


def asked(number):
    return f"How do I reset the password of my account in {number} steps?"


def like(number):
    """The same in other words, which the echo model gives back as its answer."""
    return f"How do I reset my account's password in {number} steps?"


@pytest.fixture
def semantic(ledger):
    """A flow whose hits are all audited, and whose worker knows how scopes stand."""
    embedder = HashEmbedder()
    known = Known(embedder.dimensions)
    standings = ScopeLimits(ledger, 0.01, "w", Progress().loop("standings"), serves_unshown=True)
    nearest = NearestQuestions(embedder, known, 0.7, standings.limit)
    flow = Flow(ledger, AnswerLookup(ledger, lambda alias: f"{alias}/1", nearest), audit_share=1.0)
    flow.follower, flow.standings = Follower(Questions(ledger, known), Progress().loop("follow")), standings
    flow.follower.once()
    standings.once()
    return flow


def ask(flow, asks, prompt, key="", **more):
    """Answer this, and follow; the job."""
    (job,) = flow.send(asks(prompt, cache="semantic", idempotency_key=f"{key}{prompt}", **more))
    flow.drain()
    flow.follower.once()
    return job


def serve(flow, asks, number, says, **more):
    """Let a known question have this answer, and ask it in other words; the job that is served that."""
    first = ask(flow, asks, asked(number), **more)
    answer = Answer.model_validate_json(
        flow.ledger.read(select(ENTRIES.c.answer).where(ENTRIES.c.job_id == first))[0].answer
    ).with_text(says)
    with writing(flow.ledger.engine) as tx:
        planted = answer.model_dump_json(exclude_none=True).encode()
        tx.execute(update(ENTRIES).where(ENTRIES.c.job_id == first).values(answer=planted))
    job = ask(flow, asks, like(number), **more)
    assert tiers(flow, [job]) == ["semantic"]
    return job


def audits(flow):
    return flow.ledger.read(select(AUDITS).where(AUDITS.c.kind == "hit").order_by(AUDITS.c.served_at, AUDITS.c.id))


def run(flow):
    return flow.run("model.echo", BATCH)


def stands(flow):
    """State and figures of the only scope."""
    (found,) = flow.ledger.of(Audits).standings()
    return found


def test_a_hit_is_answered_afresh_and_compared(semantic, asks):
    job = serve(semantic, asks, 3, like(3))
    (waits,) = audits(semantic)
    (step,) = semantic.ledger.read(select(STEPS).where(STEPS.c.job_id == waits.id))
    assert (step.stage, step.queue, step.lane, step.rank, step.state) == ("audit", "model.echo", BATCH, 9, "ready")
    assert (waits.job_id, waits.tenant, waits.label, waits.share) == (job, "default", None, 1.0)
    assert (waits.question, waits.served) == (like(3), like(3))
    assert waits.similarity == semantic.result(job).answer.recall.similarity
    (serve_row,) = semantic.ledger.read(select(SERVES))
    assert (serve_row.stratum, serve_row.share, serve_row.scope) == (waits.stratum, 1.0, waits.scope)
    assert run(semantic) == 1
    (done,) = audits(semantic)
    assert (done.label, done.labelled_by, done.reason) == ("clean", "headrace", "the same text")
    assert (done.question, done.served, done.fresh) == (None, None, None)


def test_an_audit_reaches_nobody(semantic, asks):
    job = serve(semantic, asks, 3, like(3))
    receipt = semantic.result(job)

    def around():
        return [
            semantic.ledger.read(select(func.count()).select_from(OUTBOX))[0][0],
            [tuple(row) for row in semantic.ledger.read(select(ENTRIES.c.id, ENTRIES.c.state, ENTRIES.c.answer))],
            semantic.ledger.active_jobs(),
            semantic.result(job),
        ]

    before = around()
    assert before[2:] == [0, receipt]
    assert run(semantic) == 1
    assert around() == before
    semantic.drain()
    semantic.drain(BATCH)
    assert around() == before


def test_only_a_share_is_drawn_and_none_of_what_was_the_same_request(semantic, asks):
    semantic.audit_share = 0.0
    semantic.do()
    serve(semantic, asks, 3, like(3))
    semantic.audit_share = 1.0
    semantic.do()
    again = ask(semantic, asks, asked(3), key="again")
    assert tiers(semantic, [again]) == ["exact"]
    assert audits(semantic) == []
    assert [(row.share, row.tier) for row in semantic.ledger.read(select(SERVES).order_by(SERVES.c.id))] == [
        (0.0, "semantic"), (None, "exact"),
    ]  # fmt: skip
    serve(semantic, asks, 4, like(4))
    run(semantic)
    semantic.standings.once()
    figures = stands(semantic).figures
    assert (figures["served"], figures["audits"]) == (1, 1)


def test_answers_that_were_wrong_turn_their_scope_off(semantic, asks):
    for number in (3, 4):
        serve(semantic, asks, number, like(9))
        run(semantic)
    assert [audit.label for audit in audits(semantic)] == ["wrong", "wrong"]
    assert semantic.standings.once() == 1
    assert semantic.standings.once() == 0
    off = stands(semantic)
    assert (off.state, off.figures["wrong"], off.figures["audits"]) == ("off", 2, 2)
    serve(semantic, asks, 5, like(5), tenant="other")
    ask(semantic, asks, asked(6))
    refused, same = ask(semantic, asks, like(6)), ask(semantic, asks, asked(6), key="again")
    assert tiers(semantic, [refused, same]) == ["none", "exact"]
    assert semantic.result(refused).answer.recall.refused == off.sentence
    together = semantic.send(*(asks(text, cache="semantic", idempotency_key=text) for text in (asked(7), like(7))))
    semantic.drain()
    assert tiers(semantic, together) == ["none", "none"]
    assert off.sentence.startswith("Broken: 2 of 2 audits were wrong")
    (trouble,) = semantic.ledger.overview().incidents
    assert trouble.subject == f"scope {off.scope[:8]} of the tenant default"
    assert f"headrace cache serve {off.scope[:8]}" in trouble.reason


def test_an_answer_found_wrong_is_given_to_nobody_any_more(semantic, asks):
    """Its texts are kept, for people to see why."""
    serve(semantic, asks, 3, like(9))
    run(semantic)
    (wrong,) = audits(semantic)
    assert (wrong.label, wrong.served, wrong.fresh) == ("wrong", like(9), like(3))
    (dead,) = semantic.ledger.read(select(ENTRIES).where(ENTRIES.c.id == wrong.entry_id))
    assert dead.state == "dead"
    assert "an audit found it wrong" in dead.reason


def test_a_scope_that_is_opened_again_counts_from_then_on(semantic, asks):
    for number in (3, 4):
        serve(semantic, asks, number, like(9))
        run(semantic)
    semantic.standings.once()
    scope = stands(semantic).scope
    assert semantic.ledger.of(Audits).reopen(scope)
    assert not semantic.ledger.of(Audits).reopen(scope)
    semantic.standings.once()
    serve(semantic, asks, 5, like(5))
    run(semantic)
    semantic.standings.once()
    opened = stands(semantic)
    assert (opened.state, opened.figures["audits"], opened.figures["wrong"]) == ("not yet shown", 1, 0)
    assert opened.sentence.startswith("Not yet shown: 1 clean audits of the 299")


def test_once_off_it_stays_off_whatever_is_said_later(semantic, asks):
    for number in (3, 4):
        serve(semantic, asks, number, like(9))
        run(semantic)
    semantic.standings.once()
    for audit in audits(semantic):
        semantic.ledger.of(Audits).label(audit.id, "clean", "ann")
    assert semantic.standings.once() == 1
    off = stands(semantic)
    assert (off.state, off.figures["wrong"], off.figures["clean"]) == ("off", 0, 2)
    assert off.sentence.startswith("Broken: 2 of 2")


def test_other_words_are_unknown_and_a_person_says_what_they_are(semantic, asks):
    for number in (3, 4):
        serve(semantic, asks, number, "Look under settings, then under security, and follow what it says there.")
        run(semantic)
    semantic.standings.once()
    assert (stands(semantic).state, stands(semantic).figures["unknown"]) == ("not yet shown", 2)
    listed = [row for row in semantic.ledger.of(Audits).unknown() if row.kind == "hit"]
    assert [(item.question, item.fresh) for item in listed] == [(like(3), like(3)), (like(4), like(4))]
    for item in listed:
        assert semantic.ledger.of(Audits).label(item.id, "wrong", "ann").label == "unknown"
    assert {audit.labelled_by for audit in audits(semantic)} == {"ann"}
    assert {row.kind for row in semantic.ledger.of(Audits).unknown()} == {"refused"}
    semantic.standings.once()
    assert stands(semantic).state == "off"


def test_nobody_labels_what_was_not_answered_afresh_yet(semantic, asks):
    serve(semantic, asks, 3, like(9))
    (waits,) = audits(semantic)
    assert semantic.ledger.of(Audits).label(waits.id, "clean", "ann").label is None
    assert semantic.ledger.of(Audits).label("no-such", "clean", "ann") is None
    run(semantic)
    assert audits(semantic)[0].label == "wrong"


def test_without_a_worker_audits_wait_and_hold_nothing(semantic, asks, monkeypatch):
    monkeypatch.setattr(audit_rows, "MOST_OPEN", 2)
    for number in (3, 4, 5):
        serve(semantic, asks, number, like(9))
    assert semantic.ledger.active_jobs() == 0
    semantic.standings.once()
    assert [audit.label for audit in audits(semantic)] == [None, None]
    assert run(semantic) == 2


def test_texts_of_answers_that_were_purged_or_recalled_are_forgotten(semantic, asks):
    serve(semantic, asks, 3, "Look under settings, then under security, and follow what it says there.")
    run(semantic)
    serve(semantic, asks, 4, like(4))
    first, second = audits(semantic)
    semantic.ledger.of(Answers).purge(EntryFilter(made_before=2**62, ids=(first.entry_id,)), 0, "purged")
    semantic.ledger.of(Answers).recall([second.entry_id], "wrong")
    told = [(audit.label, audit.question, audit.served, audit.fresh) for audit in audits(semantic)]
    assert told == [("unknown", None, None, None), (None, None, None, None)]


def test_audits_are_forgotten_with_the_serves_that_they_are_of(semantic, asks):
    serve(semantic, asks, 3, like(3))
    with writing(semantic.ledger.engine) as tx:
        for table in (AUDITS, SERVES):
            tx.execute(update(table).values(served_at=1))
    semantic.ledger.prune(1_000)
    assert audits(semantic) == semantic.ledger.read(select(SERVES)) == []


def test_a_worker_that_has_just_begun_serves_nothing_by_likeness(semantic, asks):
    ask(semantic, asks, asked(3))
    begun = ScopeLimits(semantic.ledger, 0.01, "w2", Progress().loop("standings"), serves_unshown=True)
    assert "just begun" in begun.limit("any").off
    begun.once()
    assert begun.limit("any") is None


def test_one_worker_at_a_time_judges(semantic, asks):
    serve(semantic, asks, 3, like(3))
    run(semantic)
    other = ScopeLimits(semantic.ledger, 0.01, "w2", Progress().loop("standings"), serves_unshown=True)
    assert semantic.ledger.hold("bounds", "w", 60_000)
    assert other.once() == 0
    assert semantic.standings.once() == 1
    assert stands(semantic).figures["clean"] == 1

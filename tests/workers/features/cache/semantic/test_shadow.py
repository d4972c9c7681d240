"""A new scope is in shadow: it serves nothing by likeness, and audits all that it would serve."""

import pytest
from sqlalchemy import select
from tests.workers.features.cache.semantic.conftest import Flow, tiers
from tests.workers.features.cache.semantic.test_audits import ask, asked, like
from tests.workers.features.cache.semantic.test_explored import audits, known

from headrace_workers.core.ledger.change_feed import Follower
from headrace_workers.core.progress import Progress
from headrace_workers.features.cache.semantic.lookup import AnswerLookup
from headrace_workers.features.cache.semantic.nearest import NearestQuestions
from headrace_workers.features.cache.semantic.questions import Known, Questions
from headrace_workers.features.cache.semantic.scope_limits import ScopeLimits
from headrace_workers.features.cache.store.audits import Audits
from headrace_workers.features.cache.tables import SERVES
from headrace_workers.testing import HashEmbedder


def shadowed(ledger, max_error=0.01):
    """A flow of a deployment as it comes, whose audit share is 0."""
    embedder = HashEmbedder()
    known = Known(embedder.dimensions)
    standings = ScopeLimits(ledger, max_error, "w", Progress().loop("standings"))
    nearest = NearestQuestions(embedder, known, 0.7, standings.limit)
    flow = Flow(ledger, AnswerLookup(ledger, lambda alias: f"{alias}/1", nearest), audit_share=0.0)
    flow.follower, flow.standings = Follower(Questions(ledger, known), Progress().loop("follow")), standings
    flow.follower.once()
    standings.once()
    return flow


@pytest.fixture
def shadow(ledger):
    return shadowed(ledger)


def stands(flow):
    flow.standings.once()
    (found,) = flow.ledger.of(Audits).standings()
    return found


def test_a_new_scope_serves_only_the_same_request(shadow, asks):
    known(shadow, asks, 3, like(3))
    other, same = ask(shadow, asks, like(3)), ask(shadow, asks, asked(3), key="again")
    assert tiers(shadow, [other, same]) == ["none", "exact"]
    recall = shadow.result(other).answer.recall
    assert (
        recall.refused == "shadow: nothing was audited yet, and it takes at least 299 clean labels to serve by likeness"
    )
    assert recall.similarity >= recall.threshold


def test_all_that_would_be_served_is_audited_whatever_the_share(shadow, asks):
    """The job's own answer is the fresh one, so that no model is asked again; each counts with certainty."""
    known(shadow, asks, 3, like(3))
    job = ask(shadow, asks, like(3))
    (found,) = audits(shadow)
    assert (found.kind, found.job_id, found.label, found.share) == ("shadow", job, "clean", 1.0)
    assert shadow.ledger.read(select(SERVES.c.tier).where(SERVES.c.job_id == job)) == []
    figures = stands(shadow).figures
    assert (figures["served"], figures["audits"], figures["clean"]) == (1, 1, 1)


def test_an_audit_without_a_verdict_is_missing_and_not_right(shadow, asks):
    known(shadow, asks, 3, "Look under settings, then under security, and follow what it says there.")
    ask(shadow, asks, like(3))
    found = stands(shadow)
    assert (found.figures["unknown"], found.figures["clean"], found.figures["wrong"]) == (1, 0, 0)
    assert found.state == "not yet shown"
    assert "0 clean audits of the 299" in found.sentence


def test_a_wrong_answer_in_shadow_is_kept_for_its_own_question(shadow, asks):
    known(shadow, asks, 3, like(9))
    ask(shadow, asks, like(3))
    (wrong,) = audits(shadow)
    assert wrong.label == "wrong"
    shadow.ledger.of(Audits).label(wrong.id, "wrong", "ann")
    again = ask(shadow, asks, asked(3), key="again")
    assert tiers(shadow, [again]) == ["exact"]


def test_a_scope_serves_once_its_bound_is_shown(ledger, asks):
    flow = shadowed(ledger, max_error=0.5)
    number = 2
    while number < 40 and (number == 2 or stands(flow).state != "shown"):
        number += 1
        known(flow, asks, number, like(number))
        assert tiers(flow, [ask(flow, asks, like(number))]) == ["none"]
    assert number > 4
    other = f"Tell me: {like(3)}"
    assert tiers(flow, [ask(flow, asks, other)]) == ["semantic"]


def test_a_person_may_let_a_scope_serve_and_stop_it(shadow, asks):
    known(shadow, asks, 3, like(3))
    ask(shadow, asks, like(3))
    scope = stands(shadow).scope
    assert shadow.ledger.of(Audits).serve(scope, "ann")
    assert not shadow.ledger.of(Audits).serve(scope, "bob")
    assert stands(shadow).serves_by == "ann"
    known(shadow, asks, 4, like(4))
    assert tiers(shadow, [ask(shadow, asks, like(4))]) == ["semantic"]
    assert shadow.ledger.of(Audits).serve(scope, None)
    shadow.standings.once()
    known(shadow, asks, 5, like(5))
    assert tiers(shadow, [ask(shadow, asks, like(5))]) == ["none"]


def test_requests_at_the_same_time_do_not_wait_for_other_words_in_shadow(shadow, asks):
    jobs = shadow.send(
        asks(asked(3), cache="semantic", idempotency_key="a"), asks(like(3), cache="semantic", idempotency_key="b")
    )
    shadow.drain()
    assert tiers(shadow, jobs) == ["none", "none"]

"""The same question in other words, asked at a time: one makes the answer, and the others wait for it."""

import pytest
from sqlalchemy import select, update
from tests.workers.features.cache.semantic.conftest import Flow, tiers
from tests.workers.features.cache.semantic.test_exact import entries
from tests.workers.features.cache.semantic.test_likeness import ASKED, LIKE, semantic  # noqa: F401 - a fixture

from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.change_feed import Follower
from headrace_workers.core.ledger.claims import Wanted
from headrace_workers.core.progress import Progress
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import STEPS
from headrace_workers.features.cache.semantic.lookup import AnswerLookup
from headrace_workers.features.cache.semantic.nearest import NearestQuestions
from headrace_workers.features.cache.semantic.questions import Known, Questions
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.cache.tables import ENTRIES
from headrace_workers.features.moderation.moderator import PolicyModerator
from headrace_workers.features.moderation.personal_data import PersonalDataDetector
from headrace_workers.features.moderation.policy import Policy, Rule
from headrace_workers.testing import HashEmbedder

WORDINGS = (ASKED, LIKE, "How do I reset the password for my account?", "how do I reset my account password?")
OTHER = "How do I bake bread in my oven?"


def send(flow, asks, *prompts, **more):
    """Take these in at a time; their jobs."""
    return flow.send(*(asks(prompt, cache="semantic", idempotency_key=f"{prompt}{more}", **more) for prompt in prompts))


def waits(flow, jobs):
    return flow.states(jobs).count("parked")


def another(ledger, *, followed: bool):
    """A second recall worker of this ledger, and whether it has looked since."""
    embedder = HashEmbedder()
    known = Known(embedder.dimensions)
    questions = Questions(ledger, known)
    flow = Flow(ledger, AnswerLookup(ledger, lambda alias: f"{alias}/1", NearestQuestions(embedder, known, 0.7)))
    if followed:
        Follower(questions, Progress().loop("follow")).once()
    return flow


def test_wordings_of_one_group_cost_one_generation(semantic, asks):  # noqa: F811 - the fixture
    """The first makes the answer; what asks for something else does not wait."""
    jobs = send(semantic, asks, *WORDINGS, OTHER)
    semantic.run("recall")
    assert waits(semantic, jobs) == 3
    semantic.drain()
    assert len(semantic.generated) == 2
    assert sorted(tiers(semantic, jobs)) == ["none", "none", "semantic", "semantic", "semantic"]
    (leader,) = set(semantic.generated) & set(jobs[:4])
    assert {semantic.result(job).answer.recall.first_job for job in jobs[:4] if job != leader} == {leader}
    attempts = semantic.ledger.read(select(STEPS.c.attempts).where(STEPS.c.stage == "recall"))
    assert {row.attempts for row in attempts} == {1}


@pytest.mark.parametrize("followed", [True, False])
def test_another_worker_waits_for_it_too(semantic, asks, followed):  # noqa: F811 - the fixture
    jobs = send(semantic, asks, ASKED)
    semantic.run("recall")
    other = another(semantic.ledger, followed=followed)
    jobs += send(other, asks, LIKE)
    other.run("recall")
    assert waits(other, jobs) == 1
    semantic.run("model.echo")
    semantic.run("moderate")
    other.drain()  # its memory does not know yet that the answer is there
    assert tiers(semantic, jobs) == ["none", "semantic"]
    assert semantic.generated + other.generated == jobs[:1]


def test_guards_and_scopes_hold_for_what_is_being_made(semantic, asks):  # noqa: F811 - the fixture
    jobs = send(semantic, asks, "How many people live in 3 of the towns?", "How many people live in 4 of the towns?")
    jobs += send(semantic, asks, "How many people live in 3 of the towns now?", tenant="other")
    semantic.run("recall")
    jobs += send(semantic, asks, "How many people live in 5 of the towns?")
    semantic.run("recall")
    assert waits(semantic, jobs) == 0
    semantic.drain()
    assert tiers(semantic, jobs) == ["none"] * 4


def test_interactive_work_waits_for_no_bulk_work_in_other_words(semantic, asks):  # noqa: F811 - the fixture
    send(semantic, asks, ASKED, lane="batch")
    semantic.run("recall", lane=1)
    (urgent,) = send(semantic, asks, LIKE)
    semantic.drain()
    assert tiers(semantic, [urgent]) == ["none"]
    (bulk,) = send(semantic, asks, WORDINGS[2], lane="batch")
    semantic.run("recall", lane=1)
    semantic.drain(lane=1)
    assert tiers(semantic, [bulk]) == ["semantic"]


@pytest.mark.parametrize(("max_age", "tier"), [(60.0, "semantic"), (5.0, "none")])
def test_who_is_behind_another_is_given_its_answer_where_that_is_young_enough(
    semantic,  # noqa: F811 - the fixture
    asks,
    monkeypatch,
    max_age,
    tier,
):
    send(semantic, asks, ASKED)
    semantic.drain()
    with writing(semantic.ledger.engine) as tx:
        tx.execute(update(ENTRIES).values(made_at=ENTRIES.c.made_at - 10_000))
    monkeypatch.setattr(semantic.ledger.of(Answers), "exact", lambda keys: {})
    monkeypatch.setattr(semantic.ledger.of(Answers), "alike_but_for_form", lambda keys: {})
    monkeypatch.setattr(semantic.ledger.of(Answers), "lately", lambda *_: [])
    first, behind = (asks(text, cache="semantic", idempotency_key=text, **more)
                     for text, more in ((ASKED, {}), (LIKE, {"max_age": max_age})))  # fmt: skip
    jobs = semantic.send(first, behind)
    semantic.drain()
    assert tiers(semantic, jobs) == ["exact", tier]


def test_an_answer_that_is_not_allowed_is_made_again_by_all_at_once_and_one_fills_the_cache(semantic, asks):  # noqa: F811
    jobs = send(semantic, asks, *WORDINGS)
    semantic.run("recall")
    (leader,) = [job for job, state in zip(jobs, semantic.states(jobs), strict=True) if state == "done"]
    semantic.ledger.cancel(Cancellation(leader, "default", "enough"))
    assert entries(semantic) == []
    semantic.run("recall")
    assert semantic.states(jobs) == ["done"] * 4
    assert entries(semantic) == ["pending"]
    late = send(semantic, asks, ASKED + " Now?")
    semantic.run("recall")
    semantic.drain()
    assert len(semantic.generated) == 3
    assert entries(semantic) == ["live"]
    assert tiers(semantic, late) == ["semantic"]


def of_jo(opening):
    """A question whose answer, which repeats it, moderation finds a mail address in."""
    return f"{opening} reset the password of jo@headrace.io?"


@pytest.mark.parametrize("end", ["redacted", "held", "blocked", "cancelled"])
def test_whatever_ends_a_leader_frees_all_other_wordings_at_once(semantic, asks, end):  # noqa: F811 - the fixture
    if end in ("held", "blocked"):
        rule = Rule("review" if end == "held" else "block")
        policy = Policy(dict.fromkeys(PersonalDataDetector.categories, rule))
        semantic.moderator = PolicyModerator([PersonalDataDetector()], policy)
        semantic.do()
    jobs = send(semantic, asks, *(of_jo(name) for name in ("How do I", "How can I", "how do i", "How do we")))
    semantic.run("recall")
    assert waits(semantic, jobs) == 3
    (leader,) = [job for job, state in zip(jobs, semantic.states(jobs), strict=True) if state == "done"]
    if end == "cancelled":
        semantic.ledger.cancel(Cancellation(leader, "default", "enough"))
    else:
        semantic.run("model.echo")
        semantic.run("moderate")
    assert semantic.states(jobs).count("ready") == 3
    semantic.run("recall")
    assert semantic.states(jobs) == ["done"] * 4


def test_the_very_same_requests_of_a_leader_that_is_gone_fill_the_cache(flow, asks):
    jobs = flow.send(*(asks(idempotency_key=str(n)) for n in range(4)))
    flow.run("recall")
    (leader,) = [job for job, state in zip(jobs, flow.states(jobs), strict=True) if state == "done"]
    flow.ledger.cancel(Cancellation(leader, "default", "enough"))
    flow.run("recall")
    assert flow.states(jobs) == ["done"] * 4
    flow.drain()
    assert (len(flow.generated), entries(flow)) == (3, ["live"])
    (late,) = flow.send(asks(idempotency_key="late"))
    flow.drain()
    assert tiers(flow, [late]) == ["exact"]


def test_what_is_withdrawn_is_forgotten_and_waited_for_by_nobody(semantic, asks):  # noqa: F811 - the fixture
    (first,) = send(semantic, asks, ASKED)
    semantic.run("recall")
    semantic.follower.once()
    assert len(semantic.known.making) == 1
    semantic.ledger.cancel(Cancellation(first, "default", "enough"))
    (second,) = send(semantic, asks, LIKE)
    semantic.run("recall")
    assert waits(semantic, [second]) == 0
    semantic.follower.once()
    assert len(semantic.known.making) == 1  # the second's own
    semantic.drain()
    semantic.follower.once()
    assert (len(semantic.known.making), len(semantic.known)) == (0, 1)


def test_a_leader_that_is_run_again_waits_for_nobody(semantic, asks):  # noqa: F811 - the fixture
    from headrace_workers.features.cache.semantic.lookup import Lookup

    (job,) = send(semantic, asks, ASKED)
    request = asks(ASKED, cache="semantic")
    (before,) = semantic.cache.look_up([Lookup(job, request, request.cache)])
    (again,) = semantic.cache.look_up([Lookup(job, request, request.cache)])
    assert before == again
    semantic.drain()
    assert (tiers(semantic, [job]), entries(semantic)) == (["none"], ["live"])


def test_a_worker_that_starts_knows_what_is_being_made(semantic, asks):  # noqa: F811 - the fixture
    send(semantic, asks, ASKED)
    semantic.run("recall")
    known = Known(64)
    Follower(Questions(semantic.ledger, known), Progress().loop("follow")).once()
    assert (len(known), len(known.making)) == (0, 1)


@pytest.mark.parametrize("changed", [{"question": "How do I delete my account?"}, {"scope": "another"}])
def test_an_id_that_became_another_entrys_is_not_served(semantic, asks, changed):  # noqa: F811 - the fixture
    send(semantic, asks, ASKED)
    semantic.drain()
    semantic.follower.once()
    with writing(semantic.ledger.engine) as tx:
        tx.execute(update(ENTRIES).values(changed))
    (job,) = send(semantic, asks, LIKE)
    semantic.drain()
    assert tiers(semantic, [job]) == ["none"]


@pytest.fixture
def meeting(monkeypatch):
    """Has a worker of this ledger do its work just before the next answer is led."""

    def meet(ledger, other):
        answers = ledger.of(Answers)
        lead = answers.lead

        def lead_behind(wanted, passed=()):
            monkeypatch.setattr(answers, "lead", lead)
            other.run("recall")
            return lead(wanted, passed)

        monkeypatch.setattr(answers, "lead", lead_behind)

    return meet


@pytest.mark.parametrize(("first", "second"), [(ASKED, ASKED), (ASKED, LIKE)])
def test_two_workers_that_look_up_in_the_same_moment_cost_one_generation(semantic, asks, meeting, first, second):  # noqa: F811
    other = another(semantic.ledger, followed=False)
    (ours,) = semantic.send(asks(first, cache="semantic", idempotency_key="1"))
    claim = semantic.ledger.claim([Wanted("recall", 0, 1, 256)], lease_ms=60_000, sender="b").claims[0]
    (theirs,) = semantic.send(asks(second, cache="semantic", idempotency_key="2"))
    started = semantic.ledger.start(claim.id, worker="w", lease_ms=60_000)
    meeting(semantic.ledger, other)
    settled = semantic.work.do(started)
    assert semantic.ledger.complete(claim.id, settled, ran_ms=1, quantum_ms=5_000) is not None
    assert semantic.states([ours, theirs]) == ["parked", "done"]
    assert entries(semantic) == ["pending"]
    other.drain()
    assert other.generated == [theirs]
    assert tiers(semantic, [ours, theirs]) == ["coalesced" if first == second else "semantic", "none"]


def test_who_has_waited_already_leads_beside_another(semantic, asks, meeting):  # noqa: F811 - the fixture
    from headrace_workers.features.cache.semantic.lookup import Lookup

    other = another(semantic.ledger, followed=False)
    semantic.send(asks(LIKE, cache="semantic", idempotency_key="2"))
    meeting(semantic.ledger, other)
    request = asks(ASKED, cache="semantic")
    (found,) = semantic.cache.look_up([Lookup("job", request, request.cache, waited_for="another")])
    assert found.leads is not None
    assert entries(semantic) == ["pending"] * 2

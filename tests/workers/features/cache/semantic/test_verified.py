"""A verifier is asked before likeness serves, and labels audits that a comparison leaves unknown."""

from functools import partial

import pytest
from sqlalchemy import select
from tests.workers.features.cache.semantic.conftest import Flow, tiers
from tests.workers.features.cache.semantic.test_audits import ask, asked, like
from tests.workers.features.cache.semantic.test_explored import known
from tests.workers.features.judging.judge_model import JudgeModel

from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.change_feed import Follower
from headrace_workers.core.ledger.charges import NoPrices
from headrace_workers.core.ledger.steps import BATCH
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.stage import installed_stages
from headrace_workers.core.progress import Progress
from headrace_workers.core.tables import STEPS
from headrace_workers.features.cache.auditing import AuditLabels
from headrace_workers.features.cache.semantic.lookup import AnswerLookup, ModelOfVerifier
from headrace_workers.features.cache.semantic.nearest import NearestQuestions
from headrace_workers.features.cache.semantic.questions import Known, Questions
from headrace_workers.features.cache.semantic.scope_limits import ScopeLimits
from headrace_workers.features.cache.stage import stages
from headrace_workers.features.cache.store.audits import Audits
from headrace_workers.features.cache.tables import AUDITS
from headrace_workers.models.verifiers.verify_stage import ModelVerifier
from headrace_workers.testing import HashEmbedder

YES, NO, MUTE = (0.8, 0.0, 0.1, 0.0), (0.1, 0.0, 0.8, 0.0), (0.0, 0.0, 0.0, 0.0)
PIPELINE = Pipeline([*installed_stages(), *stages(verifier="judge")[2:]])
VAGUE = "Look under settings, then under security, and follow what it says there."


class Judge(JudgeModel):
    @property
    def urgent(self):
        return self


@pytest.fixture(params=["here", "in a stage"])
def verifying(ledger, request):
    """Makes a flow whose verifier answers so: in the process that asks it, or as a model in a stage of its own."""
    return partial(_verifying, ledger, in_stage=request.param == "in a stage")


def _verifying(ledger, answer, *, serves_unshown=True, in_stage=True, holds=lambda _: True):
    embedder, judge = HashEmbedder(), Judge(lambda prompt, choices: answer, alias="judge")
    known, verifier = Known(embedder.dimensions), ModelVerifier(judge)
    labels = AuditLabels("judge", NoPrices()) if in_stage else verifier
    standings = ScopeLimits(
        ledger, 0.01, "w", Progress().loop("standings"), serves_unshown=serves_unshown, verifier=labels
    )
    nearest = NearestQuestions(embedder, known, 0.7, standings.limit)
    asked = ModelOfVerifier("judge", holds) if in_stage else verifier
    cache = AnswerLookup(ledger, lambda alias: f"{alias}/1", nearest, asked)
    flow = Flow(ledger, cache, audit_share=0.0, judge=judge, pipeline=PIPELINE)
    flow.follower = Follower(Questions(ledger, known), Progress().loop("follow"))
    flow.standings = standings
    flow.follower.once()
    standings.once()
    return flow


def test_an_answer_is_served_if_the_verifier_says_yes(verifying, asks):
    flow = verifying(YES)
    known(flow, asks, 3, like(3))
    job = ask(flow, asks, like(3))
    assert tiers(flow, [job]) == ["semantic"]
    said = flow.result(job).answer.recall.verified
    assert (said.model, said.provider, round(said.value, 2), round(said.mass, 1)) == ("judge", None, 0.89, 0.9)
    assert said.ms > 0
    (((prompt,), _),) = flow.judge.calls
    assert f"<question_1>\n{asked(3)}\n</question_1>" in prompt[-1].content
    assert f"<question_2>\n{like(3)}\n</question_2>" in prompt[-1].content


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (NO, "the verifier judge says that it asks for something else: 0.11"),
        (MUTE, "the verifier judge gave no verdict"),
        (Unavailable("it is away"), "the verifier judge gave no verdict: it is away"),
    ],
)
def test_nothing_else_than_a_yes_serves(verifying, asks, answer, why):
    flow = verifying(answer)
    known(flow, asks, 3, like(3))
    job, same = ask(flow, asks, like(3)), ask(flow, asks, like(3), key="again")
    assert tiers(flow, [job, same]) == ["none", "exact"]
    assert why in flow.result(job).answer.recall.refused


def test_the_same_request_needs_no_verifier(verifying, asks):
    flow = verifying(NO)
    known(flow, asks, 3, like(3))
    assert tiers(flow, [ask(flow, asks, asked(3), key="again")]) == ["exact"]
    assert flow.judge.calls == []


def test_nobody_waits_for_other_words_that_were_not_verified(verifying, asks):
    flow = verifying(NO)
    jobs = flow.send(
        asks(asked(3), cache="semantic", idempotency_key="a"), asks(like(3), cache="semantic", idempotency_key="b")
    )
    flow.drain()
    assert tiers(flow, jobs) == ["none", "none"]


@pytest.mark.parametrize(("answer", "label"), [(YES, "clean"), (NO, "wrong"), (MUTE, "unknown")])
def test_the_verifier_labels_audits_that_a_comparison_left_unknown(verifying, asks, answer, label):
    """By its name, once; one that it cannot tell stays for people, who overrule it."""
    flow = verifying(answer, serves_unshown=False)
    known(flow, asks, 3, VAGUE)
    ask(flow, asks, like(3))
    calls = len(flow.judge.calls)
    flow.standings.once()
    flow.standings.once()
    flow.drain(lane=BATCH)
    (found,) = flow.ledger.read(select(AUDITS))
    assert (found.kind, found.label, found.labelled_by) == ("shadow", label, "verifier:judge")
    assert len(flow.judge.calls) == calls + 1
    flow.ledger.of(Audits).label(found.id, "wrong", "ann")
    flow.standings.once()
    (found,) = flow.ledger.read(select(AUDITS))
    assert (found.label, found.labelled_by) == ("wrong", "ann")


def test_a_verifier_that_is_away_labels_later(verifying, asks):
    flow = verifying(Unavailable("it is away"), serves_unshown=False)
    known(flow, asks, 3, VAGUE)
    ask(flow, asks, like(3))
    flow.standings.once()
    flow.drain(lane=BATCH)
    (found,) = flow.ledger.read(select(AUDITS))
    assert (found.label, found.labelled_at is not None) == ("unknown", True)
    assert flow.ledger.read(select(STEPS.c.state).where(STEPS.c.stage == "label")) == (
        [("waiting",)] if found.labelled_by == "verifier:judge" else []
    )


def test_a_model_that_no_worker_holds_is_not_waited_for(ledger, asks):
    flow = _verifying(ledger, YES, holds=lambda _: False)
    known(flow, asks, 3, like(3))
    job = ask(flow, asks, like(3))
    assert tiers(flow, [job]) == ["none"]
    assert "no worker holds judge" in flow.result(job).answer.recall.refused
    assert flow.judge.calls == []

"""The data boundary of workers: a list that became shorter while a job was on its way, and what a receipt lists."""

import json

import pytest
from tests.workers.features.providers.remote_models import SECRET, Deployment, Provider

from headrace_schemas import Category, DeadLetter, EvaluationJob, GenerationJob, NotJudged, Result, Rubric, Sampling
from headrace_schemas.errors import ProviderNotAllowed, Unavailable
from headrace_schemas.message import Message
from headrace_workers.core.cached_values import RecentReads
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.generation.parts import BoundedGenerator
from headrace_workers.features.providers.boundary import allows
from headrace_workers.features.providers.store import AllowedProviders
from headrace_workers.models.engines.echo import EchoGenerator
from headrace_workers.models.generator import LabelRequest, NoProbabilities, Request

pytestmark = pytest.mark.integration  # providers open sockets


@pytest.fixture
def allowed(ledger: Ledger) -> AllowedProviders:
    """The lists; `shop` allows both providers."""
    lists = ledger.of(AllowedProviders)
    lists.allow("shop", ["openai", "anthropic"])
    return lists


def job(model: str | tuple[str, ...], **fields: object) -> GenerationJob:
    return GenerationJob.model_validate({"model": model, "prompt": SECRET, "tenant": "shop", **fields})


def test_a_provider_that_was_revoked_on_the_way_sees_nothing(
    deployment: Deployment, allowed: AllowedProviders, openai: Provider
) -> None:
    job_id = deployment.take_in(job("large"))
    allowed.revoke("shop", ["openai"])
    deployment.run()
    end = deployment.end(job_id)
    assert isinstance(end, DeadLetter)
    assert (end.category, end.attempts) == (Category.INVALID, 1)
    assert "runs at the provider openai, which the tenant shop does not allow" in end.reason
    assert openai.seen == []


def test_a_chain_goes_on_to_the_next_model_that_is_allowed(
    deployment: Deployment, allowed: AllowedProviders, openai: Provider, anthropic: Provider
) -> None:
    job_id = deployment.take_in(job(("large", "wise")))
    allowed.revoke("shop", ["openai"])
    deployment.run()
    end = deployment.end(job_id)
    assert isinstance(end, Result)
    assert end.answer is not None
    assert (end.answer.model, end.answer.text) == ("wise", "It will come.")
    assert [attempt.provider for attempt in end.answer.attempts] == [None, "anthropic"]
    assert "does not allow" in (end.answer.because or "")
    assert end.seen_by == ("anthropic",)
    assert (openai.seen, len(anthropic.seen)) == ([], 1)


def test_a_judge_that_was_revoked_sees_nothing(
    deployment: Deployment, allowed: AllowedProviders, anthropic: Provider
) -> None:
    job_id = deployment.take_in(job("near", criteria=(Rubric(question="Is it polite?", model="wise"),)))
    allowed.revoke("shop", ["anthropic"])
    deployment.run()
    end = deployment.end(job_id)
    assert isinstance(end, Result)
    (score,) = end.judge.scores
    assert (score.not_judged, score.model, score.provider) == (NotJudged.NOT_ALLOWED, "wise", None)
    assert (end.seen_by, anthropic.seen) == ((), [])


def test_a_receipt_lists_all_who_saw_the_text(
    deployment: Deployment, allowed: AllowedProviders, openai: Provider, anthropic: Provider
) -> None:
    anthropic.says = lambda _asked: "Yes."
    openai.status = 502
    judged = (Rubric(question="Is it polite?", model="wise"),)
    end = deployment.answered(job(("large", "near"), criteria=judged))
    assert end.answer is not None
    assert (end.answer.model, end.answer.provider) == ("near", "own")
    assert end.seen_by == ("anthropic", "openai")
    assert SECRET in openai.seen[0]
    own = deployment.answered(job("near"))
    assert own.seen_by == ()


def test_an_answer_that_is_made_again_lists_the_judges_of_all_its_attempts(
    deployment: Deployment, allowed: AllowedProviders, anthropic: Provider, near: Provider
) -> None:
    """A judge that is revoked between two attempts saw the first one, though the second is the answer."""

    def revoke(_asked: str) -> str:
        allowed.revoke("shop", ["anthropic"])
        return "no"

    anthropic.says = revoke
    near.says = lambda _asked: "It will come tomorrow." if len(near.seen) > 1 else "No."
    judged = [
        {"criterion": "contains", "text": "tomorrow"},
        {"criterion": "rubric", "question": "Is it polite?", "model": "wise"},
    ]
    floor = {"criterion": "contains", "value": 1, "then": "regenerate", "attempts": 1}
    end = deployment.answered(job("near", criteria=judged, min_quality=floor))
    assert end.answer is not None
    assert end.answer.text == "It will come tomorrow."
    assert [score.not_judged for score in end.judge.scores] == [None, NotJudged.NOT_ALLOWED]
    assert (len(near.seen), len(anthropic.seen)) == (2, 1)
    assert end.seen_by == ("anthropic",)


def test_no_tenant_means_no_provider() -> None:
    """A prompt of which nobody knows whose it is never leaves, nor does one that asks for probabilities."""
    bounded = BoundedGenerator(EchoGenerator(), "openai", lambda tenant, _provider: tenant == "shop")
    messages = (Message(role="user", content="a b"),)
    nobody, shop, bank = bounded.generate([Request(messages, Sampling(), item) for item in (None, "shop", "bank")])
    assert isinstance(nobody, ProviderNotAllowed)
    assert isinstance(bank, ProviderNotAllowed)
    assert not isinstance(shop, Exception)
    assert (bounded.urgent.provider, bounded.urgent.alias) == ("openai", "echo")
    with pytest.raises(NoProbabilities):
        bounded.label_probabilities([LabelRequest(messages, ("yes", "no"), "shop")])


def test_a_list_is_believed_for_two_seconds_and_no_longer() -> None:
    now, answers = [0.0], ["a", "b"]
    reads: RecentReads[str, str] = RecentReads(lambda _key: answers.pop(0), 2.0, monotonic=lambda: now[0])
    assert (reads("k"), reads("k")) == ("a", "a")
    now[0] = 1.9
    assert reads("k") == "a"
    now[0] = 2.0
    assert reads("k") == "b"
    with pytest.raises(IndexError):
        reads("other")
    answers.append("c")
    assert reads("other") == "c"


def test_nothing_is_sent_where_the_ledger_does_not_answer(tmp_path: object) -> None:
    class Away:
        def of(self, _store: type) -> "Away":
            return self

        def by_tenant(self, _tenants: list[str]) -> dict[str, frozenset[str]]:
            raise Unavailable("the ledger does not answer")

    seen = EchoGenerator()
    bounded = BoundedGenerator(seen, "openai", allows(Away()))  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        bounded.generate([Request((Message(role="user", content="a"),), Sampling(), "shop")])


def test_a_judge_at_a_provider_writes_its_verdict(
    deployment: Deployment, allowed: AllowedProviders, anthropic: Provider
) -> None:
    anthropic.says = lambda asked: "**Yes**, it is." if "yes or no" in asked else "4"
    yes = Rubric(question="Is it polite?", model="wise")
    four = Rubric(question="How polite is it?", model="wise", scale="1-5")
    end = deployment.answered(EvaluationJob(input="q", output=SECRET, criteria=(yes, four), tenant="shop"))
    assert [score.value for score in end.judge.scores] == [1.0, 0.75]
    assert {(score.method, score.model, score.provider, score.mass) for score in end.judge.scores} == {
        ("answer", "wise", "anthropic", None)
    }
    assert end.seen_by == ("anthropic",)
    assert all(SECRET in json.loads(text)[-1]["content"] for text in anthropic.seen)


def test_a_judge_that_does_not_answer_the_question_gives_no_value(
    deployment: Deployment, allowed: AllowedProviders, anthropic: Provider
) -> None:
    anthropic.says = lambda _asked: "I would rather not say."
    judged = EvaluationJob(input="q", output="o", criteria=(Rubric(question="?", model="wise"),), tenant="shop")
    end = deployment.answered(judged)
    (score,) = end.judge.scores
    assert (score.value, score.not_judged, score.provider) == (None, NotJudged.UNANSWERED, "anthropic")
    assert end.seen_by == ("anthropic",)

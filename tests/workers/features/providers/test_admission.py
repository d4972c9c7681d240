"""The data boundary at admission: a job that would leave it is refused, by whichever model it would."""

from pathlib import Path

import pytest
from tests.workers.features.providers.remote_models import Deployment
from tests.workers.runtime.bridge.records import NOW, record

from headrace_schemas import Category, EvaluationJob, GenerationJob, Pairwise, Rubric
from headrace_workers.core.ledger.dead_letters import Burial
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.providers.store import AllowedProviders
from headrace_workers.runtime.bridge.record_admission import RecordAdmission

pytestmark = pytest.mark.integration  # providers open sockets
JUDGED = Rubric(question="Is it polite?", model="large")


def job(model: str | tuple[str, ...] = "near", tenant: str = "shop", **fields: object) -> GenerationJob:
    return GenerationJob.model_validate({"model": model, "prompt": "hi", "tenant": tenant, **fields})


def evaluation(tenant: str = "shop", model: str | None = "large") -> EvaluationJob:
    return EvaluationJob(
        input="a", output="b", criteria=(Rubric(question="Is it polite?", model=model),), tenant=tenant
    )


@pytest.mark.parametrize(
    "sent",
    [
        job("large"),
        job(("near", "large")),
        job("careful"),
        job(criteria=(JUDGED,)),
        job(criteria=(Pairwise(model="large"),), other="c"),
        job(criteria=(Rubric(question="Is it polite?", model="large", share=0.001),)),
        evaluation(),
    ],
    ids=["model", "chain", "chain of the catalogue", "rubric", "pair", "rubric of a share", "evaluation"],
)
def test_a_tenant_without_a_list_uses_local_models_alone(deployment: Deployment, sent: GenerationJob) -> None:
    refused = deployment.send(sent)
    assert isinstance(refused, Burial)
    assert refused.category is Category.INVALID
    assert "runs at the provider openai, which the tenant shop does not allow" in refused.reason
    assert "`headrace providers allow shop openai`" in refused.reason


def test_a_model_on_machines_of_the_deployment_needs_no_permission(deployment: Deployment) -> None:
    assert isinstance(deployment.send(job("near", criteria=(Rubric(question="?", model="near"),))), NewJob)


def test_the_list_of_one_tenant_permits_nothing_to_another(deployment: Deployment, ledger: Ledger) -> None:
    ledger.of(AllowedProviders).allow("shop", ["openai"])
    assert isinstance(deployment.send(job("large")), NewJob)
    assert isinstance(deployment.send(evaluation()), NewJob)
    refused = deployment.send(job("large", tenant="bank"))
    assert isinstance(refused, Burial)
    assert "`headrace providers allow bank openai`" in refused.reason


def test_tenants_of_one_look_are_told_apart(deployment: Deployment, ledger: Ledger) -> None:
    ledger.of(AllowedProviders).allow("shop", ["openai"])
    ledger.of(AllowedProviders).allow("bank", ["anthropic"])
    sent = [job("large"), job("large", tenant="bank"), job("wise"), job("wise", tenant="bank")]
    found = RecordAdmission(deployment.rules, NOW).admit_all([record(generation_job) for generation_job in sent])
    assert [type(item) for item in found] == [NewJob, Burial, Burial, NewJob]


def test_every_model_of_a_chain_must_be_allowed(deployment: Deployment, ledger: Ledger) -> None:
    ledger.of(AllowedProviders).allow("shop", ["openai"])
    for model in (("near", "large", "wise"), "careful"):
        refused = deployment.send(job(model))
        assert isinstance(refused, Burial)
        assert "runs at the provider anthropic" in refused.reason
    ledger.of(AllowedProviders).allow("shop", ["anthropic"])
    assert isinstance(deployment.send(job("careful")), NewJob)


def test_the_judge_of_the_deployment_is_checked_too(ledger: Ledger, home: Path) -> None:
    judged = Deployment(ledger, home, judge_model="large")
    assert isinstance(judged.send(evaluation(model=None)), Burial)
    assert isinstance(judged.send(job(criteria=(Rubric(question="?"),))), Burial)
    assert isinstance(judged.send(job()), NewJob)


def test_a_revoked_provider_is_refused_at_once(deployment: Deployment, ledger: Ledger) -> None:
    ledger.of(AllowedProviders).allow("shop", ["openai", "anthropic"])
    assert isinstance(deployment.send(job("large")), NewJob)
    assert ledger.of(AllowedProviders).revoke("shop", ["openai", "other"]) == ["openai"]
    assert isinstance(deployment.send(job("large")), Burial)
    assert isinstance(deployment.send(job("wise")), NewJob)
    assert ledger.of(AllowedProviders).revoke("shop", None) == ["anthropic"]
    assert isinstance(deployment.send(job("wise")), Burial)

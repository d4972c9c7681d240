import pytest

from headrace_schemas import EvaluationJob, GenerationJob
from headrace_schemas.errors import InvalidRecord
from headrace_workers.features.jobs.api.jobs import jobs_of
from headrace_workers.http.errors import Refusal

JOB = {"model": "echo", "prompt": "x"}


def test_the_tenant_and_the_key_are_the_callers():
    (job,) = jobs_of(JOB, "shop", "k")
    assert (job.tenant, job.idempotency_key, type(job)) == ("shop", "k", GenerationJob)
    assert [job.idempotency_key for job in jobs_of([JOB, JOB], "shop", "k")] == ["k/0", "k/1"]
    assert jobs_of(JOB, "shop", None)[0].idempotency_key is None
    assert jobs_of({**JOB, "idempotency_key": "own"}, "shop", None)[0].idempotency_key == "own"


def test_a_kind_says_what_is_asked_for():
    asked = {"input": "a", "output": "b", "criteria": [{"criterion": "json_valid"}]}
    assert isinstance(jobs_of({"kind": "evaluation", **asked}, "t", None)[0], EvaluationJob)
    assert isinstance(jobs_of(asked, "t", None, kind="evaluation")[0], EvaluationJob)
    with pytest.raises(InvalidRecord, match="kind"):
        jobs_of({"kind": "evaluation", **asked}, "t", None, kind="evaluation")
    with pytest.raises(InvalidRecord, match="job 1: prompt"):
        jobs_of([JOB, {**JOB, "prompt": 7}], "t", None)


def test_another_tenant_s_job_is_refused():
    with pytest.raises(Refusal, match="shop"):
        jobs_of({**JOB, "tenant": "other"}, "shop", None)

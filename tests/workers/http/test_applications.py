"""Applications, asked for through a gateway by OpenAI's client and by plain HTTP."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from tests.workers.features.applications.test_admission import definition
from tests.workers.http.openai_client import openai_of
from tests.workers.http.served import Gateway

from headrace_workers.features.applications.resolver import BELIEVED_SECONDS, ApplicationResolver
from headrace_workers.features.applications.store import Applications

TENANT = "desk"  # other tests have applications of their own


@pytest.fixture(scope="module")
def asking(gateway: Gateway) -> Iterator[openai.OpenAI]:
    """A client of a deployment in which `triage` is in production."""
    applications = gateway.services.ledger.of(Applications)
    plain = definition(job={"model": "echo", "criteria": [{"criterion": "contains", "text": "burns"}]})
    number, _ = applications.push(TENANT, plain, "ann")
    applications.move(TENANT, "triage", "production", number, "ann")
    with openai_of(gateway, gateway.key(TENANT)) as found:
        yield found


@pytest.fixture
def desk(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client(gateway.key(TENANT)) as client:
        yield client


def told(response: Any) -> dict[str, Any]:
    return response.model_extra["headrace"]


def test_an_application_is_a_name_like_a_models(asking: openai.OpenAI) -> None:
    completion = asking.chat.completions.create(
        model="triage",
        messages=[{"role": "user", "content": "What burns?"}],
        extra_body={"headrace": {"variables": {"ticket": "It burns", "urgent": True}}},
    )
    receipt = told(completion)
    assert (receipt["application"]["name"], receipt["application"]["version"]) == ("triage", 1)
    assert receipt["application"]["label"] == "production"
    assert receipt["judge"]["scores"][0]["value"] == 1.0
    assert completion.choices[0].message.content == "What burns?"
    assert completion.usage is not None
    assert completion.usage.prompt_tokens > 2  # the application's, too


def test_variables_alone_are_enough(asking: openai.OpenAI) -> None:
    extra = {"headrace": {"variables": {"ticket": "It burns"}}}
    completion = asking.chat.completions.create(model="triage@1", messages=[], extra_body=extra)
    assert (told(completion)["application"]["version"], "label" in told(completion)["application"]) == (1, False)


def test_a_stored_prompt_of_openai_is_an_application(asking: openai.OpenAI) -> None:
    prompt = {
        "id": "triage",
        "version": "production",
        "variables": {"ticket": {"type": "input_text", "text": "It burns"}, "urgent": True},
    }
    found = asking.responses.create(prompt=prompt)  # type: ignore[call-overload]
    assert "Urgent: It burns" in found.output_text
    assert told(found)["application"]["version"] == 1
    again = asking.responses.create(previous_response_id=found.id, model="echo", input="Again?")
    assert "Again?" in again.output_text


def test_tokens_of_an_application_are_counted_as_rendered(asking: openai.OpenAI) -> None:
    short, long = (
        asking.responses.input_tokens.count(
            model="triage", input="t", extra_body={"headrace": {"variables": {"ticket": ticket}}}
        )
        for ticket in ("a", "a b c d e f")
    )
    assert long.input_tokens > short.input_tokens


@pytest.mark.parametrize(
    ("body", "status", "param", "words"),
    [
        ({"model": "triage"}, 400, "variables.ticket", "is missing"),
        ({"model": "triage@2"}, 404, "model", "no application 'triage' with the version '2'"),
        ({"model": "other"}, 404, "model", "no model is called 'other'"),
        ({"model": "triage", "variables": {"ticket": "t", "tone": "t"}}, 400, "variables.tone", "is no variable"),
    ],
)
def test_what_cannot_be_resolved_is_refused_at_the_door(
    asking: openai.OpenAI, body: dict[str, Any], status: int, param: str, words: str
) -> None:
    variables = body.pop("variables", None)
    extra = {"headrace": {"variables": variables}} if variables else None
    with pytest.raises(openai.APIStatusError) as refused:
        asking.chat.completions.create(messages=[{"role": "user", "content": "t"}], extra_body=extra, **body)
    error = refused.value.body
    assert (refused.value.status_code, error["param"].removeprefix("headrace.")) == (status, param)  # type: ignore[index,call-overload]
    assert words in error["message"]  # type: ignore[index,call-overload]


def test_under_a_key_it_is_one_job_though_the_label_moved(
    asking: openai.OpenAI, desk: httpx.Client, gateway: Gateway
) -> None:
    applications = gateway.services.ledger.of(Applications)
    key = {"Idempotency-Key": "label-moved"}
    job = {"application": "keyed", "variables": {"ticket": "It burns"}}
    plain = definition(name="keyed", job={"model": "echo"})
    first, _ = applications.push(TENANT, plain, "ann")
    applications.move(TENANT, "keyed", "production", first, "ann")
    ids = [desk.post("/v1/jobs", json=job, headers=key).json()["id"]]
    second, _ = applications.push(
        TENANT,
        definition(name="keyed", job={"model": "echo"}, messages=[{"role": "user", "text": "{{ ticket }}!"}]),
        "ann",
    )
    applications.move(TENANT, "keyed", "production", second, "ann")
    ids.append(desk.post("/v1/jobs", json=job, headers=key).json()["id"])
    assert ids[0] == ids[1]
    assert desk.get(f"/v1/jobs/{ids[0]}?wait=60").json()["end"]["application"]["version"] == 1
    third, _ = applications.push(
        TENANT,
        definition(
            name="keyed",
            job={"model": "echo"},
            variables={"ticket": {"type": "integer"}, "urgent": {"type": "boolean", "default": False}},
        ),
        "ann",
    )
    applications.move(TENANT, "keyed", "production", third, "ann")
    time.sleep(BELIEVED_SECONDS)
    assert desk.post("/v1/jobs", json=job, headers=key).json()["id"] == ids[0]
    assert desk.post("/v1/jobs", json=job).status_code == 400
    assert desk.post("/v1/jobs", json={**job, "priority": 3}, headers=key).status_code == 400


def test_the_gateway_answers_others_while_the_applications_of_many_jobs_are_rendered(
    asking: openai.OpenAI, desk: httpx.Client, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    renders, go_on = threading.Event(), threading.Event()
    resolve = ApplicationResolver.resolve

    def slowly(self: ApplicationResolver, *args: Any) -> Any:
        renders.set()
        assert go_on.wait(60)
        return resolve(self, *args)

    monkeypatch.setattr(ApplicationResolver, "resolve", slowly)
    jobs = [{"application": "triage", "variables": {"ticket": f"It burns {number}"}} for number in range(3)]
    with ThreadPoolExecutor(1) as other:
        sent = other.submit(desk.post, "/v1/jobs", json=jobs, timeout=120)
        try:
            assert renders.wait(60)
            with gateway.client(None) as client:
                assert client.get("/healthz", timeout=30).status_code == 200
        finally:
            go_on.set()
        assert sent.result().status_code == 202


def test_a_request_whose_applications_take_too_long_is_refused_whole(
    asking: openai.OpenAI, desk: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace_workers.http.admission._RENDERING_SECONDS", -1.0)
    job = {"application": "triage", "variables": {"ticket": "It burns"}}
    refused = desk.post("/v1/jobs", json=[job] * 3)
    assert (refused.status_code, "retry-after" in refused.headers) == (429, True)
    assert "send fewer jobs in one request" in refused.text
    assert desk.post("/v1/jobs", json=[job] * 2).status_code == 202

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from tests.workers.http.openai_client import openai_of
from tests.workers.http.served import Gateway

QUESTIONS: list[Any] = [
    {"type": "predicate", "name": "urgent", "instructions": "Is it urgent?"},
    {"type": "choice", "instructions": "Which?", "choices": [{"value": "true"}, {"value": True}, {"value": "x"}]},
    {"type": "score", "instructions": "How angry?", "levels": [{"label": "calm"}, {"label": "mad"}]},
]
ASKED: dict[str, Any] = {"model": "echo", "input": "The flour is late.", "questions": QUESTIONS}


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai_of(gateway) as found:
        yield found


def sum_of(answer: Any) -> float:
    return float(sum(probability.probability for probability in answer.probabilities))


def test_every_type_of_question_is_answered(client: openai.OpenAI) -> None:
    decision = client.decisions.create(**ASKED)
    predicate, choice, score = decision.answers
    assert predicate.type == "predicate"
    assert (predicate.name, 0 <= predicate.probability <= 1) == ("urgent", True)
    assert choice.type == "choice"
    assert [repr(probability.value) for probability in choice.probabilities] == ["'true'", "True", "'x'"]
    assert score.type == "score"
    assert 0 <= score.score <= 1
    assert (sum_of(choice), sum_of(score)) == (pytest.approx(1, abs=1e-4), pytest.approx(1, abs=1e-4))
    assert decision.usage.total_tokens == decision.usage.input_tokens + decision.usage.output_tokens > 0
    assert decision.model == "echo"
    own: Any = predicate.model_extra
    assert own["headrace"].keys() == {"mass", "calibrated", "stated"}
    receipt: Any = decision.model_extra
    assert [stage["stage"] for stage in receipt["headrace"]["stages"]] == ["decide"]


def test_four_hundred_questions_are_answered_and_one_more_is_refused(client: openai.OpenAI) -> None:
    many = [{**QUESTIONS[0], "name": f"q{place}"} for place in range(401)]
    decision = client.decisions.create(**{**ASKED, "questions": many[:400]})
    assert [answer.name for answer in decision.answers] == [entry["name"] for entry in many[:400]]
    with pytest.raises(openai.BadRequestError, match="at most 400 questions, not 401") as caught:
        client.decisions.create(**{**ASKED, "questions": many})
    assert (caught.value.param, caught.value.code) == ("questions", "invalid_value")


@pytest.mark.parametrize(
    ("changes", "error", "param"),
    [
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://a.example/b.png"}]}]},
         openai.BadRequestError, "input[0].content[0].type"),
        ({"model": "no-such"}, openai.NotFoundError, "model"),
        ({"extra_body": {"surprise": 1}}, openai.BadRequestError, "surprise"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_named(client: openai.OpenAI, changes: Any, error: Any, param: str) -> None:
    with pytest.raises(error) as caught:
        client.decisions.create(**{**ASKED, **changes})
    assert caught.value.param == param


def test_a_job_of_the_kind_is_taken_and_stays_with_its_tenant(gateway: Gateway) -> None:
    with gateway.client() as api, gateway.client(gateway.key("other")) as other:
        sent = api.post("/v1/jobs", json={"kind": "decision", **ASKED}).json()
        job = api.get(f"/v1/jobs/{sent['id']}", params={"wait": 60}).json()
        assert other.get(f"/v1/jobs/{sent['id']}").status_code == 404
    assert (job["state"], job["kind"]) == ("done", "decision")
    assert [answer["type"] for answer in job["end"]["decisions"]["answers"]] == ["predicate", "choice", "score"]

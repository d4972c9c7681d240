"""`client.evals` of the unmodified `openai` client, over a whole deployment."""

import json
from typing import Any
from uuid import uuid4

import openai
import pytest
from openai.types.webhooks import EvalRunSucceededWebhookEvent
from sqlalchemy import select
from tests.services.eventually import eventually
from tests.workers.http.served import Gateway

from headrace_workers.features.evals import store
from headrace_workers.features.webhooks.tables import DELIVERIES

SAMPLE = "{{sample.output_text}}"
SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}, "answer": {"type": "string"}}, "required": ["q"]}
CONFIG = {"type": "custom", "item_schema": SCHEMA, "include_sample_schema": True}
RIGHT = {"type": "string_check", "name": "Right answer", "input": SAMPLE, "reference": "{{item.answer}}",
         "operation": "eq"}  # fmt: skip
LIKE = {"type": "text_similarity", "name": "like", "input": SAMPLE, "reference": "{{item.answer}}",
        "evaluation_metric": "bleu", "pass_threshold": 0.9}  # fmt: skip
CHOICE = {
    "type": "label_model", "name": "polite", "model": "echo", "labels": ["good", "bad"],
    "passing_labels": ["good", "bad"], "input": [{"role": "user", "content": f"{{{{item.q}}}} {SAMPLE}"}],
}  # fmt: skip
FAR = {"type": "score_model", "name": "far", "model": "echo", "range": [0, 10], "pass_threshold": 0,
       "input": [{"role": "user", "content": SAMPLE}]}  # fmt: skip
BOTH = {"type": "multi", "name": "both", "graders": {"a": RIGHT, "b": LIKE}, "calculate_output": "min(a, b)"}
TEMPLATE = {"type": "template", "template": [{"role": "user", "content": "{{item.q}}"}]}
OVER = ("completed", "failed", "canceled")


@pytest.fixture(scope="module")
def ai(gateway: Gateway):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key(), max_retries=0) as client:
        yield client


def rows(*answers: str, ask: str = "say {n}") -> list[dict[str, Any]]:
    return [{"item": {"q": ask.format(n=n), "answer": answer}} for n, answer in enumerate(answers)]


def asks(source: dict[str, Any], kind: str = "completions") -> dict[str, Any]:
    return {"type": kind, "model": "echo", "source": source, "input_messages": TEMPLATE,
            "sampling_params": {"max_completion_tokens": 20}}  # fmt: skip


def inline(content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "file_content", "content": content}


def over(ai: openai.OpenAI, run: Any) -> Any:
    return eventually(lambda: (r := ai.evals.runs.retrieve(run.id, eval_id=run.eval_id)).status in OVER and r)


def test_an_eval_is_made_found_changed_and_deleted(ai: openai.OpenAI):
    made = ai.evals.create(
        name="capitals",
        data_source_config=CONFIG,
        testing_criteria=[RIGHT, LIKE, CHOICE, FAR, BOTH],
        metadata={"a": "b"},
    )
    assert (made.object, made.name, made.metadata) == ("eval", "capitals", {"a": "b"})
    assert made.data_source_config.schema_["properties"]["item"] == SCHEMA
    assert [criterion.to_dict() for criterion in made.testing_criteria] == [RIGHT, LIKE, CHOICE, FAR, BOTH]
    assert ai.evals.retrieve(made.id).to_dict() == made.to_dict()
    other = ai.evals.create(data_source_config=CONFIG, testing_criteria=[RIGHT])
    ids = [response.id for response in ai.evals.list(limit=1)]
    assert ids.index(made.id) < ids.index(other.id)
    assert next(iter(ai.evals.list(order="desc"))).id == other.id
    changed = ai.evals.update(made.id, name="rivers", metadata={})
    assert changed.to_dict() == made.to_dict() | {"name": "rivers", "metadata": {}}
    assert [response.id for response in ai.evals.list(order="desc", order_by="updated_at", limit=1)][:2] == [
        made.id,
        other.id,
    ]
    gone = ai.evals.delete(made.id)
    assert (gone.deleted, gone.eval_id, gone.object) == (True, made.id, "eval.deleted")
    with pytest.raises(openai.NotFoundError, match="no eval of this id"):
        ai.evals.retrieve(made.id)


def test_a_run_asks_a_model_and_each_grader_says_what_it_found(ai: openai.OpenAI):
    of = ai.evals.create(data_source_config=CONFIG, testing_criteria=[RIGHT, LIKE, CHOICE, FAR, BOTH])
    content = [*rows("say 0", "no", "say 2"), {"item": {"q": "say 3"}}]
    run = ai.evals.runs.create(of.id, name="first", data_source=asks(inline(content)), metadata={"m": "x"})
    assert (run.status, run.name, run.model, run.metadata) == ("queued", "first", "echo", {"m": "x"})
    ended = over(ai, run)
    assert (ended.status, ended.error) == ("completed", None)
    assert ended.result_counts.to_dict() == {"total": 4, "passed": 2, "failed": 1, "errored": 1}
    by_name = {
        criteria_result.testing_criteria: (criteria_result.passed, criteria_result.failed)
        for criteria_result in ended.per_testing_criteria_results
    }
    assert by_name == {"Right answer": (2, 1), "like": (2, 1), "polite": (3, 0), "far": (3, 0), "both": (2, 1)}
    (usage,) = ended.per_model_usage
    assert (usage.run_model_name, usage.invocation_count, usage.completion_tokens) == ("echo", 3, 6)
    assert ended.headrace["pass_rate"]["n"] == 3
    assert ended.headrace["pass_rate"]["low"] < 2 / 3 < ended.headrace["pass_rate"]["high"]
    items = list(ai.evals.runs.output_items.list(run.id, eval_id=of.id, limit=1))
    assert [(response.datasource_item_id, response.status) for response in items] == [
        (0, "pass"), (1, "fail"), (2, "pass"), (3, "error"),
    ]  # fmt: skip
    assert items[1].sample.output[0].content == "say 1"
    assert [(sample_input.role, sample_input.content) for sample_input in items[1].sample.input] == [("user", "say 1")]
    assert items[1].datasource_item == content[1]["item"]
    assert [result.passed for result in items[1].results] == [False, False, True, True, False]
    assert items[3].sample.error.code == "invalid_row"
    assert items[3].sample.error.message == (
        "line 4: reference cannot be filled: it lacks `item.answer`; it has `item.q`"
    )
    failed = ai.evals.runs.output_items.list(run.id, eval_id=of.id, status="fail")
    assert [response.id for response in failed] == [items[1].id]
    one = ai.evals.runs.output_items.retrieve(items[1].id, eval_id=of.id, run_id=run.id)
    assert one.to_dict() == items[1].to_dict()
    backwards = ai.evals.runs.output_items.list(run.id, eval_id=of.id, order="desc", limit=3)
    assert [backward.datasource_item_id for backward in backwards] == [3, 2, 1, 0]


def test_rows_of_a_request_that_do_not_keep_to_the_schema_are_refused(ai: openai.OpenAI):
    of = ai.evals.create(data_source_config=CONFIG, testing_criteria=[RIGHT])
    source = inline([*rows("say 0", "say 1"), {"item": {"answer": "say 2"}}, {"item": {"q": 3}}])
    with pytest.raises(openai.BadRequestError, match="does not keep to item_schema") as refused:
        ai.evals.runs.create(of.id, data_source=asks(source))
    assert refused.value.param == "data_source.source.content[2].item"
    assert list(ai.evals.runs.list(of.id)) == []


def test_rows_that_bring_what_is_judged_need_no_model(ai: openai.OpenAI):
    of = ai.evals.create(data_source_config=CONFIG, testing_criteria=[RIGHT])
    lines = [
        {"item": {"q": "?", "answer": "Paris"}, "sample": {"output_text": "Paris"}},
        {"item": {"q": "?", "answer": "Paris"}, "sample": {"output_text": "Rome"}},
        {"item": {"answer": "Paris"}, "sample": {"output_text": "Paris"}},
    ]
    data = "\n".join([*map(json.dumps, lines), "", "{"]).encode()
    file = ai.files.create(file=("rows.jsonl", data), purpose="evals")
    source = {"type": "jsonl", "source": {"type": "file_id", "id": file.id}}
    ended = over(ai, ai.evals.runs.create(of.id, data_source=source))
    assert ended.data_source.to_dict() == source
    assert (ended.status, ended.model) == ("completed", "")
    items = list(ai.evals.runs.output_items.list(ended.id, eval_id=of.id))
    assert [response.status for response in items] == ["pass", "fail", "error", "error"]
    assert items[0].sample.output[0].content == "Paris"
    assert "does not keep to item_schema: " in items[2].sample.error.message
    assert items[3].sample.error.message.startswith("line 5: it is no JSON")


def test_a_run_of_which_no_row_does_has_failed(ai: openai.OpenAI):
    of = ai.evals.create(data_source_config=CONFIG, testing_criteria=[RIGHT])
    ended = over(ai, ai.evals.runs.create(of.id, data_source=asks(inline([{"item": {"q": "x"}}]), "responses")))
    assert (ended.status, ended.error.message) == ("failed", "none of its 1 rows makes a job")
    assert ended.result_counts.to_dict() == {"total": 1, "passed": 0, "failed": 0, "errored": 1}


def test_a_run_that_is_cancelled_keeps_what_is_judged(ai: openai.OpenAI):
    of = ai.evals.create(data_source_config=CONFIG, testing_criteria=[RIGHT])
    content = rows(*["x"] * 200, ask="%%sleep:0.1%% {n}")
    run = ai.evals.runs.create(of.id, data_source=asks(inline(content)))
    eventually(lambda: ai.evals.runs.retrieve(run.id, eval_id=of.id).result_counts.failed)
    with pytest.raises(openai.ConflictError, match="has not ended: cancel it first"):
        ai.evals.runs.delete(run.id, eval_id=of.id)
    with pytest.raises(openai.ConflictError, match="has not ended"):
        ai.evals.delete(of.id)
    assert ai.evals.runs.cancel(run.id, eval_id=of.id).status == "canceling"
    ended = over(ai, run)
    counts = ended.result_counts
    assert ended.status == "canceled"
    assert counts.failed > 0 < counts.errored
    assert counts.failed + counts.errored == counts.total == 200
    assert ai.evals.runs.cancel(run.id, eval_id=of.id).status == "canceled"
    items = list(ai.evals.runs.output_items.list(run.id, eval_id=of.id, limit=100))
    assert len(items) == 200
    assert {response.sample.error.code for response in items if response.status == "error"} <= {
        "canceled",
        "batch_cancelled",
    }
    assert [response.id for response in ai.evals.runs.list(of.id, status="canceled")] == [run.id]
    assert ai.evals.runs.delete(run.id, eval_id=of.id).deleted
    with pytest.raises(openai.NotFoundError):
        ai.evals.runs.retrieve(run.id, eval_id=of.id)
    assert list(ai.evals.runs.list(of.id)) == []


def test_what_is_another_tenant_s_is_not_there(ai: openai.OpenAI, gateway: Gateway):
    of, other = (ai.evals.create(data_source_config=CONFIG, testing_criteria=[RIGHT]) for _ in range(2))
    run = over(ai, ai.evals.runs.create(of.id, data_source=asks(inline(rows("say 0")))))
    (item,) = ai.evals.runs.output_items.list(run.id, eval_id=of.id)
    paths = [f"/v1/evals/{of.id}/runs"]
    paths += [f"{paths[0]}/{run.id}{end}" for end in ("", "/output_items", f"/output_items/{item.id}")]
    nobody_else = f"stranger-{uuid4().hex[:8]}"  # other tests made no evals as this tenant
    with gateway.client(gateway.key(nobody_else)) as stranger, gateway.client() as owner:
        for client, where in ((stranger, of.id), (owner, other.id)):
            for path in paths[1:] if client is owner else paths:
                assert client.get(path.replace(of.id, where)).status_code == 404, path
            for method, path in (("POST", f"{paths[1]}/cancel"), ("DELETE", paths[1])):
                assert client.request(method, path.replace(of.id, where)).status_code == 404, path
        assert stranger.get("/v1/evals").json()["data"] == []
    assert ai.evals.runs.retrieve(run.id, eval_id=of.id).status == "completed"
    for lost in (item.id.replace("_0", "_1"), "outputitem_x", run.id):
        with pytest.raises(openai.NotFoundError, match="no item of this id"):
            ai.evals.runs.output_items.retrieve(lost, eval_id=of.id, run_id=run.id)


@pytest.mark.parametrize(
    ("parameter", "place"),
    [
        (lambda form: {"response_format": {"type": "json_schema", "json_schema": form}}, "response_format.json_schema"),
        (lambda form: {"text": {"format": {"type": "json_schema", **form}}}, "text.format"),
    ],
)
def test_a_run_whose_format_no_answer_can_have_is_refused(ai: openai.OpenAI, parameter: Any, place: str):
    """Before anything is written, and by the place in the schema: all its items would fail."""
    of = ai.evals.create(data_source_config=CONFIG, testing_criteria=[RIGHT])
    form = {"name": "found", "schema": {"type": "object", "properties": {"id": {"pattern": "(?!a)b"}}}}
    source = {**asks(inline(rows("x"))), "sampling_params": parameter(form)}
    with pytest.raises(openai.BadRequestError, match="looks around") as refused:
        ai.evals.runs.create(of.id, data_source=source)
    assert refused.value.param == f"data_source.sampling_params.{place}.schema/properties/id/pattern"
    assert list(ai.evals.runs.list(of.id)) == []


def test_what_a_tenant_may_have_no_more_of_is_refused(gateway: Gateway, monkeypatch: pytest.MonkeyPatch):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key("bounded"), max_retries=0) as ai:
        monkeypatch.setattr(store, "_MOST_EVALS", 1)
        of = ai.evals.create(data_source_config=CONFIG, testing_criteria=[RIGHT])
        with pytest.raises(openai.RateLimitError, match=r"has 1 evals, and may have 1") as refused:
            ai.evals.create(data_source_config=CONFIG, testing_criteria=[RIGHT])
        assert refused.value.code == "insufficient_quota"
        assert refused.value.response.headers["x-should-retry"] == "false"
        monkeypatch.setattr(store, "_MOST_BYTES", 10)
        with pytest.raises(openai.RateLimitError, match="and may keep 10"):
            ai.evals.runs.create(of.id, data_source=asks(inline(rows("x"))))
        assert list(ai.files.list()) == []
        ai.evals.delete(of.id)
        ai.evals.create(data_source_config=CONFIG, testing_criteria=[RIGHT])


def test_a_webhook_tells_of_a_run_s_end(ai: openai.OpenAI, gateway: Gateway):
    receiver = ai.webhooks.create(
        name="shop",
        url="https://shop.example/",
        event_types=["eval.run.succeeded", "eval.run.failed", "eval.run.canceled"],
    )
    of = ai.evals.create(data_source_config=CONFIG, testing_criteria=[RIGHT])
    ended = over(ai, ai.evals.runs.create(of.id, data_source=asks(inline(rows("say 0")))))
    with gateway.client() as client:
        found = client.get(f"/v1/webhook_endpoints/{receiver.id}/deliveries").json()["data"]
    (told,) = [item for item in found if item["subject"] == ended.id]  # a run of an earlier test may end late
    assert told["event_type"] == "eval.run.succeeded"
    (content,) = gateway.services.ledger.read(select(DELIVERIES.c.body).where(DELIVERIES.c.id == told["id"]))
    event = EvalRunSucceededWebhookEvent.model_validate_json(content.body)
    assert (event.type, event.data.id) == ("eval.run.succeeded", ended.id)
    ai.webhooks.delete(receiver.id)


@pytest.mark.parametrize(
    ("criteria", "place"),
    [
        ([RIGHT, CHOICE | {"model": "nobody"}], "testing_criteria[1].model"),
        (
            [{"type": "multi", "name": "m", "graders": {"a": LIKE, "b": FAR | {"model": "nobody"}},
              "calculate_output": "a + b"}],
            "testing_criteria[0].graders.b.model",
        ),
    ],
)  # fmt: skip
def test_a_grader_of_a_model_that_is_not_there_is_refused_at_once(ai: openai.OpenAI, criteria: Any, place: str):
    with pytest.raises(openai.NotFoundError) as told:
        ai.evals.create(data_source_config=CONFIG, testing_criteria=criteria)
    assert (told.value.code, told.value.param) == ("model_not_found", place)
    assert f"{place}: no model is called 'nobody'; known are: " in str(told.value)


def test_a_run_that_asks_a_model_that_is_not_there_is_refused_at_once(ai: openai.OpenAI):
    made = ai.evals.create(data_source_config=CONFIG, testing_criteria=[RIGHT])
    with pytest.raises(openai.NotFoundError) as told:
        ai.evals.runs.create(made.id, data_source=asks(inline(rows("a"))) | {"model": "nobody"})
    assert told.value.param == "data_source.model"
    assert list(ai.evals.runs.list(made.id)) == []

"""From an eval and a data source to jobs, and from receipts to what a run says. Pure."""

import json
from typing import Any

import pytest
from tests.workers.features.evals.test_graders import CHECK, LABELS, LIKE, SAMPLE, SCORE

from headrace_schemas import EvaluationJob, GenerationJob
from headrace_schemas.output_format import JsonObjectFormat, JsonSchemaFormat, OutputFormat
from headrace_workers.features.evals.eval_plan import EvalPlan, Row, item_schema_of
from headrace_workers.features.evals.run_state import Tally, pass_rate, status_of
from headrace_workers.http.openai import Refused

FILE = {"type": "file_id", "id": "file-1"}
ROWS = {"type": "jsonl", "source": FILE}
TEMPLATE = {"type": "template", "template": [
    {"role": "developer", "content": "Be short."},
    {"type": "message", "role": "user", "content": {"type": "input_text", "text": "Q: {{item.q}}"}},
]}  # fmt: skip
ASKS = {"type": "completions", "source": FILE, "model": "echo", "input_messages": TEMPLATE,
        "sampling_params": {"max_completion_tokens": 9, "temperature": 0.5, "seed": 1}}  # fmt: skip
JSON_OBJECT = {"type": "json_object"}
TICKET = {"type": "json_schema", "name": "ticket", "schema": {"type": "object"}}
ROW = Row.of({"item": {"q": "Name a river.", "answer": "Rhine"}})


def job(plan: EvalPlan, row: Row = ROW) -> dict[str, Any]:
    return dict(json.loads(plan.line(row, 7, "evalrun_1", "shop")))


def test_a_model_is_asked_what_the_template_says():
    line = job(EvalPlan.of([CHECK, LIKE], ASKS, {}))
    assert line.pop("kind") == "generation"
    made = GenerationJob.model_validate(line)
    assert [(message.role, message.content) for message in made.messages] == [
        ("system", "Be short."),
        ("user", "Q: Name a river."),
    ]
    assert (made.sampling.max_tokens, made.sampling.temperature, made.sampling.seed) == (9, 0.5, 1)
    assert (made.lane, made.cache, made.tenant, made.idempotency_key) == ("batch", "off", "shop", "7")
    assert [criterion.key for criterion in made.criteria] == ["right", "like"]
    assert made.metadata == {"evaluation": "evalrun_1", "item": "7"}


def said(plan: EvalPlan, item: dict[str, Any]) -> list[dict[str, str]]:
    messages = job(plan, Row.of({"item": item}))["messages"]
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def test_rows_that_have_what_is_judged_are_judged_alone():
    sampled = Row.of({"item": {"answer": "Rhine"}, "sample": {"output_text": "The Rhine."}})
    found = job(EvalPlan.of([CHECK], ROWS, {}), sampled)
    assert (found["kind"], found["output"]) == ("evaluation", "The Rhine.")
    assert EvaluationJob.model_validate({name: said for name, said in found.items() if name != "kind"}).criteria
    of_field = EvalPlan.of([{**CHECK, "input": "{{item.said}}"}], ROWS, {})
    assert job(of_field, Row.of({"item": {"said": "x", "answer": "y"}}))["output"] == "x"
    whole = EvalPlan.of([{**SCORE, "input": [{"role": "user", "content": "Rate {{item.q}}"}]}], ROWS, {})
    assert json.loads(job(whole)["output"]) == ROW.item


def test_each_grader_judges_the_text_that_it_names():
    whole = {**SCORE, "input": [{"role": "user", "content": "Rate {{item.q}}"}]}
    graders = [{**LIKE, "input": "{{item.q}}"}, CHECK, {**LABELS, "name": "kind"}, whole]
    row = Row.of({"item": {"q": "Name a river.", "answer": "Rhine", "question": "?"}})
    for source, brought in ((ASKS, None), (ROWS, "The Rhine.")):
        found = job(EvalPlan.of(graders, source, {}), Row(row.item, brought))
        assert found.get("output") == brought
        like, right, kind, rated = (criterion.get("output") for criterion in found["criteria"])
        assert (like, right, kind) == ("Name a river.", None, None)
        assert json.loads(rated) == row.item
    around = EvalPlan.of([CHECK, {**LIKE, "input": f"A: {SAMPLE}"}], ROWS, {})
    assert [criterion.get("output") for criterion in job(around, Row(row.item, "x"))["criteria"]] == [None, "A: x"]


def test_each_grader_asks_its_own_model():
    row = Row({"q": "?", "question": "?", "answer": ""})
    found = job(EvalPlan.of([LABELS, {**SCORE, "model": "other"}, CHECK], ASKS, {}), row)
    assert [criterion.get("model") for criterion in found["criteria"]] == ["echo", "other", None]


def test_messages_may_be_those_of_a_field():
    plan = EvalPlan.of(
        [CHECK], {**ASKS, "input_messages": {"type": "item_reference", "item_reference": "item.said"}}, {}
    )
    talk = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "?"},
    ]
    assert said(plan, {"said": talk, "answer": "x"}) == talk
    assert said(plan, {"said": "Hi", "answer": "x"}) == talk[:1]
    for wrong, reason in ((7, "must be text, or a list"), ([{"role": "tool", "content": "x"}], "role: must be one of")):
        with pytest.raises(ValueError, match=reason):
            job(plan, Row.of({"item": {"said": wrong, "answer": "x"}}))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ([], "must be an object with an object `item`"),
        ({"item": {}, "samples": {}}, "`samples` is not known"),
        ({"item": {}, "sample": "x"}, "`sample` must be an object"),
        ({"item": {}, "sample": {"output_text": 1}}, "`sample.output_text` must be text"),
        ({"item": {"answer": "x"}}, "message 2 cannot be filled: it lacks `item.q`"),
        ({"item": {"q": None, "answer": "x"}}, "message 2 cannot be filled: `item.q` is null"),
        ({"item": {"q": "x"}}, "reference cannot be filled: it lacks `item.answer`"),
        ({"item": {"q": "x" * 200_000, "answer": "x"}}, "has more than 200000 characters"),
        ({"item": {"q": "a\0", "answer": "x"}}, "holds the character NUL"),
    ],
)
def test_a_row_that_makes_no_job_says_why(raw: Any, reason: str):
    with pytest.raises(ValueError, match=reason):
        job(EvalPlan.of([CHECK], ASKS, {}), Row.of(raw))


@pytest.mark.parametrize(
    ("criteria", "source", "reason"),
    [
        ([{**CHECK, "input": "{{item.q}}"}], ASKS, "data_source.type: a model is asked, and no grader reads"),
        ([CHECK, {**LIKE, "input": f"A: {SAMPLE}"}], ASKS, r"testing_criteria\[1\].input: has other text around"),
        ([CHECK], {"type": "logs"}, "data_source.type: must be one of jsonl, completions, responses"),
        ([CHECK], {**ROWS, "model": "echo"}, "data_source.model is not known"),
        ([CHECK], {**ROWS, "source": {"type": "stored_completions"}}, "data_source.source.type: must be file_id or"),
        ([CHECK], {**ROWS, "source": {"type": "file_content", "content": [{"q": 1}]}}, r"content\[0\].q is not known"),
        ([CHECK], {**ASKS, "input_messages": None}, "data_source.input_messages is missing"),
        ([CHECK], {**ASKS, "input_messages": {"type": "template", "template": [{"role": "user", "content": SAMPLE}]}},
         "is what this is to bring"),
        ([CHECK], {**ASKS, "sampling_params": {"tools": [1]}}, r"_params.tools: is not supported.* or send \[\]"),
        ([CHECK], {**ASKS, "sampling_params": {"reasoning_effort": "high"}}, "reasoning_effort: is not supported"),
        ([CHECK], {**ASKS, "sampling_params": {"max_completion_tokens": 0}}, "max_completion_tokens: must be"),
        ([CHECK], {**ASKS, "sampling_params": {"response_format": {}}}, "params.response_format.type is missing"),
        ([CHECK], {**ASKS, "sampling_params": {"text": {"format": {"type": "json_schema", "name": "a"}}}},
         "params.text.format.schema is missing"),
        ([CHECK], {**ASKS, "sampling_params": {"response_format": JSON_OBJECT, "text": {"format": JSON_OBJECT}}},
         "name a format: leave one out"),
        ([CHECK], {**ASKS, "sampling_params": {"text": {"format": {**TICKET, "schema": 1}}}}, "json_schema: must be"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(criteria: list[Any], source: dict[str, Any], reason: str):
    with pytest.raises(Refused, match=reason):
        EvalPlan.of(criteria, source, {})


@pytest.mark.parametrize(
    ("asked", "output"),
    [
        ({"response_format": JSON_OBJECT}, JsonObjectFormat()),
        ({"response_format": {"type": "text"}, "text": {"format": JSON_OBJECT}}, JsonObjectFormat()),
        ({"text": {"format": TICKET}}, JsonSchemaFormat(json_schema={"type": "object"}, name="ticket")),
        ({"text": {}}, None),
    ],
)
def test_answers_have_the_format_of_the_data_source(asked: dict[str, Any], output: OutputFormat | None):
    plan = EvalPlan.of([CHECK], {**ASKS, "sampling_params": asked}, {})
    fields = {name: value for name, value in job(plan).items() if name != "kind"}
    assert GenerationJob.model_validate(fields).output == output


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"type": "logs"}, "must be custom"),
        ({"type": "custom"}, "item_schema: must be an object"),
        ({"type": "custom", "item_schema": {}, "metadata": {}}, "data_source_config.metadata: is not known"),
        ({"type": "custom", "item_schema": {}, "include_sample_schema": 1}, "must be true or false"),
    ],
)
def test_only_a_schema_of_ones_own_is_a_source(config: Any, reason: str):
    with pytest.raises(Refused, match=reason):
        item_schema_of(config)


def test_an_item_passes_where_every_grader_passed_it():
    """One that failed decides; where one has no score and none failed, nobody knows."""
    yes, no, unknown = ({"passed": p, "score": s} for p, s in ((True, 1.0), (False, 0.0), (False, None)))
    assert [status_of(group) for group in ([yes, yes], [yes, no], [yes, unknown], [no, unknown], [])] == [
        "pass", "fail", "error", "fail", "error",
    ]  # fmt: skip


def test_what_is_counted_survives_as_json():
    plan = EvalPlan.of([CHECK, LABELS], ASKS, {})
    answer = {
        "text": "Rhine",
        "model": "echo",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }
    tally = plan.tally()
    for value in (0.2, 0.9):
        results = plan.results([{"value": 1.0}, {"value": value}])
        tally = Tally.from_json(json.loads(json.dumps(tally.to_json())), [])
        tally = tally.with_end(status_of(results), results, plan.sample(ROW, answer, None))
    tally = tally.with_end("error", [], plan.sample(ROW, None, {"code": "expired", "message": "late"}))
    assert tally.counts == {"passed": 1, "failed": 1, "errored": 1}
    assert tally.graders["right"] == {"passed": 2, "failed": 0, "errored": 1}
    assert tally.graders["polite"] == {"passed": 1, "failed": 1, "errored": 1}
    assert tally.models == {
        "echo": {
            "invocation_count": 2,
            "prompt_tokens": 6,
            "completion_tokens": 4,
            "total_tokens": 10,
            "cached_tokens": 0,
        }
    }


@pytest.mark.parametrize(("passed", "failed"), [(0, 5), (3, 4), (40, 2), (7, 0)])
def test_the_share_that_passed_has_wilsons_interval(passed: int, failed: int):
    from scipy.stats import binomtest

    rate = pass_rate(passed, failed)
    assert rate is not None
    expected = binomtest(passed, passed + failed).proportion_ci(0.95, "wilson")
    assert (rate["low"], rate["high"]) == pytest.approx((expected.low, expected.high))
    assert pass_rate(0, 0) is None

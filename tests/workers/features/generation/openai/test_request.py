from datetime import UTC, datetime

import pytest
from tests.workers.features.generation.openai.ends import ASKER

from headrace_schemas import GenerationJob
from headrace_schemas.job import Lane
from headrace_workers.features.generation.openai.request import (
    CHAT_PARTS,
    OF_ANY,
    OF_GENERATION,
    RESPONSE_PARTS,
    RequestContext,
    build,
    role_of,
    shared_fields,
    text_of,
    texts_of,
    tier,
    wants_stream,
)
from headrace_workers.http.openai import Refused

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
BULK = RequestContext("shop", None, Lane.BATCH)


@pytest.mark.parametrize(
    ("asked", "told", "asker", "lane", "priority"),
    [
        ({}, "default", ASKER, None, 5),  # an application may decide the lane
        ({"service_tier": "auto"}, "default", ASKER, None, 5),
        ({"service_tier": "default"}, "default", BULK, Lane.BATCH, 5),
        ({"service_tier": "flex"}, "flex", ASKER, Lane.BATCH, 5),
        ({"service_tier": "priority"}, "priority", ASKER, Lane.INTERACTIVE, 9),
        ({"service_tier": "fast"}, "priority", BULK, Lane.BATCH, 9),
        ({"service_tier": "flex", "headrace": {"priority": 1}}, "flex", ASKER, Lane.BATCH, 1),
    ],
)
def test_a_service_tier_is_a_lane_and_a_priority(asked, told, asker, lane, priority):
    fields = shared_fields(asked, asker, OF_ANY)
    assert (tier(asked), fields.get("lane"), fields["priority"]) == (told, lane, priority)


@pytest.mark.parametrize("name", ["scale", "ultrafast", 1, ["flex"]])
def test_a_tier_that_there_is_not_is_refused(name):
    with pytest.raises(Refused, match="must be one of auto, default, flex") as caught:
        tier({"service_tier": name})
    assert caught.value.param == "service_tier"


def test_who_the_user_is_goes_to_the_receipt():
    asked = {"metadata": {"order": "17"}, "safety_identifier": "u1", "user": "u2"}
    assert shared_fields(asked, ASKER, OF_ANY)["metadata"] == {"order": "17", "safety_identifier": "u1", "user": "u2"}


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"metadata": []}, "metadata"),
        ({"metadata": {"user": "a"}, "user": "b"}, "metadata.user"),
        ({"headrace": []}, "headrace"),
        ({"headrace": {"cash": "exact"}}, "headrace.cash"),
        ({"headrace": {"cache": "exact"}}, "headrace.cache"),
    ],
)
def test_what_cannot_be_wished_is_refused_by_name(asked, param):
    with pytest.raises(Refused) as caught:
        shared_fields(asked, ASKER, OF_ANY)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("wished", "until"),
    [(None, "12:00"), ("2026-01-31T11:00:00Z", "11:00"), ("2026-01-31T13:00:00Z", "12:00")],
)
def test_the_sooner_of_two_deadlines_holds(wished, until):
    asker = RequestContext("shop", None, Lane.BATCH, deadline=NOON)
    fields = shared_fields({"headrace": {"deadline": wished}}, asker, OF_ANY)
    assert fields["deadline"][11:16] == until


def test_a_deadline_that_is_no_time_is_refused():
    def read(asker):
        fields = shared_fields({"headrace": {"deadline": "tomorrow"}}, asker, OF_ANY)
        return build(GenerationJob, {**fields, "model": "m", "prompt": "p"}, asker, {})

    for asker in (ASKER, RequestContext("shop", None, Lane.BATCH, deadline=NOON)):
        with pytest.raises(Refused, match="RFC 3339") as caught:
            read(asker)
        assert caught.value.param == "headrace.deadline"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 1}, "model"),
        ({"sampling": {"stop": [1]}}, "stop[0]"),
        ({"sampling": {"top_k": -1}}, "headrace.top_k"),
        ({"cache": "some"}, "headrace.cache"),
        ({"criteria": [{"criterion": "contains"}]}, "headrace.criteria[0].text"),
        ({"criteria": [{}]}, "headrace.criteria[0].criterion"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {"user": 1}}, "user"),
        ({"messages": [{"role": "user", "content": "x" * 200_001}]}, "input[0].content"),
        ({"criteria": [{"criterion": "f1", "uncertain": {"criterion": "none"}}]}, "headrace"),
    ],
)
def test_what_is_wrong_is_named_as_the_request_has_it(fields, param):
    names = {"model": "model", "sampling.stop": "stop", "sampling.top_k": "headrace.top_k", "messages": "input"}
    one = {} if "messages" in fields else {"prompt": "p"}
    with pytest.raises(Refused) as caught:
        build(GenerationJob, {"model": "m", **one, **fields}, ASKER, names)
    assert caught.value.param == param
    assert str(caught.value).startswith((f"{param}: ", f"{param} is missing"))


def test_half_a_character_is_refused():
    with pytest.raises(Refused, match="surrogate pair"):
        build(GenerationJob, {"model": "m", "prompt": "\ud800"}, ASKER, {})


def test_a_wish_that_is_nested_too_deeply_is_refused():
    for depth in (300, 100_000):
        deep: object = []
        for _ in range(depth):
            deep = [deep]
        with pytest.raises(Refused, match="nested too deeply"):
            build(GenerationJob, {"model": "m", "prompt": "p", "reference": deep}, ASKER, {})


def test_all_wishes_of_a_generation_job_are_fields_of_one():
    assert set(OF_GENERATION) - {"top_k", "repetition_penalty"} <= GenerationJob.model_fields.keys()


def test_a_key_is_the_job_s_key():
    asker = RequestContext("shop", "order-17", Lane.INTERACTIVE)
    fields = {"tenant": "shop", "model": "m", "prompt": "p"}
    assert build(GenerationJob, fields, asker, {}).idempotency_key == "order-17"
    assert build(GenerationJob, fields, asker, {}, "/2").idempotency_key == "order-17/2"
    assert build(GenerationJob, fields, ASKER, {}).idempotency_key is None


def test_one_text_or_many():
    assert texts_of({"input": "a"}, "input", 2) == [("input", "a")]
    assert texts_of({"input": ["a", "b"]}, "input", 2) == [("input[0]", "a"), ("input[1]", "b")]


@pytest.mark.parametrize(
    ("value", "param", "words"),
    [
        (None, "input", "is missing"),
        ([], "input", "at least one"),
        (["a", "b", "c"], "input", "at most 2 texts, not 3"),
        ([1, 2], "input[0]", "tokens are not taken"),
        (["a", None], "input[1]", "must be text"),
    ],
)
def test_what_is_none_is_refused(value, param, words):
    asked = {} if value is None else {"input": value}
    with pytest.raises(Refused, match=words) as caught:
        texts_of(asked, "input", 2)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("role", "ours"), [("system", "system"), ("developer", "system"), ("user", "user"), ("assistant", "assistant")]
)
def test_roles(role, ours):
    """A developer's instructions are the system's."""
    assert role_of(role, "r") == ours


@pytest.mark.parametrize("role", ["tool", "function", None, ["user"]])
def test_other_roles_are_refused(role):
    with pytest.raises(Refused) as caught:
        role_of(role, "messages[0].role")
    assert caught.value.param == "messages[0].role"


def test_parts_of_text_are_joined_a_line_each():
    assert text_of("a", CHAT_PARTS, "c") == "a"
    assert text_of([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], CHAT_PARTS, "c") == "a\nb"
    assert text_of([{"type": "refusal", "refusal": "no"}], CHAT_PARTS, "c") == "no"
    assert text_of([], CHAT_PARTS, "c") == ""


def test_an_output_of_ours_may_be_sent_back():
    part = {"type": "output_text", "text": "a", "annotations": [{"type": "file_citation"}], "logprobs": []}
    assert text_of([part, {"type": "input_text", "text": "b"}], RESPONSE_PARTS, "c") == "a\nb"


@pytest.mark.parametrize(
    ("content", "param"),
    [
        (None, "c"),
        (["a"], "c[0].type"),
        ([{"type": "image_url", "image_url": {}}], "c[0].type"),
        ([{"type": "text"}], "c[0].text"),
        ([{"type": "text", "text": 1}], "c[0].text"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b", "x": 1}], "c[1].x"),
        ([{"type": "text", "text": "a", "prompt_cache_breakpoint": {}}], "c[0].prompt_cache_breakpoint"),
    ],
)
def test_what_is_no_text_is_refused_by_its_place(content, param):
    with pytest.raises(Refused) as caught:
        text_of(content, CHAT_PARTS, "c")
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, (False, False)),
        ({"stream": False}, (False, False)),
        ({"stream_options": {}}, (False, False)),
        ({"stream": False, "stream_options": {"include_usage": False}}, (False, False)),
        ({"stream": True}, (True, False)),
        ({"stream": True, "stream_options": {"include_usage": True}}, (True, True)),
        ({"stream": True, "stream_options": {"include_usage": False, "include_obfuscation": False}}, (True, False)),
    ],
)
def test_what_is_wanted(asked, wanted):
    assert wants_stream(asked) == wanted


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"stream": 1}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    ],
)
def test_what_makes_no_sense_is_refused(asked, param):
    with pytest.raises(Refused) as caught:
        wants_stream(asked)
    assert caught.value.param == param

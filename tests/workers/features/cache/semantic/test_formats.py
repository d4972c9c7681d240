"""Answers with a format from the cache: only to jobs that ask for the very same, and only while they have it."""

import pytest
from pydantic_core import from_json, to_json
from sqlalchemy import select, update
from tests.workers.features.cache.semantic.conftest import tiers
from tests.workers.features.cache.semantic.test_exact import entries

from headrace_schemas import Message
from headrace_schemas.job import GenerationJob
from headrace_schemas.tool import ToolCall
from headrace_workers.core.sql.database import writing
from headrace_workers.features.cache.semantic.scope import key_of, scope_of
from headrace_workers.features.cache.tables import ENTRIES

OBJECT = {"type": "json_schema", "json_schema": {"type": "object"}, "in_prompt": False}
TREE = {"type": "json_schema", "json_schema": {"type": "object", "required": ["tall"]}, "in_prompt": False}
ASKED = {"prompt": '{"tall": 3}', "output": TREE}
TOOL = {"name": "measure", "parameters": {"type": "object"}}


def test_an_answer_with_the_same_format_is_served(flow, asks):
    (first,) = flow.send(asks(**ASKED))
    flow.drain()
    (second,) = flow.send(asks(**ASKED, idempotency_key="again"))
    flow.drain()
    assert flow.generated == [first]
    assert (tiers(flow, [second]), flow.result(second).answer.text) == (["exact"], '{"tall": 3}')


def test_a_known_answer_that_lost_its_format_is_served_no_more(flow, asks):
    flow.send(asks(**ASKED))
    flow.drain()
    ((answer,),) = flow.ledger.read(select(ENTRIES.c.answer))
    with writing(flow.ledger.engine) as tx:
        tx.execute(update(ENTRIES).values(answer=to_json({**from_json(answer), "text": '{"tall"'})))
    (second,) = flow.send(asks(**ASKED, idempotency_key="again"))
    flow.drain()
    assert second in flow.generated
    assert flow.result(second).answer.text == '{"tall": 3}'
    assert entries(flow) == ["dead"]


@pytest.mark.parametrize(
    "calls",
    [
        [],
        [{"id": "1", "name": "measure", "arguments": '{"tall": "very"}'}],
        [{"id": "1", "name": "measure", "arguments": '{"tall": 3'}],
        [{"id": "1", "name": "fell", "arguments": '{"tall": 3}'}],
    ],
)
def test_a_known_call_that_its_tools_do_not_take_is_served_no_more(flow, asks, calls):
    tool = {"name": "measure", "parameters": {"type": "object", "properties": {"tall": {"type": "integer"}}}}
    asked = {
        "prompt": '{"name": "measure", "arguments": {"tall": 3}}', "tools": [tool], "tool_choice": "required"
    }  # fmt: skip
    (first,) = flow.send(asks(**asked))
    flow.drain()
    (second,) = flow.send(asks(**asked, idempotency_key="2"))
    flow.drain()
    assert (flow.generated, tiers(flow, [second])) == ([first], ["exact"])
    ((answer,),) = flow.ledger.read(select(ENTRIES.c.answer))
    with writing(flow.ledger.engine) as tx:
        tx.execute(update(ENTRIES).values(answer=to_json({**from_json(answer), "tool_calls": calls})))
    (third,) = flow.send(asks(**asked, idempotency_key="3"))
    flow.drain()
    assert third in flow.generated
    assert flow.result(third).answer.tool_calls[0].arguments == '{"tall": 3}'
    assert entries(flow) == ["dead"]


USER, CALL = Message(role="user", content="How tall?"), ToolCall(id="1", name="measure", arguments="{}")
TURNS = (USER, Message(role="assistant", tool_calls=(CALL,)), Message(role="tool", content="3", tool_call_id="1"))


@pytest.mark.parametrize(
    "changes",
    [
        {"output": OBJECT},
        {"tools": [TOOL]},
        {"tools": [TOOL], "tool_choice": "required"},
        {"messages": (USER, TURNS[1], TURNS[2].model_copy(update={"tool_call_id": "2"}))},
        {"messages": (USER, TURNS[1].model_copy(update={"tool_calls": ()}), TURNS[2])},
    ],
)
def test_each_part_of_a_request_changes_its_key(changes):
    plain = GenerationJob(model="m", messages=TURNS)
    other = (
        GenerationJob.model_validate({**dict(plain), **changes})
        if "messages" not in changes
        else (plain.model_copy(update=changes))
    )
    assert key_of(plain, "m") != key_of(other, "m")
    if "messages" not in changes:
        assert scope_of(plain, "m", "e") != scope_of(other, "m", "e")

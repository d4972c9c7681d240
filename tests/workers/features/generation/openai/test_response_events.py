import pytest
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter
from tests.workers.features.generation.openai.ends import ASKER, answered

from headrace_schemas.grounding import Citation, Grounding
from headrace_schemas.tool import ToolCall
from headrace_workers.features.generation.openai.response_body import events
from headrace_workers.features.generation.openai.responses import read

EVENT = TypeAdapter(ResponseStreamEvent)
CALL = ToolCall(id="call_1", name="weather", arguments='{"city": "Bern"}' + " " * 200)
CITED = Grounding(
    knowledge="mill",
    floor=0.3,
    citations=(Citation(number=1, document="a.md", start=0, stop=9, chunk="c", relevance=0.5, cited=True),),
)


def body_of(end, **more):
    return read({"model": "mill", "input": "Why?", **more}, ASKER).answer([end])


@pytest.mark.parametrize(
    "end",
    [
        answered("Once upon a time. " * 20),
        answered("cut", "length"),
        answered(None),
        answered("", "abstained"),
        answered("So it is [1].", grounding=CITED),
        answered("I look it up.", "tool_calls", tool_calls=(CALL, CALL.model_copy(update={"id": "call_2"}))),
        answered(None, "tool_calls", tool_calls=(CALL,)),
    ],
)
def test_events_come_to_the_same_response(end):
    """As the client itself puts them together: each is one that it knows, and in an order that it takes."""
    body = body_of(end, tools=[{"type": "file_search", "vector_store_ids": ["mill"]}])
    told = list(events(body))
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    state = ResponseStreamState(input_tools=omit, text_format=omit)
    texts = []
    for event in told:
        for seen in state.handle_event(EVENT.validate_python(event)):
            if seen.type == "response.output_text.delta":
                texts.append(seen.delta)
    assert told[-1]["type"] == f"response.{body['status']}"
    assert told[-1]["response"] == body
    said = [part["text"] for item in body["output"] for part in item.get("content", ()) if "text" in part]
    assert "".join(texts) == "".join(said)


def test_nothing_is_told_at_the_beginning():
    """The first event has no output yet."""
    first = next(events(body_of(answered())))
    assert (first["type"], first["response"]["status"], first["response"]["output"]) == (
        "response.created",
        "in_progress",
        [],
    )

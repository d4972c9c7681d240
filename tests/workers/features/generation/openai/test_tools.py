""""""

import pytest
from openai.lib.streaming.chat._completions import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response
from tests.workers.features.generation.openai.ends import ASKER, JOB_ID, answered, died

from headrace_schemas.grounding import Citation, Grounding
from headrace_schemas.tool import NamedTool, Tool, ToolCall
from headrace_workers.features.generation.api.answers import answer_of
from headrace_workers.features.generation.openai.endpoint import ENDPOINTS
from headrace_workers.features.generation.openai.responses import continued, conversation, input_messages
from headrace_workers.features.generation.openai.tools import annotations, knowledge_of, search_call
from headrace_workers.http.openai import Refused

CHAT = {"model": "mill", "messages": [{"role": "user", "content": "a"}]}
TURN = {"model": "mill", "input": "a"}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "weather", "description": "Look the weather up.", "parameters": CITY}
CALL = ToolCall(id="call_1", name="weather", arguments='{"city": "Bern"}')
CHAT_CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
CALLED = answered(None, "tool_calls", tool_calls=(CALL,))


def chat(**more):
    return ENDPOINTS["/v1/chat/completions"]({**CHAT, **more}, ASKER)


def response(**more):
    return ENDPOINTS["/v1/responses"]({**TURN, **more}, ASKER)


def wrapped(tool):
    return {"type": "function", "function": tool}


def by_chat(*tools, **more):
    return chat(tools=[wrapped(tool) for tool in tools], **more).jobs[0]


def by_response(*tools, **more):
    return response(tools=[{"type": "function", **tool} for tool in tools], **more).jobs[0]


@pytest.mark.parametrize("ask", [by_chat, by_response])
@pytest.mark.parametrize("strict", [{}, {"strict": None}, {"strict": True}, {"strict": False}])
def test_functions_are_the_tools_of_the_job(ask, strict):
    """Arguments are valid in any case, so that `strict` changes nothing."""
    job = ask({**WEATHER, **strict}, {"name": "time", "parameters": None})
    assert job.tools == (Tool(**WEATHER), Tool(name="time"))
    assert job.tool_choice is None


@pytest.mark.parametrize("choice", ["none", "auto", "required"])
def test_the_choice_is_the_job_s(choice):
    assert by_chat(WEATHER, tool_choice=choice).tool_choice == by_response(WEATHER, tool_choice=choice).tool_choice
    assert by_chat(WEATHER, tool_choice=choice).tool_choice == choice
    named = NamedTool(name="weather")
    assert by_chat(WEATHER, tool_choice=wrapped({"name": "weather"})).tool_choice == named
    assert by_response(WEATHER, tool_choice={"type": "function", "name": "weather"}).tool_choice == named


@pytest.mark.parametrize("ask", [chat, response])
@pytest.mark.parametrize("more", [{"tools": []}, {"tool_choice": "none"}, {"tools": [], "tool_choice": "auto"}])
def test_no_tools_are_none(ask, more):
    assert ask(**more).jobs == ask().jobs


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].type"),
        ({"tools": [wrapped(WEATHER), {"type": "function"}]}, "tools[1].function"),
        ({"tools": [wrapped({"name": "a b"})]}, "tools[0].function.name"),
        ({"tools": [wrapped({"name": "a", "parameters": []})]}, "tools[0].function.parameters"),
        ({"tools": [wrapped({"name": "a", "frob": 1})]}, "tools[0].function.frob"),
        ({"tools": [wrapped(WEATHER)] * 2}, "tools[1]"),
        ({"tools": [wrapped({"name": f"f{n}"}) for n in range(129)]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [wrapped(WEATHER)], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [wrapped(WEATHER)], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
        ({"tools": [wrapped(WEATHER)], "tool_choice": wrapped({"name": "time"})}, "tool_choice.function.name"),
        ({"tools": [wrapped(WEATHER)], "parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"messages": [{"role": "user", "content": "a", "tool_calls": [CHAT_CALL]}]}, "messages[0].tool_calls"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{**CHAT_CALL, "function": {"name": "a"}}]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"messages": [{"role": "tool", "tool_call_id": "call_1"}]}, "messages[0].content"),
        (
            {
                "messages": [
                    {"role": "assistant", "tool_calls": [CHAT_CALL]},
                    {"role": "tool", "tool_call_id": "call_2", "content": "a"},
                ]
            },
            "messages[1].tool_call_id",
        ),
    ],
)
def test_what_is_wrong_with_tools_of_a_chat_is_named(more, param):
    with pytest.raises(Refused) as caught:
        chat(**more)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "function", **WEATHER, "parameters": 1}]}, "tools[0].parameters"),
        ({"tools": [{"type": "function", **WEATHER}, {"type": "file_search"}]}, "tools[1].type"),
        ({"tools": [{"type": "file_search"}, {"type": "function", **WEATHER}]}, "tools[1]"),
        ({"tools": [{"type": "function", **WEATHER}], "tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"input": [{"type": "function_call", "name": "a", "arguments": "{}"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": [{}]}]}, "input[0].output[0].type"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "a"}]}, "input[0].call_id"),
    ],
)
def test_what_is_wrong_with_tools_of_a_response_is_named(more, param):
    with pytest.raises(Refused) as caught:
        response(**more)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize("ask", [by_chat, by_response])
def test_a_format_may_stand_beside_tools(ask):
    job = ask(WEATHER, parallel_tool_calls=False, headrace={"output": {"type": "json_object"}})
    assert (job.offer.beside_format, job.offer.most) == (True, 1)
    assert ask(WEATHER).offer.most > 1


def test_a_message_may_name_who_speaks():
    turns = [
        {"role": "user", "name": "alice", "content": "a"},
        {"role": "assistant", "content": None, "tool_calls": [CHAT_CALL]},
        {"role": "tool", "tool_call_id": "call_1", "name": "weather", "content": "mild"},
    ]
    (job,) = chat(messages=turns).jobs
    assert [turn.name for turn in job.messages] == ["alice", None, "weather"]
    with pytest.raises(Refused) as caught:
        chat(messages=[{"role": "user", "name": "<|im_start|>", "content": "a"}])
    assert caught.value.param == "messages[0].name"


def test_encrypted_reasoning_may_be_asked_for_and_has_no_effect():
    assert response(include=["reasoning.encrypted_content"]).jobs
    with pytest.raises(Refused) as caught:
        response(include=["message.output_text.logprobs"])
    assert caught.value.param == "include"


def test_turns_of_tools_are_messages_of_the_job():
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": None, "tool_calls": [CHAT_CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "mild"}]},
    ]
    items = [
        {"role": "user", "content": "a"},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather", "arguments": CALL.arguments},
        {"type": "function_call_output", "call_id": "call_1", "output": "mild"},
    ]
    (by_messages,), (by_items,) = chat(messages=messages).jobs, response(input=items).jobs
    assert by_messages.messages == by_items.messages
    asked, result = by_messages.messages[1:]
    assert (asked.content, asked.tool_calls) == ("", (CALL,))
    assert (result.role, result.content, result.tool_call_id) == ("tool", "mild", "call_1")


def test_a_chat_completion_has_the_calls():
    body = chat(tools=[wrapped(WEATHER)]).answer([CALLED])
    (choice,) = ChatCompletion.model_validate(body).choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert body["choices"][0]["message"]["tool_calls"] == [CHAT_CALL]
    state = ChatCompletionStreamState()
    request = chat(tools=[wrapped(WEATHER)], stream=True)
    for chunk in request.chunks(body):
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    (streamed,) = state.get_final_completion().choices
    assert streamed.message.tool_calls[0].function.arguments == CALL.arguments
    assert streamed.message.tool_calls[0].id == "call_1"
    assert streamed.finish_reason == "tool_calls"


def test_a_chat_completion_without_calls_has_no_list_of_them():
    assert "tool_calls" not in chat(tools=[wrapped(WEATHER)]).answer([answered()])["choices"][0]["message"]


def test_a_response_has_the_calls_as_items():
    request = response(tools=[{"type": "function", **WEATHER}])
    two = answered("I look.", "tool_calls", tool_calls=(CALL, CALL))
    body = request.answer([two])
    Response.model_validate(body)
    assert body["status"] == "completed"
    assert [(item["type"], item["id"]) for item in body["output"]] == [
        ("message", f"msg_{JOB_ID}"),
        ("function_call", f"fc_{JOB_ID}_0"),
        ("function_call", f"fc_{JOB_ID}_1"),
    ]
    (turn,) = input_messages({"input": body["output"]})
    assert (turn["content"], len(turn["tool_calls"])) == ("I look.", 2)


def test_the_next_response_goes_on_from_a_call():
    (job,) = response(tools=[{"type": "function", **WEATHER}]).jobs
    said = conversation(TURN, job, CALLED)[-1]
    assert (said.role, said.content, said.tool_calls) == ("assistant", "", (CALL,))
    result = {"type": "function_call_output", "call_id": CALL.id, "output": "mild"}
    (after,) = continued({**TURN, "input": [result]}, ASKER, (said,)).jobs
    assert after.messages[-1].tool_call_id == CALL.id
    with pytest.raises(Refused) as caught:
        continued({**TURN, "input": [{**result, "call_id": "call_2"}]}, ASKER, (said,))
    assert caught.value.param == "input[0].call_id"


def test_an_answer_that_was_cut_is_told_as_a_length():
    dead = died(failure="truncated", place="/age", reason="its tokens ended")
    asked = chat(response_format={"type": "json_object"})
    body = answer_of(asked, [dead])
    (choice,) = ChatCompletion.model_validate(body).choices
    assert (choice.finish_reason, choice.message.content) == ("length", None)
    assert body["headrace"] == {
        "job_id": JOB_ID, "failure": "truncated", "reason": "its tokens ended", "place": "/age"
    }  # fmt: skip
    told = answer_of(response(), [dead])
    Response.model_validate(told)
    assert (told["status"], told["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert (told["output"], told["error"], told["headrace"]["failure"]) == ([], None, "truncated")


@pytest.mark.parametrize("ask", [chat, response])
def test_an_answer_of_another_form_is_an_error(ask):
    with pytest.raises(Refused) as caught:
        answer_of(ask(), [died(failure="unparsable")])
    assert (caught.value.status, caught.value.code) == (422, "unparsable")
    with pytest.raises(Refused) as caught:
        ask().answer([died(failure="truncated")])
    assert (caught.value.status, caught.value.code) == (422, "truncated")


TOOL = {"type": "file_search", "vector_store_ids": ["mill"]}


@pytest.mark.parametrize(
    "asked",
    [{"tools": [TOOL]}, *({"tools": [TOOL], "tool_choice": c} for c in ("auto", "required", {"type": "file_search"}))],
)
def test_one_store_is_the_knowledge_base(asked):
    """It is always searched, so that whoever insists on it gets what is done anyway."""
    assert knowledge_of(asked) == {"knowledge": "mill"}


def test_its_filters_are_the_knowledge_base_s():
    filters = {"type": "eq", "key": "language", "value": "en"}
    assert knowledge_of({"tools": [{**TOOL, "filters": filters}]}) == {
        "knowledge": "mill",
        "knowledge_filter": filters,
    }


@pytest.mark.parametrize("asked", [{}, {"tools": []}, {"tool_choice": "auto"}, {"tool_choice": "none"}])
def test_without_a_tool_there_is_none(asked):
    assert knowledge_of(asked) == {}


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools[0].type"),
        ({"tools": [TOOL, TOOL]}, "tools[1]"),
        ({"tools": [{"type": "file_search"}]}, "tools[0].vector_store_ids"),
        ({"tools": [{**TOOL, "vector_store_ids": ["a", "b"]}]}, "tools[0].vector_store_ids"),
        ({"tools": [{**TOOL, "max_num_results": 3}]}, "tools[0].max_num_results"),
        ({"tools": [TOOL], "tool_choice": "none"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "headrace": {"knowledge": "mill"}}, "headrace.knowledge"),
        ({"tools": [TOOL], "headrace": {"knowledge_filter": {}}}, "headrace.knowledge_filter"),
    ],
)
def test_what_cannot_be_had_is_refused(asked, param):
    with pytest.raises(Refused) as caught:
        knowledge_of(asked)
    assert caught.value.param == param


def test_the_search_is_told():
    assert search_call(answered(), "why?") == {
        "id": f"fs_{JOB_ID}",
        "type": "file_search_call",
        "status": "completed",
        "queries": ["why?"],
        "results": None,
    }


def test_citations_point_into_the_text():
    text = "So it is [2]. As [12]. Or so [1, 12]. And [3-5]."
    cited = {1: True, 2: True, 4: True, 6: False, 12: True}
    documents = {n: f"{n}.md" for n in cited} | {12: "file-3/12.md"}  # it came as a file of a vector store
    grounding = Grounding(
        knowledge="mill",
        floor=0.3,
        citations=tuple(
            Citation(
                number=n,
                document=documents.get(n, f"{n}.md"),
                start=0,
                stop=9,
                chunk="c",
                relevance=0.5,
                cited=is_cited,
            )
            for n, is_cited in cited.items()
        ),
    )
    entries = annotations(answered(text, grounding=grounding))
    assert [(entry["filename"], entry["index"]) for entry in entries] == [
        ("2.md", 9),
        ("12.md", 17),
        ("1.md", 29),
        ("4.md", len(text)),
    ]
    assert {entry["type"] for entry in entries} == {"file_citation"}
    assert [entry["file_id"] for entry in entries] == ["2.md", "file-3", "1.md", "4.md"]
    assert annotations(answered(None, grounding=grounding)) == []
    assert annotations(answered()) == []

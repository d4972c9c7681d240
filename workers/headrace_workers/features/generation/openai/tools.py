"""Tools as OpenAI writes them, and as a job holds them: functions, the choice among them and calls, and `file_search`.

With `file_search` the answer rests on passages of a knowledge base, which headrace looks up before it asks.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from headrace_schemas import Result
from headrace_schemas.grounding import FILE_DOCUMENT
from headrace_schemas.tool import ToolCall
from headrace_workers.features.generation.openai.formats import Asked
from headrace_workers.features.generation.openai.request import WISHES, Body, flag
from headrace_workers.http.openai import Parameters, missing, unsupported, wrong

TOOL: Final = "file_search"

_PARAMETERS: Final = Parameters(
    works=frozenset({"type", "vector_store_ids", "filters"}),
    refused={"max_num_results": (), "ranking_options": ({},)},
)
# Their names in the request, by the fields of the job.
NAMES: Final = {"knowledge": "tools[0].vector_store_ids", "knowledge_filter": "tools[0].filters"}
_LOOKED_UP: Final = ("auto", "required", {"type": TOOL})  # it always is

FUNCTION: Final = "function"
_WRAPPED: Final = Parameters(frozenset({"type", FUNCTION}))
_NAMED: Final = Parameters(frozenset({"name", "description", "parameters", "strict"}))
_FLAT: Final = Parameters(
    frozenset({"type", "name", "description", "parameters", "strict"}),
    refused={"defer_loading": (False,), "async": (False,), "allowed_callers": (), "output_schema": ()},
)
_CHOICE: Final = Parameters(frozenset({"type", FUNCTION}))
_CHOSEN: Final = Parameters(frozenset({"name"}))
_FLAT_CHOICE: Final = Parameters(frozenset({"type", "name"}))
# `index` and `parsed_arguments` stand in a call that the client streamed or parsed, and sends back.
_CALL: Final = Parameters(frozenset({"id", "type", "index", FUNCTION}))
_CALLED: Final = Parameters(frozenset({"name", "arguments", "parsed_arguments"}))
_CHOICES: Final = ("none", "auto", "required")


def knowledge_of(asked: Body) -> dict[str, Any]:
    """Return the fields of a job about its knowledge base: from its one tool, or none."""
    tools = asked.get("tools", [])
    if not isinstance(tools, list | tuple):
        raise wrong("tools", "must be a list")
    choice = asked.get("tool_choice", "auto")
    if not tools:
        if choice not in ("none", "auto"):
            raise unsupported("tool_choice", f'asks for a tool: name one in tools, of type "{TOOL}"')
        return {}
    if len(tools) > 1:
        raise unsupported("tools[1]", f"{TOOL} is supported without another tool only")
    kind = tools[0].get("type") if isinstance(tools[0], dict) else None
    if kind != TOOL:
        raise unsupported("tools[0].type", f"only {TOOL} is supported")
    if choice not in _LOOKED_UP:
        raise unsupported("tool_choice", f'must be "auto" or "required" beside {TOOL}: it is always used')
    wishes = asked.get(WISHES)
    for name in NAMES.keys() & (wishes.keys() if isinstance(wishes, Mapping) else ()):
        raise wrong(f"{WISHES}.{name}", "tools name a knowledge base, too: give one of the two")
    tool = _PARAMETERS.given(tools[0], "tools[0]")
    stores = tool.get("vector_store_ids")
    if stores is None:
        raise missing("tools[0].vector_store_ids")
    if not isinstance(stores, list | tuple) or len(stores) != 1:
        raise unsupported("tools[0].vector_store_ids", "must name one vector store")
    return {"knowledge": stores[0], **({"knowledge_filter": tool["filters"]} if "filters" in tool else {})}


def search_call(result: Result, question: str) -> dict[str, Any]:
    """Return the output item for the search. The passages that were found stand in headrace's receipt."""
    return {
        "id": f"fs_{result.job_id}",
        "type": "file_search_call",
        "status": "completed",
        "queries": [question],
        "results": None,
    }


def annotations(result: Result) -> list[dict[str, Any]]:
    """Return the citations of the text: the place of each passage's number, and its document."""
    answer = result.answer
    if answer is None or answer.text is None or answer.grounding is None:
        return []
    found = [
        {"type": "file_citation", **_file(citation.document), "index": _place(answer.text, citation.number)}
        for citation in answer.grounding.citations
        if citation.cited
    ]
    return sorted(found, key=lambda entry: entry["index"])


def _file(document: str) -> dict[str, str]:
    """Return a document as a file: the file of its vector store, or its own name if it came another way."""
    match = FILE_DOCUMENT.fullmatch(document)
    return {"file_id": match[1], "filename": match[2]} if match else {"file_id": document, "filename": document}


def _place(text: str, number: int) -> int:
    """Return the place of `[number]`, alone or among others; the text's end where it is only within a range such as
    `[1-3]`.
    """
    match = re.search(rf"\[(?:[^\[\]]*\D)?{number}(?!\d)[^\[\]]*\]", text)
    return match.start() if match else len(text)


def chat_tools(asked: Body) -> Asked:
    """Return the tools of a chat completion and the choice among them. Raise Refused for other tools than functions."""

    def tool(given: Any, param: str) -> Mapping[str, Any]:
        wrapped = _WRAPPED.given(given, param)
        if FUNCTION not in wrapped:
            raise missing(f"{param}.{FUNCTION}")
        return _described(_NAMED.given(wrapped[FUNCTION], f"{param}.{FUNCTION}"), f"{param}.{FUNCTION}")

    def chosen(given: Any) -> Any:
        wrapped = _CHOICE.given(given, "tool_choice")
        if FUNCTION not in wrapped:
            raise missing(f"tool_choice.{FUNCTION}")
        return _CHOSEN.given(wrapped[FUNCTION], f"tool_choice.{FUNCTION}").get("name")

    found = _tools(asked, tool, chosen, choice_name=f"tool_choice.{FUNCTION}.name", kinds=f"must be {FUNCTION}")
    places = range(len(found.fields.get("tools", ())))
    return Asked(found.fields, {**found.names, **{f"tools[{place}]": f"tools[{place}].{FUNCTION}" for place in places}})


def response_tools(asked: Body) -> Asked:
    """Return the tools of a response and the choice among them. Raise Refused for other tools than functions."""

    def tool(given: Any, param: str) -> Mapping[str, Any]:
        return _described({name: value for name, value in _FLAT.given(given, param).items() if name != "type"}, param)

    def chosen(given: Any) -> Any:
        return _FLAT_CHOICE.given(given, "tool_choice").get("name")

    kinds = f"must be {FUNCTION}, or {TOOL} without another tool"
    return _tools(asked, tool, chosen, choice_name="tool_choice.name", kinds=kinds)


def calls_in(given: Any, param: str) -> list[dict[str, Any]]:
    """Return the calls of an assistant's turn in a chat, as a job holds them."""
    if not isinstance(given, list | tuple):
        raise wrong(param, "must be a list")
    return [_call(item, f"{param}[{index}]") for index, item in enumerate(given)]


def chat_calls(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    """Return calls as a chat completion has them."""
    return [
        {"id": call.id, "type": FUNCTION, FUNCTION: {"name": call.name, "arguments": call.arguments}} for call in calls
    ]


def _tools(
    asked: Body,
    tool: Callable[[Any, str], Mapping[str, Any]],
    chosen: Callable[[Any], Any],
    *,
    choice_name: str,
    kinds: str,
) -> Asked:
    given = asked.get("tools", [])
    if not isinstance(given, list | tuple):
        raise wrong("tools", "must be a list")
    tools = []
    for index, item in enumerate(given):
        param = f"tools[{index}]"
        _check_type(item, param, kinds)
        tools.append(tool(item, param))
    choice = _choice(asked.get("tool_choice"), chosen, choice_name)
    several = flag(asked, "parallel_tool_calls", default=True)
    if not tools:
        if choice in (None, "none", "auto"):
            return Asked()
        raise wrong("tool_choice", "asks for a tool: name one in tools")
    names = [item.get("name") for item in tools]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise wrong(f"tools[{index}]", f"is the second tool of the name {name!r}: name each once")
    if isinstance(choice, Mapping) and choice["name"] not in names:
        raise wrong(choice_name, "is none of the tools")
    fields = {
        "tools": tools,
        **({} if choice is None else {"tool_choice": choice}),
        **({} if several else {"parallel_tool_calls": False}),
    }
    return Asked(fields, {"tools": "tools", "tool_choice": "tool_choice"})


def _described(given: Mapping[str, Any], param: str) -> dict[str, Any]:
    if "name" not in given:
        raise missing(f"{param}.name")
    flag(given, "strict", within=f"{param}.")  # either way arguments are valid by the whole schema
    return {name: value for name, value in given.items() if name != "strict"}


def _choice(given: Any, chosen: Callable[[Any], Any], choice_name: str) -> Any:
    if given is None or given in _CHOICES:
        return given
    _check_type(given, "tool_choice", f"must be {', '.join(_CHOICES)}, or name a function")
    name = chosen(given)
    if name is None:
        raise missing(choice_name)
    return {"name": name}


def _check_type(given: Any, param: str, words: str) -> None:
    if not isinstance(given, Mapping):
        raise wrong(param, words if isinstance(given, str) else "must be an object")
    if given.get("type") != FUNCTION:
        raise missing(f"{param}.type") if given.get("type") is None else unsupported(f"{param}.type", words)


def _call(given: Any, param: str) -> dict[str, Any]:
    _check_type(given, param, "function is the only kind of call that is supported")
    call = _CALL.given(given, param)
    for name in ("id", FUNCTION):
        if name not in call:
            raise missing(f"{param}.{name}")
    called = _CALLED.given(call[FUNCTION], f"{param}.{FUNCTION}")
    for name in ("name", "arguments"):
        if name not in called:
            raise missing(f"{param}.{FUNCTION}.{name}")
    return {"id": call["id"], "name": called["name"], "arguments": called["arguments"]}

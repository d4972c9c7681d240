"""The tool `file_search`: the answer rests on passages of a knowledge base, which headrace looks up before it asks."""

import re
from collections.abc import Mapping
from typing import Any, Final

from headrace_schemas import Result
from headrace_schemas.grounding import FILE_DOCUMENT
from headrace_workers.features.generation.openai.common_fields import WISHES
from headrace_workers.features.generation.openai.request import Body
from headrace_workers.http.openai_errors import missing, unsupported, wrong
from headrace_workers.http.openai_parameters import Parameters

TOOL: Final = "file_search"

_PARAMETERS: Final = Parameters(
    works=frozenset({"type", "vector_store_ids", "filters"}),
    refused={"max_num_results": (), "ranking_options": ({},)},
)
# Their names in the request, by the fields of the job.
NAMES: Final = {"knowledge": "tools[0].vector_store_ids", "knowledge_filter": "tools[0].filters"}
_LOOKED_UP: Final = ("auto", "required", {"type": TOOL})  # it always is


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
        {"type": "file_citation", **_file(each.document), "index": _place(answer.text, each.number)}
        for each in answer.grounding.citations
        if each.cited
    ]
    return sorted(found, key=lambda each: each["index"])


def _file(document: str) -> dict[str, str]:
    """Return a document as a file: the file of its vector store, or its own name if it came another way."""
    found = FILE_DOCUMENT.fullmatch(document)
    return {"file_id": found[1], "filename": found[2]} if found else {"file_id": document, "filename": document}


def _place(text: str, number: int) -> int:
    """Return the place of `[number]`, alone or among others; the text's end where it is only within a range such as
    `[1-3]`.
    """
    found = re.search(rf"\[(?:[^\[\]]*\D)?{number}(?!\d)[^\[\]]*\]", text)
    return found.start() if found else len(text)

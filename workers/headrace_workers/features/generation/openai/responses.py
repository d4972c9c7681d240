"""POST /v1/responses."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from headrace_schemas import GenerationJob, Message, Result
from headrace_schemas.callback import Callback
from headrace_workers.features.generation.openai.common_fields import OF_GENERATION, WISHES
from headrace_workers.features.generation.openai.file_search import NAMES, knowledge_of
from headrace_workers.features.generation.openai.file_search import TOOL as SEARCH
from headrace_workers.features.generation.openai.flags import flag
from headrace_workers.features.generation.openai.formats import Asked, response_format
from headrace_workers.features.generation.openai.function_tools import response_tools
from headrace_workers.features.generation.openai.generation import generation_job, spoken
from headrace_workers.features.generation.openai.request import Asker, Body, Request
from headrace_workers.features.generation.openai.response_body import ended
from headrace_workers.features.generation.openai.response_events import events
from headrace_workers.features.generation.openai.response_input import messages_of
from headrace_workers.features.generation.openai.streaming import wants_stream
from headrace_workers.http.openai_errors import End, answered, failure_told, unsupported, wrong
from headrace_workers.http.openai_parameters import Parameters

PARAMETERS: Final = Parameters(
    works=frozenset(
        {
            "model", "input", "instructions", "previous_response_id", "background", "store", "temperature", "top_p",
            "max_output_tokens", "tools", "tool_choice", "parallel_tool_calls", "service_tier", "metadata",
            "safety_identifier", "user", "stream", "stream_options", "text", WISHES,
        }
    ),
    refused={
        "prompt": (),
        "conversation": (),
        "include": ([], ["reasoning.encrypted_content"]),
        "max_tool_calls": (),
        "moderation": (),
        "top_logprobs": (0,),
        "truncation": ("disabled",),
        "background_options": ({}, {"completion_window": "soonest"}),
    },
    unmeant={
        "access_programs": (),
        "context_management": ([],),
        "image": (),
        "prompt_cache_key": (),
        "prompt_cache_options": (),
        "prompt_cache_retention": (),
        "reasoning": ({}, {"effort": "none"}),
    },
    options=OF_GENERATION,
)  # fmt: skip


def read(body: Body, asker: Asker) -> Request:
    """Return the job of a response that stands alone; `continued` reads one that continues an earlier response.

    Refused names what cannot be had.
    """
    asked = PARAMETERS.given(body)
    if "previous_response_id" in asked:
        raise unsupported("previous_response_id", "earlier responses are not at hand here: send them in the input")
    return continued(body, asker, ())


def continued(body: Body, asker: Asker, earlier: Sequence[Message]) -> Request:
    """Return the job of a response that continues a conversation, and the function that makes its answer.

    Refused names what cannot be had.
    """
    asked = PARAMETERS.given(body)
    stream, _ = wants_stream(asked)
    _check_background(asked, stream)
    tools, output = _tools(asked), response_format(asked)
    names = {**tools.names, **output.names}
    job = generation_job(
        asked,
        asker,
        {"messages": messages_of(asked, earlier), **tools.fields, **output.fields},
        names={"messages": "input", **names},
        length=("max_output_tokens",),
    )
    if flag(asked, "background"):
        job = job.model_copy(update={"callback": (job.callback or Callback(response=True)).as_response()})

    def answer(ends: Sequence[End]) -> dict[str, Any]:
        (result,) = answered(ends, "generation")
        return ended(asked, job, result.job_id, result)

    def cut(end: End) -> dict[str, Any]:
        return ended(asked, job, failure_told(end)["job_id"], end)

    return Request((job,), answer, stream, events, "input", names, cut)


def conversation(asked: Body, job: GenerationJob, end: End) -> tuple[Message, ...]:
    """Return the conversation up to the end of a response, for the next response to continue. It has no instructions.

    Refused where there is neither a text nor a call to go on from.
    """
    said = spoken(end) if isinstance(end, Result) else None
    if said is None or (said.text is None and not said.calls):
        raise wrong("previous_response_id", "that response has no text to go on from")
    before = job.messages[1:] if asked.get("instructions") is not None else job.messages
    return (*before, Message(role="assistant", content=said.text or "", tool_calls=said.calls))


def _tools(asked: Body) -> Asked:
    """Return the tools of a response as fields of its job: a search, which headrace makes itself, or functions."""
    given = asked.get("tools")
    first = given[0] if isinstance(given, list | tuple) and given else None
    if isinstance(first, Mapping) and first.get("type") == SEARCH:
        return Asked(knowledge_of(asked), NAMES)
    return response_tools(asked)


def _check_background(asked: Body, stream: bool) -> None:
    stored = flag(asked, "store", default=True)
    if not flag(asked, "background"):
        return
    if not stored:
        raise unsupported("store", "must be true with background=true: it is retrieved later")
    if stream:
        raise unsupported("stream", "is not supported with background=true: retrieve the response when it has ended")

"""POST /v1/completions: a prompt is one turn of the user, and many prompts are many jobs and one answer."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

from headrace_workers.features.generation.openai.generation import (
    generation_job,
    model_of,
    pieces,
    receipt,
    spoken,
    usage_told,
)
from headrace_workers.features.generation.openai.request import (
    OF_GENERATION,
    WISHES,
    Body,
    OpenAIRequest,
    RequestContext,
    texts_of,
    wants_stream,
)
from headrace_workers.http.openai import End, Parameters, answered

MAX_PROMPTS: Final = 128

PARAMETERS: Final = Parameters(
    works=frozenset(
        {"model", "prompt", "temperature", "top_p", "seed", "stop", "max_tokens", "user", "stream", "stream_options"}
        | {WISHES}
    ),
    refused={
        "n": (1,),
        "best_of": (1,),
        "frequency_penalty": (0,),
        "presence_penalty": (0,),
        "logit_bias": ({},),
        "logprobs": (),
        "echo": (False,),
        "suffix": ("",),
    },
    options=OF_GENERATION,
)


def read(body: Body, asker: RequestContext) -> OpenAIRequest:
    """Return a job for each prompt, and the function that makes their answer.

    Raise Refused for what is not supported.
    """
    asked = PARAMETERS.given(body)
    stream, with_usage = wants_stream(asked)
    prompts = texts_of(asked, "prompt", MAX_PROMPTS)
    jobs = tuple(
        generation_job(
            asked,
            asker,
            {"prompt": prompt},
            names={"prompt": path},
            length=("max_tokens",),
            number="" if len(prompts) == 1 else f"/{index}",
        )
        for index, (path, prompt) in enumerate(prompts)
    )

    def answer(ends: Sequence[End]) -> dict[str, Any]:
        results = answered(ends, "generation")
        first = results[0]
        said = [spoken(result) for result in results]
        return {
            "id": f"cmpl-{first.job_id}",
            "object": "text_completion",
            "created": int(first.accepted_at.timestamp()),
            "model": model_of(first, asked),
            "choices": [
                {"index": index, "text": item.text or "", "logprobs": None, "finish_reason": item.finish_reason}
                for index, item in enumerate(said)
            ],
            "usage": usage_told(results),
            WISHES: receipt(first) if len(results) == 1 else [receipt(result) for result in results],
        }

    return OpenAIRequest(jobs, answer, stream, partial(_chunks, with_usage=with_usage), "prompt")


def _chunks(body: Body, *, with_usage: bool) -> Iterator[dict[str, Any]]:
    """Yield a finished completion in pieces, one choice after the other; the last of each has its finish reason."""
    shared = {
        **{name: body[name] for name in ("id", "object", "created", "model")},
        **({"usage": None} if with_usage else {}),
    }
    for choice in body["choices"]:
        for piece in pieces(choice["text"]):
            yield {**shared, "choices": [{**choice, "text": piece, "finish_reason": None}]}
        last = {**shared, "choices": [{**choice, "text": ""}]}
        yield {**last, WISHES: body[WISHES]} if choice is body["choices"][-1] else last
    if with_usage:
        yield {**shared, "choices": [], "usage": body["usage"]}

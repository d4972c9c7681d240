"""Models behind an OpenAI-compatible endpoint: OpenAI itself, Gemini, vLLM, Ollama, llama-server, or another gateway of
headrace.
"""

import math
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final

from headrace_schemas.events import FinishReason
from headrace_workers.models.catalogue import RemoteModel
from headrace_workers.models.engines.engine import Engine, LoadOptions, missing_client
from headrace_workers.models.engines.remote.failures import ProviderRefuses
from headrace_workers.models.engines.remote.generator import (
    CallPiece,
    Piece,
    RemoteGenerator,
    count_or_none,
)
from headrace_workers.models.engines.remote.http_client import http_client, sent
from headrace_workers.models.engines.remote.request_bodies import native_format, openai_body, openai_tools
from headrace_workers.models.generator import Request, TokenChoices
from headrace_workers.models.registry import ModelCard

_FINISH: Final[dict[str, FinishReason]] = {"stop": "stop", "length": "length", "tool_calls": "tool_calls"}
# Reasons of a provider's policy: of OpenAI; of Gemini, in capitals; of Bedrock; of Cohere; of Zhipu.
_WITHHELD: Final = frozenset(
    {
        "content_filter", "safety", "recitation", "blocklist", "prohibited_content", "spii", "content_filtered",
        "guardrail_intervened", "error_toxic", "sensitive", "refusal",
    }
)  # fmt: skip
_MOST_PARTS: Final = 128  # of calls in one chunk, which has one or two
_LIKELIEST: Final = 20  # tokens whose probabilities are asked for: OpenAI's bound
_LONGEST_TOKEN: Final = 100  # characters
_NO_KEY: Final = "none"  # the client wants one; servers of your own take any


class OpenAIProvider:
    """A client of an OpenAI-compatible endpoint. Its own retries are off: the ledger is the only retry loop."""

    def __init__(self, model: RemoteModel) -> None:
        import openai

        self._openai = openai
        self._model = model
        self._client = openai.AsyncOpenAI(
            api_key=_NO_KEY,
            base_url=model.endpoint,
            max_retries=0,
            http_client=http_client(model),
        )
        self._keyed = _NO_KEY, self._client

    async def begin(self, request: Request, key: str | None) -> AsyncGenerator[Any, None]:
        """Ask for a chat completion with this key, and return its chunks."""
        client, body = self._client_of(key or _NO_KEY), self._body(request)

        async def post(output: dict[str, Any]) -> Any:
            # The client's own types are built for each chunk, which takes as long as all the rest of a call.
            return await client.post(
                "/chat/completions", body={**body, **output}, cast_to=object, stream=True,
                stream_cls=self._openai.AsyncStream[object],
            )  # fmt: skip

        output = openai_body(native_format(request, self._model), self._model)
        chunks = await sent(post, output, self._openai.APIConnectionError)
        return aiter(chunks)

    def piece(self, event: Any) -> Piece:
        """Return what is in a chunk."""
        return _piece(event)

    def _client_of(self, key: str) -> Any:
        if key != self._keyed[0]:
            self._keyed = key, self._client.with_options(api_key=key)
        return self._keyed[1]

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    def _body(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self._model.model,
            **openai_tools(request, self._model),
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_completion_tokens" if self._model.provider == "openai" else "max_tokens": sampling.max_tokens,
            "stop": list(sampling.stop) or None,
            "seed": sampling.seed,
            **({"logprobs": True, "top_logprobs": _LIKELIEST} if request.logprobs and self._model.logprobs else {}),
        }
        return {name: value for name, value in body.items() if value is not None and name not in self._model.lacks}


def _piece(chunk: Any) -> Piece:
    """Return what is in a chunk, as far as there is anything: servers differ in what they leave out."""
    text, refusal, is_content, finish = "", "", False, None
    calls: tuple[CallPiece, ...] = ()
    tokens: tuple[TokenChoices, ...] = ()
    choices = _of(chunk, "choices")
    for choice in choices[:1] if isinstance(choices, list) else ():
        delta = _of(choice, "delta")
        text = str(_of(delta, "content") or "")
        parts = _of(delta, "tool_calls")
        calls = tuple(map(_call_piece, parts[:_MOST_PARTS])) if isinstance(parts, list) else ()
        parts = _of(_of(choice, "logprobs"), "content")
        tokens = tuple(map(_token, parts[:_MOST_PARTS])) if isinstance(parts, list) else ()
        is_content = bool(text or calls or _of(delta, "reasoning_content") or _of(delta, "reasoning"))
        refusal = str(_of(delta, "refusal") or "")
        reason = _of(choice, "finish_reason")
        if reason and str(reason).lower().partition(":")[0] in _WITHHELD:
            raise ProviderRefuses("the provider's content filter withheld the answer")
        finish = _FINISH.get(str(reason), "stop") if reason else None
    usage = _of(chunk, "usage")
    model, fingerprint = _of(chunk, "model"), _of(chunk, "system_fingerprint")
    return Piece(
        text=text,
        refusal=refusal,
        calls=calls,
        tokens=tokens,
        is_content=is_content,
        finish=finish,
        prompt_tokens=count_or_none(_of(usage, "prompt_tokens")),
        completion_tokens=count_or_none(_of(usage, "completion_tokens")),
        cached_tokens=count_or_none(_of(_of(usage, "prompt_tokens_details"), "cached_tokens")),
        reasoning_tokens=count_or_none(_of(_of(usage, "completion_tokens_details"), "reasoning_tokens")),
        model=model if isinstance(model, str) else None,
        fingerprint=fingerprint if isinstance(fingerprint, str) else None,
    )


def _call_piece(part: Any) -> CallPiece:
    function, index = _of(part, "function"), _of(part, "index")
    return CallPiece(
        index=index if isinstance(index, int) else 0,
        id=str(_of(part, "id") or ""),
        name=str(_of(function, "name") or ""),
        arguments=str(_of(function, "arguments") or ""),
    )


def _token(part: Any) -> TokenChoices:
    others = _of(part, "top_logprobs")
    likely = {
        str(_of(item, "token"))[:_LONGEST_TOKEN]: math.exp(min(0.0, logprob))
        for item in (*(others[:_LIKELIEST] if isinstance(others, list) else ()), part)
        if isinstance(logprob := _of(item, "logprob"), int | float)
    }
    return TokenChoices(str(_of(part, "token"))[:_LONGEST_TOKEN], likely)


def _of(value: Any, name: str) -> Any:
    """Return a field of a JSON object; None for all that is no object, or has no such field."""
    return value.get(name) if isinstance(value, dict) else None


def _load(card: ModelCard, _folder: Path, options: LoadOptions) -> RemoteGenerator:
    assert card.remote is not None  # noqa: S101 - a card of this engine comes from the catalogue
    try:
        provider = OpenAIProvider(card.remote)
    except ImportError as error:
        raise missing_client("openai", card.alias) from error
    return RemoteGenerator.load(card, provider, options)


ENGINE: Final[Engine[RemoteGenerator, None]] = Engine(
    name="openai",
    kind="generator",
    load=_load,
    remote=True,
    client="openai",
    lacks=frozenset({"top_k", "repetition_penalty"}),
)

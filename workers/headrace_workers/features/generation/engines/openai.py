"""Models behind an OpenAI-compatible endpoint: OpenAI itself, Gemini, vLLM, Ollama, llama-server, or another gateway of
headrace.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

from headrace_schemas.errors import ConfigurationError
from headrace_schemas.events import FinishReason
from headrace_workers.core.ports import Request
from headrace_workers.features.generation.engines.engine import Engine, LoadOptions
from headrace_workers.features.generation.engines.remote.calls import CallPiece, Piece, count_or_none
from headrace_workers.features.generation.engines.remote.failure_statuses import failure_in_stream, failure_of_status
from headrace_workers.features.generation.engines.remote.failures import AnswerLost, ProviderRefuses
from headrace_workers.features.generation.engines.remote.generator import RemoteGenerator
from headrace_workers.features.generation.engines.remote.http_client import failed_connection, http_client
from headrace_workers.features.generation.engines.remote.native_format import openai_body
from headrace_workers.features.generation.engines.remote.native_tools import call_format, openai_tools
from headrace_workers.features.generation.models.catalogue import RemoteModel
from headrace_workers.features.generation.models.registry import ModelCard

_FINISH: Final[dict[str, FinishReason]] = {"stop": "stop", "length": "length", "tool_calls": "tool_calls"}
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

    async def stream(self, request: Request) -> AsyncIterator[Piece]:
        """Ask for a chat completion, and yield its pieces as they come."""
        try:
            chunks = await self._begin(
                self._body(request), openai_body(request.output or call_format(request, self._model), self._model)
            )
            async with aclosing(chunks.__aiter__()) as found:
                async for chunk in found:
                    yield _piece(chunk)
        except self._openai.APIStatusError as error:
            raise failure_of_status(error.status_code, error.response.headers, error.body) from None
        except self._openai.APIConnectionError as error:
            raise failed_connection(error, self._model.endpoint) from None
        except self._openai.APIError as error:  # in the stream, behind the status 200
            raise failure_in_stream(self._model.endpoint, error.body or {"message": str(error)}) from None
        except ValueError as error:  # of the client's parser
            raise AnswerLost(f"{self._model.endpoint} sent a chunk that is not valid JSON") from error

    async def _begin(self, body: dict[str, Any], output: dict[str, Any]) -> Any:
        """Begin a call. A provider that cannot use the format is asked without it: the prompt names it, too."""
        key = self._model.api_key.read() if self._model.api_key else _NO_KEY  # each time: keys are exchanged
        create = self._client.with_options(api_key=key).chat.completions.create
        try:
            return await create(**body, **output)
        except (self._openai.BadRequestError, self._openai.UnprocessableEntityError):
            if not output:
                raise
            return await create(**body)

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
        }
        return {name: value for name, value in body.items() if value is not None and name not in self._model.lacks}


def _piece(chunk: Any) -> Piece:
    """Return what is in a chunk, as far as there is anything: servers differ in what they leave out."""
    text, is_content, finish = "", False, None
    calls: tuple[CallPiece, ...] = ()
    for choice in (getattr(chunk, "choices", None) or ())[:1]:
        delta = choice.delta
        text = str(getattr(delta, "content", None) or "")
        thought = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
        calls = tuple(_call_piece(each) for each in getattr(delta, "tool_calls", None) or ())
        is_content = bool(text or thought or calls)
        if refusal := getattr(delta, "refusal", None):
            raise ProviderRefuses(f"the provider refused to answer: {str(refusal)[:200]}")
        if choice.finish_reason == "content_filter":
            raise ProviderRefuses("the provider's content filter withheld the answer")
        finish = _FINISH.get(choice.finish_reason, "stop") if choice.finish_reason else None
    usage = getattr(chunk, "usage", None)
    read, written = getattr(usage, "prompt_tokens_details", None), getattr(usage, "completion_tokens_details", None)
    model, fingerprint = getattr(chunk, "model", None), getattr(chunk, "system_fingerprint", None)
    return Piece(
        text=text,
        calls=calls,
        is_content=is_content,
        finish=finish,
        prompt_tokens=count_or_none(getattr(usage, "prompt_tokens", None)),
        completion_tokens=count_or_none(getattr(usage, "completion_tokens", None)),
        cached_tokens=count_or_none(getattr(read, "cached_tokens", None)),
        reasoning_tokens=count_or_none(getattr(written, "reasoning_tokens", None)),
        model=model if isinstance(model, str) else None,
        fingerprint=str(fingerprint)[:256] if fingerprint else None,
    )


def _call_piece(part: Any) -> CallPiece:
    function = getattr(part, "function", None)
    index = getattr(part, "index", None)
    return CallPiece(
        index=index if isinstance(index, int) else 0,
        id=str(getattr(part, "id", None) or ""),
        name=str(getattr(function, "name", None) or ""),
        arguments=str(getattr(function, "arguments", None) or ""),
    )


def _load(card: ModelCard, _folder: Path, options: LoadOptions) -> RemoteGenerator:
    assert card.remote is not None  # noqa: S101 - a card of this engine comes from the catalogue
    try:
        provider = OpenAIProvider(card.remote)
    except ImportError as error:
        raise ConfigurationError(f"{card.alias} needs the openai client: pip install 'headrace[openai]'") from error
    return RemoteGenerator.load(card, provider, options)


ENGINE: Final[Engine[RemoteGenerator, None]] = Engine(
    name="openai",
    kind="generator",
    load=_load,
    remote=True,
    lacks=frozenset({"top_k", "repetition_penalty"}),
)

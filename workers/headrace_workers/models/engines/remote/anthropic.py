"""Models behind Anthropic's messages API."""

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
from headrace_workers.models.engines.remote.request_bodies import (
    anthropic_body,
    anthropic_tools,
    native_format,
)
from headrace_workers.models.generator import Request
from headrace_workers.models.registry import ModelCard

_FINISH: Final[dict[str, FinishReason]] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}
_NO_KEY: Final = "none"  # the client wants one; a server of yours takes any


class AnthropicProvider:
    """A client of Anthropic's messages API. Its own retries are off: the ledger is the only retry loop."""

    def __init__(self, model: RemoteModel) -> None:
        import anthropic

        self._anthropic = anthropic
        self._model = model
        self._client = anthropic.AsyncAnthropic(
            api_key=_NO_KEY, base_url=model.endpoint, max_retries=0, http_client=http_client(model)
        )

    async def begin(self, request: Request, key: str | None) -> AsyncGenerator[Any, None]:
        """Ask for a message with this key, and return its events."""
        create, body = self._client.with_options(api_key=key or _NO_KEY).messages.create, self._body(request)

        async def post(output: dict[str, Any]) -> Any:
            return await create(**body, **output)

        output = anthropic_body(native_format(request, self._model), self._model)
        events = await sent(post, output, self._anthropic.APIConnectionError)
        return aiter(events)

    def piece(self, event: Any) -> Piece | None:
        """Return the piece in an event; None where it says nothing of the answer."""
        return _piece(event)

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    def _body(self, request: Request) -> dict[str, Any]:
        """Return the parameters of a call."""
        body: dict[str, Any] = {
            "model": self._model.model,
            **anthropic_tools(request, self._model),
            "max_tokens": request.sampling.max_tokens,
            "stream": True,
        }
        if request.sampling.stop and "stop" not in self._model.lacks:
            body["stop_sequences"] = list(request.sampling.stop)
        return body


def _piece(event: Any) -> Piece | None:
    """Return the piece in an event; None where it says nothing of the answer."""
    match getattr(event, "type", None):
        case "message_start":
            return _usage(event.message.usage, model=event.message.model)
        case "content_block_start" if getattr(event.content_block, "type", None) == "tool_use":
            block = event.content_block
            return Piece(calls=(CallPiece(index=event.index, id=str(block.id), name=str(block.name)),), is_content=True)
        case "content_block_delta":
            text = getattr(event.delta, "text", None) or ""
            part = str(getattr(event.delta, "partial_json", None) or "")
            calls = (CallPiece(index=event.index, arguments=part),) if part else ()
            said = bool(text or part or getattr(event.delta, "thinking", None))
            return Piece(text=str(text), calls=calls, is_content=said)
        case "message_delta":
            reason = event.delta.stop_reason
            if reason == "refusal":
                raise ProviderRefuses("the provider refused to answer")
            return _usage(event.usage, finish=_FINISH.get(reason, "stop") if reason else None)
    return None


def _usage(usage: Any, *, model: object = None, finish: FinishReason | None = None) -> Piece:
    """Return the counts of an event. Tokens that were cached are prompt tokens, too."""
    uncached = count_or_none(getattr(usage, "input_tokens", None))
    cached = count_or_none(getattr(usage, "cache_read_input_tokens", None))
    written = count_or_none(getattr(usage, "cache_creation_input_tokens", None))
    return Piece(
        finish=finish,
        prompt_tokens=None if uncached is None else uncached + (cached or 0) + (written or 0),
        completion_tokens=count_or_none(getattr(usage, "output_tokens", None)),
        cached_tokens=cached,
        reasoning_tokens=count_or_none(getattr(getattr(usage, "output_tokens_details", None), "thinking_tokens", None)),
        model=model if isinstance(model, str) else None,
    )


def _load(card: ModelCard, _folder: Path, options: LoadOptions) -> RemoteGenerator:
    assert card.remote is not None  # noqa: S101 - a card of this engine comes from the catalogue
    try:
        provider = AnthropicProvider(card.remote)
    except ImportError as error:
        raise missing_client("anthropic", card.alias) from error
    return RemoteGenerator.load(card, provider, options)


ENGINE: Final[Engine[RemoteGenerator, None]] = Engine(
    name="anthropic",
    kind="generator",
    load=_load,
    remote=True,
    client="anthropic",
    lacks=frozenset({"temperature", "top_p", "top_k", "seed", "repetition_penalty"}),
)

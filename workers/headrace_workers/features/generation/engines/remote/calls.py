"""Calls of a provider: each is streamed, under limits of its own, on one event loop a process.

A stream tells a slow provider from one that hangs: what counts is content, and never a ping that keeps the connection
open.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from headrace_schemas import HeadraceError
from headrace_schemas.events import FinishReason
from headrace_schemas.limits import MAX_TEXT
from headrace_schemas.tool import ToolCall
from headrace_workers.core.ports import Completion, GivenUp, RemoteSource, Request
from headrace_workers.features.generation.engines.remote.failures import AnswerLost, CutByDeadline
from headrace_workers.features.generation.models.catalogue import RemoteModel

T = TypeVar("T")

_FAIR_SECONDS: Final = 5.0  # without content, after which the model is to blame, and not the deadline of its job
_LOOK_EVERY: Final = 0.25  # seconds between two questions whether the answer is still wanted


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A piece of a call of a tool. `index` and `id` say of which; a piece without an `id` goes on with the last."""

    index: int = 0
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a streamed answer: some of its text or its calls, a sign that the model thinks, or what is known of
    the whole.
    """

    text: str = ""
    calls: tuple[CallPiece, ...] = ()
    is_content: bool = False
    finish: FinishReason | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    model: str | None = None
    fingerprint: str | None = None


def count_or_none(value: object) -> int | None:
    """Return a count of tokens as a provider sent it; None for anything else."""
    return value if type(value) is int and 0 <= value < 10**12 else None


class Provider(Protocol):
    """A client of a provider. `stream` raises the failures of `failures.py`."""

    def stream(self, request: Request) -> AsyncIterator[Piece]:
        """Ask for an answer, and yield its pieces as they come."""

    async def close(self) -> None:
        """Close its connections."""


class CallLoop:
    """An event loop in a thread of its own, which many threads give their calls to."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def begin(self, call: Coroutine[Any, Any, T]) -> "Future[T]":
        """Begin a call, and return what will hold its result."""
        return asyncio.run_coroutine_threadsafe(call, self._loop)


async def answer(provider: Provider, limits: RemoteModel, request: Request, alias: str) -> Completion | HeadraceError:
    """Return the whole answer, or the reason why there is none. Raise what is a defect of ours."""
    pieces: list[Piece] = []
    longest = limits.total if request.at_most is None else min(limits.total, request.at_most)
    try:
        async with asyncio.timeout(longest) as total, asyncio.timeout(limits.first_token) as quiet:
            reading = asyncio.ensure_future(_read(provider, limits, request, pieces, quiet))
            try:
                await _while_wanted(reading, request.given_up)
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
    except TimeoutError:
        began = any(each.is_content for each in pieces)
        if total.expired() and longest < limits.total:
            had_time = not began and longest >= min(_FAIR_SECONDS, limits.first_token)
            lost = AnswerLost if had_time else CutByDeadline
            return lost(f"{alias}: its answer took longer than {longest:.3g} s, its share of the deadline")
        return AnswerLost(_too_late(alias, limits, began=began, whole=total.expired()))
    except HeadraceError as error:
        return error
    return _completion(pieces, limits, alias)


async def _read(
    provider: Provider, limits: RemoteModel, request: Request, pieces: list[Piece], quiet: asyncio.Timeout
) -> None:
    length = 0
    async for piece in provider.stream(request):
        pieces.append(piece)
        length += len(piece.text) + sum(len(each.name) + len(each.arguments) for each in piece.calls)
        if piece.is_content:
            quiet.reschedule(asyncio.get_running_loop().time() + limits.idle)
        if length > MAX_TEXT:  # the rest would be cut off anyway
            pieces.append(Piece(finish="length"))
            return


async def _while_wanted(reading: "asyncio.Future[None]", given_up: Callable[[], bool]) -> None:
    while not reading.done():
        await asyncio.wait([reading], timeout=_LOOK_EVERY)
        if not reading.done() and given_up():
            raise GivenUp
    reading.result()


def _too_late(alias: str, limits: RemoteModel, *, began: bool, whole: bool) -> str:
    if whole:
        return f"{alias}: its answer took longer than {limits.total:g} s (`total` in models.toml)"
    if began:
        return f"{alias}: its answer stopped for longer than {limits.idle:g} s (`idle` in models.toml)"
    return f"{alias}: no answer began within {limits.first_token:g} s (`first_token` in models.toml)"


def _completion(pieces: Sequence[Piece], limits: RemoteModel, alias: str) -> Completion | HeadraceError:
    finish = _last(pieces, "finish")
    if not pieces:
        return AnswerLost(f"{alias}: it sent no part of an answer; is `url` in models.toml the address of its API?")
    if finish is None:
        return AnswerLost(f"{alias}: its answer was cut off before its end")
    fingerprint = _last(pieces, "fingerprint")
    prompt, completion = _last(pieces, "prompt_tokens"), _last(pieces, "completion_tokens")
    return Completion(
        _joined(each.text for each in pieces),
        finish,
        max(0, prompt or 0),
        max(0, completion or 0),
        RemoteSource(
            provider=limits.provider,
            model=_name(_last(pieces, "model") or limits.model),
            fingerprint=_name(fingerprint) if fingerprint else None,
            cached_tokens=_last(pieces, "cached_tokens"),
            reasoning_tokens=_last(pieces, "reasoning_tokens"),
            has_usage=prompt is not None and completion is not None,
        ),
        tool_calls=_first_call(pieces),
    )


def _first_call(pieces: Sequence[Piece]) -> tuple[ToolCall, ...]:
    """Return the first call of an answer as the provider sent it: nothing in it is checked. An answer has one."""
    parts = [part for each in pieces for part in each.calls]
    if not parts:
        return ()
    first, ended = parts[0], False
    name, arguments = "", list[str]()
    for part in parts:
        if part.index != first.index:
            continue
        ended = ended or bool(part.id and part.id != first.id)  # some servers give each call the same index
        if not ended:
            name = name or part.name
            arguments.append(part.arguments)
    return (ToolCall.model_construct(id=first.id, name=name, arguments=_joined(arguments)),)


def _name(text: str) -> str:
    """Return a name as events carry it: without NUL, and cut."""
    return _joined([text.replace("\x00", "\ufffd")[:256]])


def _joined(parts: Iterable[str]) -> str:
    """Return the parts as one text of whole characters. JSON may split an emoji into two surrogates, and a stream may
    send each in a part of its own: these are joined, and one without the other is replaced.
    """
    return "".join(parts).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _last(pieces: Sequence[Piece], name: str) -> Any:
    return next((value for each in reversed(pieces) if (value := getattr(each, name)) is not None), None)

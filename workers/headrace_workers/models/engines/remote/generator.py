"""A model on another machine: its calls, each streamed and under limits of its own, on one event loop a process.

A stream tells a slow provider from one that hangs: what counts is content, and never a ping that keeps the connection
open. A provider may be broken or hostile: here its answers and errors are checked, cleaned, and freed of the key that
the call was sent with.
"""

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, Self, TypeVar

from headrace_schemas import HeadraceError
from headrace_schemas.events import FinishReason
from headrace_schemas.limits import MAX_TEXT
from headrace_schemas.tool import MAX_CALLS, ToolCall
from headrace_workers.core.ledger.outcome import ProviderBusy
from headrace_workers.core.pipeline.task import pieces
from headrace_workers.core.redis import HINT_SECONDS, RedisNames, redis_client
from headrace_workers.models.catalogue import RemoteModel
from headrace_workers.models.engines.engine import LoadOptions
from headrace_workers.models.engines.remote.failures import (
    AnswerLost,
    CutByDeadline,
    ProviderRefuses,
    failure_in_stream,
)
from headrace_workers.models.engines.remote.masking import masked, without_addresses
from headrace_workers.models.engines.remote.rates import CallRates, key_of
from headrace_workers.models.generator import (
    Completion,
    GivenUp,
    LabelRequest,
    LabelScores,
    NoProbabilities,
    NotAsked,
    RemoteSource,
    Request,
    TokenChoices,
)
from headrace_workers.models.registry import ModelCard
from headrace_workers.models.structured.tools import as_json, described
from headrace_workers.models.token_bounds import tokens_at_most

T = TypeVar("T")

FAIR_SECONDS: Final = 5.0  # without content, after which the model is to blame, and not the deadline of its job
_LOOK_EVERY: Final = 0.25  # seconds between two questions whether the answer is still wanted
REFUSAL_SECONDS: Final = 5.0  # for the rest of a refusal, which is one already
_END_SECONDS: Final = 5.0
_LONGEST_REFUSAL: Final = 4_000  # characters that are read of one: more than an error shows
_LONGEST_WORDS: Final = 400  # characters of an error
_LONGEST_NAME: Final = 256
_MOST_TOKENS: Final = 4_096  # whose probabilities are kept

_PATIENCE: Final = 1.0  # seconds that a call waits here for its turn; then its job waits in the ledger


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
    refusal: str = ""  # in its own words, why the provider does not answer
    calls: tuple[CallPiece, ...] = ()
    tokens: tuple[TokenChoices, ...] = ()
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
    """A client of a provider."""

    async def begin(self, request: Request, key: str | None) -> AsyncGenerator[Any, None]:
        """Send a request with this key, and return the events of its answer. Raise the failures of `failures.py`."""

    def piece(self, event: Any) -> Piece | None:
        """Return the piece in an event; None where the event says nothing of the answer. Raise ProviderRefuses for a
        refusal without words, and any other exception for an event that is malformed.
        """

    async def close(self) -> None:
        """Close its connections."""


class CallLoop:
    """An event loop in a thread of its own, which many threads give their calls to."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def end(self, last: Coroutine[Any, Any, object]) -> None:
        """Run a last call, close what earlier ones left open, and end the thread. Returns at once: see `join`."""
        asyncio.run_coroutine_threadsafe(self._wind_up(last), self._loop)

    def join(self) -> None:
        """Wait until the thread has ended, for some seconds at most."""
        self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    async def _wind_up(self, last: Coroutine[Any, Any, object]) -> None:
        try:
            async with asyncio.timeout(_END_SECONDS):
                await last
                await self._loop.shutdown_asyncgens()  # streams that were not read to their end
                await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)
        finally:
            self._loop.stop()

    def begin(self, call: Coroutine[Any, Any, T]) -> "Future[T]":
        """Begin a call, and return what will hold its result."""
        return asyncio.run_coroutine_threadsafe(call, self._loop)


async def answer(
    provider: Provider, limits: RemoteModel, request: Request, alias: str, most_tokens: int
) -> Completion | HeadraceError:
    """Return the whole answer, or the reason why there is none. Raise what is a defect of ours. A count of more than
    `most_tokens`, which the call may read and write, is not believed.
    """
    heard, key = _Heard(), None
    longest = limits.total if request.at_most is None else min(limits.total, request.at_most)
    try:
        key = limits.api_key.read() if limits.api_key else None  # each time: keys are exchanged
        async with asyncio.timeout(longest) as total, asyncio.timeout(limits.first_token) as quiet:
            reading = asyncio.ensure_future(_read(provider, limits, request, key, heard, quiet))
            try:
                await _while_wanted(reading, request.given_up)
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
    except TimeoutError:
        if heard.refusal:
            return _shown(heard.refused(), key, limits.endpoint)
        began = heard.has_content
        if total.expired() and longest < limits.total:
            had_time = not began and longest >= min(FAIR_SECONDS, limits.first_token)
            lost = AnswerLost if had_time else CutByDeadline
            return lost(f"{alias}: its answer took longer than {longest:.3g} s, its share of the deadline")
        return AnswerLost(_too_late(alias, limits, began=began, whole=total.expired()))
    except HeadraceError as error:
        return _shown(error, key, limits.endpoint)
    return heard.completion(limits, alias, key, most_tokens)


def _shown(error: HeadraceError, key: str | None, endpoint: str) -> HeadraceError:
    """Return an error whose words its tenant may read."""
    words = _cleaned([" ".join(str(error).split())], key)[: 2 * _LONGEST_REFUSAL]
    error.args = (without_addresses(words, endpoint)[:_LONGEST_WORDS],)
    return error


async def _read(
    provider: Provider, limits: RemoteModel, request: Request, key: str | None, heard: "_Heard", quiet: asyncio.Timeout
) -> None:
    async with aclosing(await provider.begin(request, key)) as events:
        while heard.length <= MAX_TEXT:
            try:
                piece = provider.piece(await anext(events))
                if piece is not None and piece.refusal:
                    heard.refusal.append(piece.refusal)
                    await _read_refusal(provider, heard.refusal, events)
                    raise heard.refused()
            except StopAsyncIteration:
                return
            except HeadraceError:
                raise
            except Exception as error:
                raise failure_in_stream(error, began=heard.began) from None
            if piece is not None:
                heard.add(piece)
                if piece.is_content:
                    quiet.reschedule(asyncio.get_running_loop().time() + limits.idle)
    heard.add(Piece(finish="length"))  # the rest would be cut off anyway


async def _read_refusal(provider: Provider, parts: list[str], events: AsyncGenerator[Any, None]) -> None:
    """Add the rest of a refusal to its parts. Its end may be missing: it is a refusal all the same."""
    length = sum(map(len, parts))
    with suppress(Exception):
        async with asyncio.timeout(REFUSAL_SECONDS):
            async for event in events:
                if (piece := provider.piece(event)) is not None:
                    parts.append(piece.refusal)
                    length += len(piece.refusal)
                if length > _LONGEST_REFUSAL:
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


@dataclass(slots=True)
class _Call:
    """A call of a tool, as far as it has come."""

    index: int
    id: str
    name: str = ""
    arguments: list[str] = field(default_factory=list)


class _Heard:
    """The parts of an answer that came so far. It keeps no more than what it tells, however many pieces come."""

    def __init__(self) -> None:
        self.began = self.has_content = False
        self.length = 0  # characters of text and calls
        self.refusal: list[str] = []
        self._texts: list[str] = []
        self._tokens: list[TokenChoices] = []
        self._calls: list[_Call] = []  # one more than an answer may have, at most
        self._finish: FinishReason | None = None
        self._known: dict[str, Any] = {}
        self._written: int | None = None

    def add(self, piece: Piece) -> None:
        """Add the next piece."""
        self.began = True
        self.has_content = self.has_content or piece.is_content
        self.length += len(piece.text) + sum(len(call.name) + len(call.arguments) for call in piece.calls)
        if piece.text:
            self._texts.append(piece.text)
        self._tokens += piece.tokens[: _MOST_TOKENS - len(self._tokens)]
        for part in piece.calls:
            self._add_call(part)
        self._finish = piece.finish or self._finish
        if self._finish is not None and piece.completion_tokens is not None:
            self._written = piece.completion_tokens  # a count before the end is not of the whole
        for name in ("prompt_tokens", "cached_tokens", "reasoning_tokens", "model", "fingerprint"):
            if (value := getattr(piece, name)) is not None:
                self._known[name] = value

    def _add_call(self, part: CallPiece) -> None:
        """Add to a call, as the provider sent it: nothing in it is checked."""
        call = next((call for call in reversed(self._calls) if call.index == part.index), None)
        if call is None or (part.id and part.id != call.id):  # some servers give each call the same index
            if len(self._calls) > MAX_CALLS:
                return
            call = _Call(part.index, part.id)
            self._calls.append(call)
        call.name = call.name or part.name
        call.arguments.append(part.arguments)

    def refused(self) -> ProviderRefuses:
        """Return the refusal that the provider sent in place of an answer."""
        words = "the provider refused to answer"
        refuses = ProviderRefuses(f"{words}: {''.join(self.refusal)[:_LONGEST_REFUSAL]}")
        refuses.shared = words
        return refuses

    def completion(self, limits: RemoteModel, alias: str, key: str | None, most_tokens: int) -> Completion | AnswerLost:
        """Return the answer, if it came to its end."""
        if not self.began:
            return AnswerLost(f"{alias}: it sent no part of an answer; is `url` in models.toml the address of its API?")
        if self._finish is None:
            return AnswerLost(f"{alias}: its answer was cut off before its end")
        read, written = self._known.get("prompt_tokens"), self._written
        counted = None if read is None or written is None else read + written
        if counted is None or counted > most_tokens:
            read, written = 0, 0
        model, fingerprint = self._known.get("model"), self._known.get("fingerprint")
        source = RemoteSource(
            provider=limits.provider,
            model=_cleaned([model or limits.model], key)[:_LONGEST_NAME],
            fingerprint=_cleaned([fingerprint], key)[:_LONGEST_NAME] if fingerprint else None,
            cached_tokens=_part_of(read, self._known.get("cached_tokens")),
            reasoning_tokens=_part_of(written, self._known.get("reasoning_tokens")),
            has_usage=counted is not None and counted <= most_tokens,
            disbelieved=counted if counted is not None and counted > most_tokens else None,
        )
        text = _cleaned(self._texts, key)
        calls, tokens = self._tool_calls(key), tuple(self._tokens)
        return Completion(text, self._finish, read or 0, written or 0, source, tool_calls=calls, tokens=tokens)

    def _tool_calls(self, key: str | None) -> tuple[ToolCall, ...]:
        return tuple(
            ToolCall.model_construct(
                id=_cleaned([call.id], key),
                name=_cleaned([call.name], key),
                arguments=_cleaned(call.arguments, key),
            )
            for call in self._calls
        )


def _part_of(whole: int | None, part: int | None) -> int | None:
    """Return a count of some of these tokens; None if it is more than all."""
    return None if part is None or whole is None or part > whole else part


def _cleaned(parts: Iterable[str], key: str | None) -> str:
    """Return the parts as one text of whole characters, without NUL and without the key, which may be split over parts
    as well.
    """
    return masked(_whole(parts), key)


def _whole(parts: Iterable[str]) -> str:
    """Return the parts as one text of whole characters, without NUL.

    JSON may split an emoji into two surrogates, and a stream may send each in a part of its own: these are joined, and
    one without the other is replaced.
    """
    return "".join(parts).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").replace("\x00", "\ufffd")


class RemoteGenerator:
    """A generator that asks a provider. Thread-safe: all calls share one client and one event loop."""

    def __init__(
        self, card: ModelCard, provider: Provider, rates: CallRates, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        assert card.remote is not None  # noqa: S101 - its engine is remote
        self._card = card
        self._limits: RemoteModel = card.remote
        self._provider = provider
        self._rates = rates
        self._sleep = sleep
        self._calls = CallLoop(f"calls of {card.alias}")
        # An entry that changed has another generator: this one goes when its last call has ended.
        self._end = weakref.finalize(self, _close, self._calls, provider)
        self._end.atexit = False

    @classmethod
    def load(cls, card: ModelCard, provider: Provider, options: LoadOptions) -> Self:
        """Return the generator of a card. Raise ConfigurationError if its key is missing: now, not at the first job."""
        assert card.remote is not None  # noqa: S101 - its engine is remote
        if card.remote.api_key:
            card.remote.api_key.read()
        client = redis_client(options.redis, HINT_SECONDS) if options.redis else None
        name = RedisNames(options.prefix).calls(key_of(card.remote))
        return cls(card, provider, CallRates(card.remote, client, name))

    def close(self) -> None:
        """Close its connections, and wait for it."""
        self._end()
        self._calls.join()

    @property
    def alias(self) -> str:
        """Return the name that jobs ask for it by."""
        return self._card.alias

    @property
    def provider(self) -> str:
        """Return whose machine answers."""
        return self._limits.provider

    @property
    def quantization(self) -> str:
        """Return `remote`: its provider does not say."""
        return self._card.quantization

    @property
    def context_length(self) -> int:
        """Return how many tokens prompt and answer may have together."""
        return self._card.context_length

    @property
    def parallel(self) -> int:
        """Return 1: its calls wait in threads of their own, and take no slot."""
        return 1

    @property
    def urgent(self) -> "RemoteGenerator":
        """Return the same: no call waits for another."""
        return self

    def generate(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
        """Answer all side by side; the i-th item belongs to the i-th request. ProviderBusy says when to come back."""
        begun = [self._begin(request) for request in requests]
        return [completion() for completion in begun]

    def label_probabilities(self, requests: Sequence[LabelRequest]) -> list[LabelScores | HeadraceError]:
        """Raise NoProbabilities: providers do not give probabilities of all tokens."""
        raise NoProbabilities(f"{self.alias} answers on another machine, and gives no probabilities of tokens")

    def _begin(self, request: Request) -> Callable[[], Completion | HeadraceError]:
        """Begin a call if the rates of its key allow it, and return what waits for its answer."""
        tokens = sum(map(pieces, _texts(request))) + request.sampling.max_tokens
        if (busy := self._take(tokens, request)) is not None:
            return lambda: busy
        tools, longest = request.offer.tools, request.sampling.max_tokens
        most = tokens_at_most(request.messages, request.output, tools, longest)
        call = self._calls.begin(answer(self._provider, self._limits, request, self.alias, most))
        return lambda: self._settled(call.result(), tokens, patient=request.patient)

    def _take(self, tokens: int, request: Request) -> NotAsked | None:
        """Take the right to make a call; else return when to come back.

        A worker that put jobs back at once would look through its whole queue while its key is slowed down. A job that
        another model may answer does not wait for a time that nobody named.
        """
        wait = self._rates.take(tokens)
        if wait <= 0:
            return None
        if not request.patient and self._rates.is_guess():
            return NotAsked(f"{self.alias}: its provider takes no calls for now", after=wait, is_sure=False)
        self._sleep(min(wait, _PATIENCE))
        if (barred := request.barred()) > 0:
            return NotAsked(f"{self.alias} was not asked: its breaker opened", after=barred, is_sure=False)
        wait = self._rates.take(tokens, in_line=True)
        return NotAsked(f"{self.alias} is at the limit of its provider's rate", after=wait) if wait > 0 else None

    def _settled(
        self, outcome: Completion | HeadraceError, tokens: int, *, patient: bool
    ) -> Completion | HeadraceError:
        """Return the outcome of a call, after its rates were corrected by what the provider said."""
        if isinstance(outcome, Completion):
            if outcome.remote is None or outcome.remote.has_usage:
                self._rates.give_back(tokens - outcome.prompt_tokens - outcome.completion_tokens)
        elif isinstance(outcome, ProviderBusy):
            self._rates.give_back(tokens)
            if outcome.after is None and not patient:  # another model answers; the breaker counts this one's failures
                return outcome
            left = self._rates.slow_down(outcome.after)
            after = self._rates.take(0, in_line=True) or left
            later = ProviderBusy(str(outcome), after=after, is_sure=outcome.is_sure)
            later.shared = outcome.shared
            return later
        return outcome


def _close(calls: CallLoop, provider: Provider) -> None:
    calls.end(provider.close())


def _texts(request: Request) -> Iterator[str]:
    """Yield what the provider reads of a request."""
    for message in request.messages:
        yield message.content
        yield from (call.arguments for call in message.tool_calls)
    yield from (as_json(described(tool)) for tool in request.offer.tools)

import asyncio
import json
import random
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from tests.services.provider import Behaviour, Provider, Reply, providing
from tests.services.tables import sqlite_tables
from tests.workers.core.ledger.budget_deployment import CENT, Deployment, Given, books, budget
from tests.workers.models.engines.remote_models import REMOTE_ENGINES, ask, catalogue, remote

from headrace_schemas import Category, HeadraceError
from headrace_schemas.errors import PromptTooLong
from headrace_schemas.tool import Tool
from headrace_workers.core.ledger.leases import Started
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import Outcome, ProviderBusy
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import STEPS
from headrace_workers.features.generation.stage import generate
from headrace_workers.models.catalogue import RemoteModel
from headrace_workers.models.engines.engine import LoadOptions
from headrace_workers.models.engines.load_generator import load_generator
from headrace_workers.models.engines.remote import http_client
from headrace_workers.models.engines.remote.failures import AnswerLost, ProviderRefuses, ProviderRejects
from headrace_workers.models.engines.remote.generator import CallLoop, Piece, answer
from headrace_workers.models.generator import Completion, Request

KEY = "sk-0123456789abcdef"
TEACHER = RemoteModel(model="teacher")
LOOK_UP = Tool(name="find", parameters={"type": "object", "properties": {"q": {"type": "string"}}})


class Saying:
    def __init__(self, *pieces: Piece | Exception) -> None:
        self.pieces = pieces

    async def begin(self, _request: Request, _key: str | None) -> AsyncGenerator[Any, None]:
        async def events() -> AsyncGenerator[Any, None]:
            for piece in self.pieces:
                if isinstance(piece, Exception):
                    raise piece
                yield piece

        return events()

    def piece(self, event: Any) -> Piece | None:
        assert isinstance(event, Piece)
        return event

    async def close(self) -> None:
        """Do nothing."""


HI = Piece(text="Hi.", is_content=True, finish="stop", prompt_tokens=3, completion_tokens=2)


def answered(*pieces: Piece | Exception, request: Request | None = None) -> Completion | HeadraceError:
    """Return what comes of a call whose provider says this, and which may have a hundred tokens."""
    return asyncio.run(answer(Saying(*pieces), TEACHER, request or ask("Hello"), "far", 100))


@pytest.fixture(params=REMOTE_ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine that asks a provider."""
    return str(request.param)


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("A_KEY", KEY)
    return KEY


def outcome_of(
    home: Path, engine: str, behave: Behaviour, request: Request | None = None, **entries: object
) -> Completion | HeadraceError:
    """Return the outcome of one call to a provider that behaves like this."""
    with providing(behave) as provider:
        return remote(home, engine, provider.url, **entries).generate([request or ask("hi there")])[0]


def breaks_off(reply: Reply, *texts: str) -> None:
    """Begin an answer of many bytes, say this, and close the connection."""
    reply.start(content_length="100000")
    for text in texts:
        reply.text(text)


def test_a_whole_answer_is_kept_though_nobody_wants_it() -> None:
    completion = answered(HI, request=ask("Hello", given_up=lambda: True))
    assert isinstance(completion, Completion)
    assert (completion.prompt_tokens, completion.completion_tokens) == (3, 2)


def test_only_the_last_count_of_an_answer_is_of_all_of_it(tmp_path: Path, engine: str) -> None:
    def counts_early(_provider: Provider, reply: Reply) -> None:
        reply.start(prompt_tokens=3)
        if not reply.heard.is_anthropic:
            reply.event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}})
        reply.text("Hello, this is longer")
        if reply.heard.is_anthropic:
            reply.event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, "message_delta")
        else:
            reply.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})

    outcome = outcome_of(tmp_path, engine, counts_early)
    assert isinstance(outcome, Completion), outcome
    assert outcome.remote is not None
    assert not outcome.remote.has_usage
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (0, 0)


def test_what_a_provider_bills_for_cut_streams_is_never_more_than_what_is_counted(tmp_path: Path) -> None:
    chance, billed = random.Random(7), 0

    def cuts(_provider: Provider, reply: Reply) -> None:
        nonlocal billed
        words, is_cut = chance.randint(1, 9), chance.random() < 0.6
        billed += 3 * 10 + words * 20
        if is_cut:
            breaks_off(reply, *["word "] * words)
            return
        reply.start()
        for _ in range(words):
            reply.text("word ")
        reply.end(read=3, written=words)

    ledger = Ledger.at(sqlite_tables(tmp_path / "ledger.db"))
    there = Deployment(ledger, Given(echo=CENT))
    new = [there.new() for _ in range(30)]
    most = sum(job.money for job in new)
    budget(ledger, most)
    ledger.ingest(new)
    with providing(cuts) as provider:
        catalogue(tmp_path / "home", "openai", provider.url, "echo")
        far = load_generator(tmp_path / "home", "echo", LoadOptions(prefix="test."))

        def asks(started: Started, task: Task) -> Outcome:
            return generate([task], generator=far)[0]

        while there.run("model.echo", asks) or ledger.reap(3).promoted:
            with writing(ledger.engine) as tx:
                tx.execute(update(STEPS).where(STEPS.c.state == "waiting").values(ready_at=1))
            spent, reserved = books(ledger)
            assert billed <= spent + reserved <= most
        there.to_the_end()
    spent, reserved = books(ledger)
    assert 0 < billed <= spent <= most
    assert reserved == 0
    ledger.close()


def test_a_count_above_the_most_that_a_call_may_have_is_no_report() -> None:
    completion = answered(replace(HI, completion_tokens=10**11))
    assert isinstance(completion, Completion)
    assert completion.remote is not None
    assert (completion.prompt_tokens, completion.completion_tokens, completion.remote.has_usage) == (0, 0, False)
    assert completion.remote.disbelieved == 10**11 + 3
    completion = answered(replace(HI, cached_tokens=10**11, reasoning_tokens=2))
    assert isinstance(completion, Completion)
    assert completion.remote is not None
    assert (completion.remote.has_usage, completion.remote.cached_tokens, completion.remote.reasoning_tokens) == (
        True,
        None,
        2,
    )


def test_probabilities_that_make_no_sense_cost_no_answer(tmp_path: Path) -> None:
    parts = [None, 7, {"token": 7, "logprob": "x", "top_logprobs": [None] * 9}, {"token": "x" * 999, "logprob": 10**9}]

    def lie(_provider: Provider, reply: Reply) -> None:
        reply.start()
        for _ in range(40):
            chunk = reply.chunk({"content": "Hi"})
            chunk["choices"][0]["logprobs"] = {"content": parts * 40}
            reply.event(chunk)
        reply.end()

    completion = outcome_of(tmp_path, "openai", lie)
    assert isinstance(completion, Completion), completion
    assert (completion.text, len(completion.tokens)) == ("Hi" * 40, 4096)
    assert max(len(token.text) for token in completion.tokens) == 100
    assert {likely for token in completion.tokens for likely in token.likely.values()} == {1.0}


def test_a_provider_shows_nobody_the_key_that_it_was_sent(tmp_path: Path, engine: str, key: str) -> None:
    def quotes(_provider: Provider, reply: Reply) -> None:
        reply.start()
        reply.text(f"It is {key[:9]}")
        reply.text(f"{key[9:]}.")
        reply.call(f"call_{key}", "find", '{"q": "', key[:5], f'{key[5:]}"}}')
        reply.end("tool_calls")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.services.provider.MODEL", f"teacher of {key}")
        outcome = outcome_of(tmp_path, engine, quotes, replace(ask("hi"), tools=(LOOK_UP,)), api_key="env:A_KEY")
    assert isinstance(outcome, Completion), outcome
    assert key not in repr(outcome)
    assert outcome.text == "It is [secret]."
    assert json.loads(outcome.tool_calls[0].arguments) == {"q": "[secret]"}
    assert outcome.remote is not None
    assert outcome.remote.model == "teacher of [secret]"


@pytest.mark.parametrize("before", [0, 290, 380], ids=lambda before: f"behind {before} letters")
def test_an_error_shows_nobody_the_key(tmp_path: Path, engine: str, key: str, before: int) -> None:
    words = f"{'x' * before} wrong key: {key}"

    def errs(_provider: Provider, reply: Reply) -> None:
        reply.start()
        reply.text("Hel")
        error = {"type": "api_error", "message": words}
        reply.event({"type": "error", "error": error}, "error" if reply.heard.is_anthropic else None)

    def refuses(_provider: Provider, reply: Reply) -> None:
        reply.start()
        reply.event({"choices": [{"index": 0, "delta": {"refusal": words}}]})

    behaviours: list[Behaviour] = [lambda _, reply: reply.status(400, {"error": {"message": words}}), errs]
    for behave in [*behaviours, *([refuses] if engine == "openai" else [])]:
        outcome = outcome_of(tmp_path, engine, behave, api_key="env:A_KEY")
        assert isinstance(outcome, ProviderRejects | AnswerLost | ProviderRefuses)
        assert key[:4] not in str(outcome)
        assert ("[secret]" in str(outcome)) == (before < 380)


def test_a_short_key_and_the_placeholder_are_words_like_others(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local server's key may be any word, and an answer must not lose it."""
    monkeypatch.setenv("A_KEY", "local")
    for entries in ({}, {"api_key": "env:A_KEY"}):
        with providing() as provider:
            (outcome,) = remote(tmp_path, engine, provider.url, **entries).generate([ask("none local")])
        assert isinstance(outcome, Completion)
        assert outcome.text == "none local"


def too_deep(_provider: Provider, reply: Reply) -> None:
    reply.start()
    name = b"event: content_block_delta\n" if reply.heard.is_anthropic else b""
    reply.raw(name + b'data: {"type": "content_block_delta", "choices": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n\n")


def without_fields(_provider: Provider, reply: Reply) -> None:
    """Send events without what they are about."""
    reply.start()
    for kind in ("message_start", "content_block_start", "content_block_delta", "message_delta"):
        reply.event({"type": kind}, kind)
    reply.end()


def no_text(_provider: Provider, reply: Reply) -> None:
    reply.start()
    name = b"event: message_delta\n" if reply.heard.is_anthropic else b""
    reply.raw(name + b'data: {"a": "\xff\xfe"}\n\n')


@pytest.mark.parametrize("behave", [too_deep, without_fields, no_text])
def test_an_answer_that_cannot_be_read_is_lost(tmp_path: Path, engine: str, behave: Behaviour) -> None:
    if behave is without_fields and engine == "openai":
        pytest.skip("its servers differ in what they leave out")
    outcome = outcome_of(tmp_path, engine, behave)
    assert type(outcome) is AnswerLost
    assert outcome.billed


def test_an_error_that_cannot_be_kept_as_it_came_keeps_its_category(tmp_path: Path, engine: str) -> None:
    """A ledger takes neither NUL nor half of a pair: a wrong request would be asked again, and paid for again."""
    body = {"error": {"message": "a\x00b \ud83d c"}}
    outcome = outcome_of(tmp_path, engine, lambda _, reply: reply.status(400, body))
    assert isinstance(outcome, ProviderRejects)
    assert "a\ufffdb \ufffd c" in str(outcome)


def test_a_defect_of_ours_is_no_failure_of_a_provider() -> None:
    """It is raised as what it is: it must not open a breaker."""

    class Broken(Saying):
        async def begin(self, _request: Request, _key: str | None) -> AsyncGenerator[Any, None]:
            raise TypeError("a defect")

    with pytest.raises(TypeError, match="a defect"):
        asyncio.run(answer(Broken(), TEACHER, ask("Hello"), "far", 100))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (413, {}),
        (400, {"code": "context_length_exceeded"}),
        (400, {"type": "exceed_context_size_error"}),
        (400, {"type": "invalid_request_error", "message": "prompt is too long: 205000 tokens > 200000 maximum"}),
    ],
)
def test_a_prompt_that_its_provider_finds_too_long_may_fit_another_model(
    tmp_path: Path, engine: str, status: int, error: dict[str, str]
) -> None:
    outcome = outcome_of(tmp_path, engine, lambda _, reply: reply.status(status, {"error": error}))
    assert type(outcome) is PromptTooLong
    assert not outcome.billed


def test_a_loop_that_ends_closes_what_its_calls_left_open() -> None:
    """Else Python tells each user of a command that a task was destroyed."""
    loop, kept, closed = CallLoop("calls"), list[AsyncGenerator[int, None]](), list[bool]()

    async def parts() -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    async def reads_one() -> None:
        kept.append(parts())
        await anext(kept[0])

    loop.begin(reads_one()).result()
    loop.end(asyncio.sleep(0))
    loop.join()
    assert closed == [True]


def floods_error(_provider: Provider, reply: Reply) -> None:
    reply.begin(400)
    for _ in range(20):
        reply.raw(b"x" * 1024 * 1024)


def drips_error(provider: Provider, reply: Reply) -> None:
    """Answer 400 with a body without end."""
    reply.begin(400)
    while not provider.over.wait(0.05):
        reply.raw(b"x")


def compresses_error(_provider: Provider, reply: Reply) -> None:
    """Answer 400 with a compressed body."""
    reply.begin(400, content_encoding="gzip")
    reply.raw(b"\x1f\x8b")


@pytest.mark.parametrize("behave", [floods_error, drips_error, compresses_error])
def test_the_status_of_an_error_holds_whatever_its_body_is(
    tmp_path: Path, engine: str, behave: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "ERROR_SECONDS", 0.5)
    outcome = outcome_of(tmp_path, engine, behave)
    assert isinstance(outcome, ProviderRejects)
    assert outcome.category is Category.PERMANENT
    assert str(outcome) == "the provider answered 400"


def test_a_busy_provider_stops_its_key_for_an_hour_at_most(tmp_path: Path, engine: str) -> None:
    """A mistake, or a day that it names, must not stop it for all tenants."""
    outcome = outcome_of(tmp_path, engine, lambda _, reply: reply.status(429, retry_after="86400"))
    assert isinstance(outcome, ProviderBusy)
    assert 3_500 < (outcome.after or 0) < 3_700

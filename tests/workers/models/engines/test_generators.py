"""The contract of generators: the same of every engine, ours and those that ask a provider."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.services.llama_server import llama_server
from tests.services.provider import Provider, Reply, echoes, providing
from tests.workers.models.engines.remote_models import REMOTE_ENGINES, ask, remote

from headrace_schemas import HeadraceError
from headrace_schemas.errors import PromptTooLong
from headrace_workers.models.engines.load_generator import load_generator
from headrace_workers.models.generator import Completion, Generator, GivenUp
from headrace_workers.testing import make_echo_model


class Served(NamedTuple):
    """A generator, and whether it repeats its prompt: then a test can say what it answers."""

    generator: Generator
    repeats: bool
    provider: Provider | None = None


@pytest.fixture(scope="module")
def llama(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of llama.cpp's server with SmolLM2."""
    pytest.importorskip("xllamacpp")
    with llama_server(request.getfixturevalue("smollm2_gguf")) as url:
        yield url


@pytest.fixture(params=["echo", "tiny", pytest.param("llama.cpp", marks=pytest.mark.slow), *REMOTE_ENGINES])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    if request.param == "echo":
        make_echo_model(tmp_path)
        yield Served(load_generator(tmp_path, "echo"), repeats=True)
    elif request.param == "tiny":
        yield Served(load_generator(request.getfixturevalue("tiny_home"), "tiny"), repeats=False)
    elif request.param == "llama.cpp":
        url = request.getfixturevalue("llama")
        yield Served(remote(tmp_path, "openai", url, first_token=300.0, idle=300.0, total=600.0), repeats=False)
    else:
        with providing(echoes) as provider:
            yield Served(remote(tmp_path, request.param, provider.url), True, provider)


@pytest.fixture
def repeating(served: Served) -> Served:
    if not served.repeats:
        pytest.skip("this model has words of its own")
    return served


def completed(outcome: Completion | HeadraceError) -> Completion:
    """Return an outcome that must be an answer."""
    assert isinstance(outcome, Completion), outcome
    return outcome


def test_answers_come_in_the_order_of_the_requests(repeating: Served) -> None:
    texts = [f"number {n} " + "word " * (n % 5) + "end" for n in range(12)]
    outcomes = repeating.generator.generate([ask(text) for text in texts])
    assert [completed(outcome).text for outcome in outcomes] == texts


def test_no_request_is_no_call(served: Served) -> None:
    assert served.generator.generate([]) == []
    assert served.provider is None or served.provider.heard == []


def test_a_limit_ends_the_answer_as_length(served: Served) -> None:
    outcome = completed(served.generator.generate([ask("one two three four five six", max_tokens=2)])[0])
    assert outcome.finish_reason == "length"
    assert outcome.completion_tokens <= 2


def test_a_stop_text_ends_the_answer_without_it(repeating: Served) -> None:
    outcome = completed(repeating.generator.generate([ask("one two three four", stop=["three", "zebra"])])[0])
    assert outcome.text.rstrip() == "one two"
    assert outcome.finish_reason == "stop"


def test_usage_counts_prompt_and_answer(served: Served) -> None:
    short, long = served.generator.generate([ask("one"), ask("one two three four five six seven")])
    assert 0 < completed(short).prompt_tokens < completed(long).prompt_tokens
    assert completed(long).completion_tokens > 0


def test_a_request_that_nobody_wants_is_given_up(served: Served) -> None:
    given_up, answered = served.generator.generate([ask("one", given_up=lambda: True), ask("two three")])
    assert isinstance(given_up, GivenUp | Completion)  # an answer may be quicker than the question
    completed(answered)


@pytest.mark.parametrize("text", ["Grüße, 東京 🏔️ — ok", "tab\there\nand\u2028there", 'quote " and \\ and {"a": 1}'])
def test_unicode_comes_back_whole(repeating: Served, text: str) -> None:
    expected = " ".join(text.split()) if repeating.provider is None else text
    assert completed(repeating.generator.generate([ask(text)])[0]).text == expected


def test_a_system_message_is_read(served: Served) -> None:
    without, with_it = served.generator.generate([ask("one two"), ask("one two", system="be very brief today")])
    completed(without)
    if served.repeats:
        assert completed(with_it).text == "one two"


def test_a_failed_request_leaves_its_neighbours_alone(tmp_path: Path, tiny_home: Path) -> None:
    model = load_generator(tiny_home, "tiny")
    first, second = model.generate([ask("word " * 5000), ask("hi")])
    assert isinstance(first, PromptTooLong)
    completed(second)


@pytest.mark.parametrize("engine", REMOTE_ENGINES)
class TestOfProviders:
    """Rules that concern only generators that ask a provider."""

    def test_a_failed_request_leaves_its_neighbours_alone(self, tmp_path: Path, engine: str) -> None:
        def fails_once(provider: Provider, reply: Reply) -> None:
            echoes(provider, reply) if reply.heard.asked != "fail" else reply.status(500)

        with providing(fails_once) as provider:
            outcomes = remote(tmp_path, engine, provider.url).generate([ask("a"), ask("fail"), ask("c")])
        assert [isinstance(outcome, Completion) for outcome in outcomes] == [True, False, True]

    def test_an_empty_answer_is_an_answer(self, tmp_path: Path, engine: str) -> None:
        def says_nothing(_provider: Provider, reply: Reply) -> None:
            reply.start()
            reply.end(written=0)

        with providing(says_nothing) as provider:
            outcome = completed(remote(tmp_path, engine, provider.url).generate([ask("hi")])[0])
        assert (outcome.text, outcome.finish_reason) == ("", "stop")

    def test_thoughts_are_counted_and_not_shown(
        self, tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def thinks(_provider: Provider, reply: Reply) -> None:
            reply.start(cached=1)
            for _ in range(6):
                reply.think("hmm")
            reply.text("42")
            reply.end(written=9, thought=7, cached=1)

        until: list[float] = []  # each time until which a call may be silent
        reschedule = asyncio.Timeout.reschedule

        def noted(self: asyncio.Timeout, when: float | None) -> None:
            until.extend([] if when is None else [when])
            reschedule(self, when)

        monkeypatch.setattr(asyncio.Timeout, "reschedule", noted)
        monkeypatch.setattr(
            "headrace_workers.models.engines.remote.generator._END_SECONDS", None
        )  # no silence of a call
        with providing(thinks) as provider:
            outcome = completed(remote(tmp_path, engine, provider.url).generate([ask("hi")])[0])
        assert len(until) == 2 + 6 + 1  # the whole call and its first token; the thoughts; the text
        assert outcome.text == "42"
        assert outcome.completion_tokens == 9
        assert outcome.prompt_tokens == 3
        assert outcome.remote is not None
        assert (outcome.remote.reasoning_tokens, outcome.remote.cached_tokens) == (7, 1)

    def test_an_answer_says_who_gave_it(self, tmp_path: Path, engine: str) -> None:
        with providing() as provider:
            outcome = completed(remote(tmp_path, engine, provider.url).generate([ask("hi")])[0])
        assert outcome.remote is not None
        assert (outcome.remote.provider, outcome.remote.model) == ("own", "teacher-2026-11-01")
        assert outcome.remote.fingerprint == ("fp_1" if engine == "openai" else None)

    def test_a_model_is_not_sent_what_it_lacks(self, tmp_path: Path, engine: str) -> None:
        with providing() as provider:
            remote(tmp_path, engine, provider.url, lacks=["temperature", "stop"]).generate([ask("hi", stop=["x"])])
        (heard,) = provider.heard
        assert heard.body.keys() & {"temperature", "stop", "stop_sequences", "top_k", "repetition_penalty"} == set()
        assert heard.body["model"] == "teacher"


def test_anthropic_takes_system_messages_beside_the_conversation(tmp_path: Path) -> None:
    with providing() as provider:
        remote(tmp_path, "anthropic", provider.url).generate([ask("hi", system="be kind")])
    (heard,) = provider.heard
    assert heard.body["system"] == "be kind"
    assert [message["role"] for message in heard.body["messages"]] == ["user"]


def test_openai_itself_is_sent_the_newer_name_of_the_limit(tmp_path: Path) -> None:
    """OpenAI's newer models refuse `max_tokens`; other servers may know nothing else."""
    with providing() as provider:
        remote(tmp_path, "openai", provider.url, provider="openai").generate([ask("hi", max_tokens=5)])
        remote(tmp_path, "openai", provider.url, provider="own").generate([ask("hi", max_tokens=5)])
    first, second = provider.heard
    assert ("max_tokens" in first.body, first.body["max_completion_tokens"]) == (False, 5)
    assert ("max_completion_tokens" in second.body, second.body["max_tokens"]) == (False, 5)


def test_llmock_is_answered_and_survived(tmp_path: Path) -> None:
    """A server that other people made for faults of providers is read as ours is: answers, cuts and refusals."""
    llmock = pytest.importorskip("llmock.testing")
    scenarios = pytest.importorskip("llmock.scenarios")
    for engine in REMOTE_ENGINES:
        with llmock.LLMockServer() as server:
            model = remote(tmp_path / engine, engine, server.base_url(engine))
            completed(model.generate([ask("hi")])[0])
            for fault in ("truncate", "disconnect", "malformed"):
                server.state.scenarios.add(scenarios.StreamFault(fault, after_chunks=1))
                (broken,) = model.generate([ask("hi")])
                assert isinstance(broken, HeadraceError), (engine, fault, broken)
                assert broken.category.retryable
            server.state.scenarios.add(scenarios.Fail(429, retry_after=60.0))
            (busy,) = model.generate([ask("hi")])
            assert isinstance(busy, HeadraceError)
            assert 30 < busy.after < 120  # type: ignore[attr-defined]

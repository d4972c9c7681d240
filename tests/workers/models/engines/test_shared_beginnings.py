"""The adapter over CTranslate2 where prompts begin with the same: what it computes, and that nobody can tell."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.services.models import SMOLLM2
from tests.workers.models.engines.asking import done

from headrace_schemas import Message, Sampling
from headrace_schemas.errors import PromptTooLong
from headrace_workers.models.engines.ctranslate2_generator import CTranslate2Generator
from headrace_workers.models.engines.prefixes import LEAST_TOKENS, OFTEN, Prefixes
from headrace_workers.models.generator import Request

SHOP = "You are the assistant of a shop, and answer politely. " + " ".join(
    f"Item {number} costs {number * 7 % 31} coins." for number in range(20)
)
QUESTIONS = ("What does item 7 cost?", "Hello", "I bought two red shoes a week ago: how do I give them back?", "Tea?")


def ask(said: str, system: str = SHOP, tenant: str | None = "a", **sampling: object) -> Request:
    turns = (Message(role="system", content=system), Message(role="user", content=said))
    return Request(turns, Sampling.model_validate({"max_tokens": 12, **sampling}), tenant)


Calls = list[tuple[int, bool, int]]

_LOADED: list[CTranslate2Generator] = []  # until the process ends: an engine that goes before may take it along


class Watched:
    """An engine that tells what it is handed: the static prompt's length, whether it is kept, and the rows."""

    def __init__(self, engine: Any, calls: Calls) -> None:
        self._engine = engine
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate_batch(self, rows: Sequence[Sequence[str]], **options: Any) -> Any:
        shared = options.get("static_prompt") or ()
        self._calls.append((len(shared), bool(shared) and options["cache_static_prompt"], len(rows)))
        return self._engine.generate_batch(rows, **options)


def watched(home: Path, model: str, **options: Any) -> tuple[CTranslate2Generator, Calls]:
    """A model that is loaded anew, one batch at a time, and what its engine is handed."""
    generator = CTranslate2Generator.load(home / "models" / model, device="cpu", inter_threads=1, **options)
    calls: Calls = []
    generator._engine = Watched(generator._engine, calls)
    _LOADED.append(generator)
    return generator, calls


@pytest.fixture
def tiny(tiny_home: Path) -> tuple[CTranslate2Generator, Calls]:
    """Two layers of random weights; a byte is a token."""
    return watched(tiny_home, "tiny")


@pytest.mark.slow
def test_smollm2_answers_the_same_and_reads_the_system_prompt_once(smollm2_float_home: Path) -> None:
    whole, whole_calls = watched(smollm2_float_home, SMOLLM2)
    whole._prefixes = Prefixes(whole._prompts.beginning, most_tokens=0)
    # With the penalty of the model's card, only prompts of one length would share a batch.
    asked = [ask(question, repetition_penalty=1) for question in QUESTIONS]
    expected = done(whole.generate(asked))
    shared, calls = watched(smollm2_float_home, SMOLLM2)
    times = OFTEN // len(QUESTIONS)
    for _ in range(times + 1):
        assert done(shared.generate(asked)) == expected
    assert done(shared.generate(asked[:1])) == expected[:1]
    assert whole_calls == [(0, False, len(QUESTIONS))]
    length = calls[0][0]
    assert LEAST_TOKENS < length < expected[1].prompt_tokens
    each_time, kept = (length, False, len(QUESTIONS)), (length, True, len(QUESTIONS))
    assert calls == [*([each_time] * times), kept, (length, True, 1)]


def test_what_else_comes_in_a_call_is_answered_beside_it(tiny: tuple[CTranslate2Generator, Calls]) -> None:
    generator, calls = tiny
    plain = [ask(said, system="Short.") for said in ("a", "bb")]
    few = [ask(said, tenant="b") for said in ("a", "bb")]
    shared = [
        *(ask("x" * number, max_tokens=3 + number) for number in range(1, 5)),
        ask("stop", stop=["e"]),
        ask("warm", temperature=0.5, top_k=1),
        ask("cold", tenant=None),
    ]
    asked = [*plain, *shared, *few, ask("x" * 3_000)]
    *found, refused = generator.generate(asked)
    assert isinstance(refused, PromptTooLong)
    first = tuple(calls)
    assert [answer for request in asked[:-1] for answer in generator.generate([request])] == done(found)
    assert len({length for length, _, _ in first}) == 2  # nothing, and the system prompt of those that are enough
    assert sum(rows for length, _, rows in first if length) == len(shared) - 1


def test_a_seed_says_the_same_whatever_was_kept(tiny: tuple[CTranslate2Generator, Calls]) -> None:
    generator, calls = tiny
    seeded = ask("draw", temperature=1.0, seed=7)
    before = generator.generate([seeded])
    generator.generate([ask(str(number)) for number in range(OFTEN)])
    generator.generate([ask("once more")])
    assert calls[-1][1]
    kept = len(calls)
    assert generator.generate([seeded]) == before
    assert {length for length, _, _ in calls[kept:]} == {0}

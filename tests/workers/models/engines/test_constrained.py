"""Answers whose tokens run out are closed where nothing has to be made up for it."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llguidance import LLMatcher, LLTokenizer
from tests.workers.models.engines.asking import ask, done, one
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from headrace_schemas import HeadraceError, Sampling
from headrace_schemas.errors import Unparsable
from headrace_schemas.output_format import (
    ChoiceFormat,
    GrammarFormat,
    JsonSchemaFormat,
    OutputFormat,
    RegexFormat,
)
from headrace_workers.models.engines import constrained, ctranslate2_generator
from headrace_workers.models.engines.constrained import Compiling, ConstrainedRow, Endings, Grammars, Numbers
from headrace_workers.models.engines.ctranslate2_generator import CTranslate2Generator
from headrace_workers.models.engines.stopping import Row
from headrace_workers.models.generator import Completion, GivenUp, Request
from headrace_workers.models.structured.grammar import grammar_of
from headrace_workers.models.structured.validity import read_whole

BYTES = LLTokenizer("byte")
ENDINGS = Endings(BYTES, BYTES.eos_tokens)
NUMBERS = Numbers(BYTES)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "size": {"type": "integer"},
        "more": {"type": "object"},
    },
    "additionalProperties": False,
}
ANSWER = (
    '{\n "name": "Ada {Lovelace}, [x:",\n "tags": ["a\\"b", "c, d", ""], "size": 1234, "more": {"deep": [{"x": 12.5}]}}'
)


def matcher(schema: dict[str, Any]) -> LLMatcher:
    """The grammar of a schema over bytes."""
    return LLMatcher(BYTES, grammar_of(JsonSchemaFormat(json_schema=schema)), log_level=0)


def closing_row(text: str, limit: int, *, schema: dict[str, Any] = SCHEMA, shortens: bool = True) -> ConstrainedRow:
    """An answer that a model which writes this text gets with so many tokens."""
    compiled = Compiling()
    compiled.matcher.set_result(matcher(schema))
    row = ConstrainedRow(
        Row(limit, ()), Sampling(max_tokens=limit), compiled, endings=(lambda: ENDINGS) if shortens else None,
        end_ids=BYTES.eos_tokens, decode=lambda ids: bytes(ids).decode(),
    )  # fmt: skip
    row.start()
    for token in text.encode()[len(row.row.ids) :]:
        if row.add(token):
            break
    return row


def text_that_likes(wanted: bytes, schema: dict[str, Any], *, seeded: bool = False) -> str:
    """Return the answer of a model that writes these bytes where it may, and closes brackets else."""
    compiled = Compiling()
    compiled.matcher.set_result(matcher(schema))
    row = ConstrainedRow(
        Row(60, ()), Sampling(temperature=0), compiled, endings=None, numbers=lambda: NUMBERS,
        end_ids=BYTES.eos_tokens, decode=lambda ids: bytes(ids).decode(),
    )  # fmt: skip
    row.start()
    while not row.ended and len(row.row.ids) < len(wanted):
        token = wanted[len(row.row.ids)]
        logits = np.zeros(BYTES.vocab_size, dtype=np.float32)
        logits[[*b"}]"]] = 1.0
        logits[token] = 2.0
        if seeded or (row.add(token) and row.is_violated):
            row.choose(logits)
    assert row.error is None
    return bytes(row.row.ids).decode()


@pytest.mark.parametrize("seeded", [False, True])
@pytest.mark.parametrize(
    ("schema", "wanted", "written"),
    [
        ({"type": "number"}, b"7e535991", "7e53"),
        ({"type": "number"}, b"7e-5359", "7e-535"),
        ({"type": "array", "items": {"type": "number"}}, b"[1e+999]", "[1e+99]"),
        ({}, b'{"a": 123.5e307}', '{"a": 123.5e30}'),
        ({"type": "array", "items": {"type": "number"}}, b"[1e-5,1.5E300,-2e308]", "[1e-5,1.5E300,-2e30]"),
        ({"type": "string"}, b'"7e535991"', '"7e535991"'),
        ({"type": "string", "pattern": "^7e[0-9]{6}$"}, b'"7e535991"', '"7e535991"'),
    ],
)
def test_a_number_is_written_only_as_large_as_it_can_be_read(
    schema: dict[str, Any], wanted: bytes, written: str, *, seeded: bool
) -> None:
    text = text_that_likes(wanted, schema, seeded=seeded)
    assert text.startswith(written)
    if text[-1] in "]}":
        read_whole(text)


@pytest.mark.parametrize(
    ("written", "ending"),
    [
        ('{"name": "Ad', '"}'),
        ('{"name": "Ada, ', '"}'),
        ('{"tags": ["a", "b', '"]}'),
        ('{"tags": ["a"', "]}"),
        ('{"tags": [ ', "]}"),
        ("{\n", "}"),
        ('{"more": {"deep": [{"x": 12.5}', "]}}"),
        ('{"tags": ["a",', None),
        ('{"name": ', None),
        ('{"na', None),
        ('{"more": {"own', None),
        ('{"size": 12', None),
    ],
)
def test_an_ending_closes_and_adds_nothing(written: str, ending: str | None) -> None:
    at = matcher(SCHEMA)
    at.consume_tokens(list(written.encode()))
    found = ENDINGS.find(at, list(written.encode()), 10)
    assert (None if found is None else bytes(found).decode()) == ending
    assert not found or ENDINGS.find(at, list(written.encode()), len(found) - 1) is None


def test_no_ending_makes_up_what_a_schema_requires() -> None:
    """An answer that lacks a required field is cut, whatever else stands."""
    row = closing_row(ANSWER, 40, schema={**SCHEMA, "required": ["size"]})
    assert (row.ended, row.is_shortened, len(row.row.ids)) == (True, False, 40)


def test_an_answer_is_shortened_to_any_limit() -> None:
    for limit in range(32, len(ANSWER)):
        row = closing_row(ANSWER, limit)
        text = bytes(row.row.ids).decode()
        assert (row.ended, row.is_shortened, len(text) <= limit) == (True, True, True), limit
        assert set(json.loads(text)) <= set(json.loads(ANSWER))
        assert text.rstrip('"]} \n') in ANSWER
        assert bytes(closing_row(ANSWER, limit, shortens=False).row.ids).decode() == ANSWER[:limit]
    whole = closing_row(ANSWER, len(ANSWER))
    assert (whole.is_whole, whole.is_shortened) == (True, False)


def object_of(**properties: object) -> JsonSchemaFormat:
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return JsonSchemaFormat(json_schema=schema)


PERSON = object_of(name={"type": "string", "maxLength": 12}, age={"type": "integer"})
DATE = RegexFormat(pattern="[A-Z][a-z]{2,8}, [0-9]{4}")
ENDLESS = RegexFormat(pattern="x[a-z]*")
FORMATS: tuple[tuple[str, OutputFormat], ...] = (
    ("Describe Ada Lovelace.", PERSON),
    ("Is a mill by a river?", object_of(ok={"type": "boolean"}, kind={"enum": ["river", "mill"]})),
    ("Answer about water, please, in a few words", ChoiceFormat(choices=("yes", "no", "maybe"))),
    ("When was the town founded?", DATE),
    ("Tags of the text: mills", object_of(tags={"type": "array", "items": {"type": "string"}, "maxItems": 3})),
    ("How old is Bob?", GrammarFormat(grammar='start: NAME " is " AGE\nNAME: /[A-Z][a-z]+/\nAGE: /[0-9]{1,3}/')),
)


@pytest.fixture(scope="module")
def tiny(tiny_home: Path) -> CTranslate2Generator:
    """Two layers of random weights: nearly each of its tokens is forbidden."""
    return CTranslate2Generator.load(tiny_home / "models" / "tiny", device="cpu", inter_threads=2)


def held(text: str, output: OutputFormat, **sampling: object) -> Request:
    return replace(ask(text, **sampling), output=output, tenant="t")


def masked_each_step(model: CTranslate2Generator, request: Request) -> tuple[str, int]:
    """The answer of lockstep decoding: a run for each token, whose logits are masked; and its tokens."""
    assert request.output is not None
    tokenizer = LLTokenizer(model._tokenizer.to_str(), eos_token=model._end_ids)
    matcher = LLMatcher(tokenizer, grammar_of(request.output), log_level=0)
    tokens = model._prompts.encode(request.messages)
    assert not isinstance(tokens, HeadraceError)
    ids: list[int] = []
    while len(ids) < request.sampling.max_tokens and not matcher.is_stopped():
        written = tokens + [str(model._tokenizer.id_to_token(number)) for number in ids]
        (result,) = model._engine.generate_batch(
            [written], include_prompt_in_result=False, max_length=1, sampling_topk=1, end_token=model._end_ids,
            return_logits_vocab=True,
        )  # fmt: skip
        logits = np.array(result.logits[0][-1], dtype=np.float32)
        mask = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8), bitorder="little")
        token = int(np.where(mask[: len(logits)].astype(bool), logits, -np.inf).argmax())
        if token in model._end_ids:
            break
        assert matcher.consume_token(token)
        ids.append(token)
    return model._decode(ids), len(ids)


def check_exact(model: CTranslate2Generator, requests: Sequence[Request]) -> None:
    """All of them in one call, beside free rows, which stay as they are."""
    free = [ask("Tell me of rivers", max_tokens=24), ask("Hi", max_tokens=5)]
    answers = done(model.generate([*requests, *free]))
    for request, answer in zip(requests, answers, strict=False):
        text, tokens = masked_each_step(model, request)
        if answer.finish_reason == "length" and answer.text != text:  # it was closed
            assert text.startswith(answer.text.rstrip('"]}'))
            assert json.loads(answer.text)
        else:
            assert (answer.text, answer.completion_tokens) == (text, tokens)
    assert answers[-2:] == [one(model, item) for item in free]


def test_an_answer_is_what_masking_each_step_gives(tiny: CTranslate2Generator) -> None:
    check_exact(tiny, [held(text, output, max_tokens=40) for text, output in FORMATS])


def test_an_answer_that_max_tokens_cuts_says_so(tiny: CTranslate2Generator) -> None:
    forced = object_of(a_long_name_of_a_field={"type": "integer"})
    only = ChoiceFormat(choices=("yes",))
    cut, also_cut, whole = done(
        tiny.generate([held("a", PERSON, max_tokens=3), held("b", forced, max_tokens=9), held("c", only, max_tokens=3)])
    )
    assert [(completion.finish_reason, completion.completion_tokens) for completion in (cut, also_cut)] == [
        ("length", 3),
        ("length", 9),
    ]
    assert (whole.text, whole.finish_reason) == ("yes", "stop")


def test_a_json_answer_whose_tokens_run_out_is_closed(tiny: CTranslate2Generator) -> None:
    tags = held("Tags of the text: mills", FORMATS[4][1], max_tokens=40)
    answers = done(tiny.generate([tags, held("Tags", FORMATS[4][1], max_tokens=40, temperature=0.7, seed=1)]))
    assert [(answer.finish_reason, list(json.loads(answer.text))) for answer in answers] == [("length", ["tags"])] * 2
    assert max(answer.completion_tokens for answer in answers) <= 40


def test_a_stop_string_ends_an_answer_before_its_format_does(tiny: CTranslate2Generator) -> None:
    whole = one(tiny, held("When?", DATE, max_tokens=40))
    assert one(tiny, held("When?", DATE, max_tokens=40, stop=[", "])).text == whole.text.partition(",")[0]


def test_a_repetition_penalty_does_not_count(tiny: CTranslate2Generator) -> None:
    request = held("Tags", FORMATS[4][1], max_tokens=30)
    assert one(tiny, held("Tags", FORMATS[4][1], max_tokens=30, repetition_penalty=1.9)) == one(tiny, request)


def test_answers_that_are_drawn_have_their_format(tiny: CTranslate2Generator) -> None:
    sampling: list[dict[str, Any]] = [{"temperature": 1.2}, {"temperature": 1.0, "top_k": 2, "top_p": 0.3}]
    answers = done(tiny.generate([held("When?", DATE, max_tokens=40, **sampling[at % 2]) for at in range(12)]))
    assert all(re.fullmatch("[A-Z][a-z]{2,8}, [0-9]{4}", answer.text) for answer in answers)
    assert len({answer.text for answer in answers}) > 2


def test_a_seed_repeats_a_held_answer(tiny: CTranslate2Generator) -> None:
    seeded = held("When?", DATE, max_tokens=40, temperature=1.0, seed=7)
    first = one(tiny, seeded)
    assert re.fullmatch("[A-Z][a-z]{2,8}, [0-9]{4}", first.text)
    assert done(tiny.generate([held("Hi", PERSON, max_tokens=9), seeded, seeded]))[1:] == [first, first]
    assert one(tiny, held("When?", DATE, max_tokens=40, temperature=1.0, seed=8)).text != first.text


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 3}])
def test_what_is_given_up_in_a_rerun_ends_there(tiny: CTranslate2Generator, sampling: dict[str, Any]) -> None:
    asked: list[int] = []

    def after_some() -> bool:
        asked.append(1)
        return len(asked) > 12

    unwanted = replace(held("When?", ENDLESS, max_tokens=60, **sampling), given_up=after_some)
    answers = tiny.generate([unwanted, held("When?", DATE, max_tokens=40), ask("a", max_tokens=12)])
    assert [type(answer) for answer in answers] == [GivenUp, Completion, Completion]
    assert len(asked) < 40


def test_a_grammar_that_takes_long_to_check_leaves_the_batch(
    tiny: CTranslate2Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [held("When?", DATE, max_tokens=40), ask("a", max_tokens=30)]
    expected = done(tiny.generate(requests))
    monkeypatch.setattr(constrained, "SECONDS_IN_A_BATCH", 0.0)
    together: list[int] = []
    go_on = CTranslate2Generator._go_on

    def watched(self: CTranslate2Generator, prompts: list[Any]) -> list[Any]:
        if any(prompt.runs_alone for prompt in prompts):
            together.append(len(prompts))
        return go_on(self, prompts)

    monkeypatch.setattr(CTranslate2Generator, "_go_on", watched)
    assert done(tiny.generate([requests[0], *requests])) == [expected[0], *expected]
    assert set(together) == {1}


def test_a_grammar_that_exceeds_a_limit_fails_alone(
    tiny: CTranslate2Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constrained, "SECONDS", 0.0)
    failed, other = tiny.generate([held("When?", DATE, max_tokens=40), ask("a", max_tokens=5)])
    assert isinstance(other, Completion)
    assert isinstance(failed, Unparsable)
    assert "make it simpler" in str(failed)
    assert failed.usage is not None
    assert failed.usage.prompt_tokens == one(tiny, ask("When?", max_tokens=1)).prompt_tokens
    assert failed.usage.completion_tokens > 0


def test_too_little_memory_for_a_grammar_is_its_own_failure(
    tiny: CTranslate2Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constrained, "LIMITS", constrained.limits(max_lexer_states=12))
    monkeypatch.setattr(tiny, "_grammars", Grammars(tiny._tokenizer.to_str, tiny._end_ids))
    answers = tiny.generate(
        [held("a", RegexFormat(pattern="(a|b)*a(a|b){18}"), max_tokens=40), held("b", ChoiceFormat(choices=("x", "y")))]
    )
    assert [type(answer) for answer in answers] == [Unparsable, Completion]
    assert "held to its format" in str(answers[0])


def test_a_grammar_that_cannot_be_compiled_fails_alone(tiny: CTranslate2Generator) -> None:
    answers = tiny.generate(
        [held("a", RegexFormat(pattern="(")), held("b", DATE, max_tokens=40), ask("c", max_tokens=5)]
    )
    assert [type(answer) for answer in answers] == [Unparsable, Completion, Completion]
    assert isinstance(answers[0], Unparsable)
    assert "invalid regex" in str(answers[0])
    assert answers[0].usage is None  # no model was asked


def test_a_grammar_that_compiles_for_long_holds_up_no_other_row(
    tiny: CTranslate2Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = Compiling()
    ask_for = Grammars.ask
    slow = grammar_of(DATE)
    monkeypatch.setattr(Grammars, "ask", lambda self, grammar: compiled if grammar == slow else ask_for(self, grammar))
    answered: list[bool] = []

    def others_run() -> bool:
        answered.append(not compiled.matcher.done())
        if len(answered) == 5:
            compiled.matcher.set_result(ask_for(tiny._grammars, slow).matcher.result(60))
        return False

    late, quick, other = tiny.generate(
        [
            held("When?", DATE, max_tokens=40),
            held("b", FORMATS[2][1]),
            replace(ask("a", max_tokens=12), given_up=others_run),
        ]
    )
    assert [type(completion) for completion in (late, quick, other)] == [Completion] * 3
    assert answered[0]
    compiled = Compiling(clock=lambda: 11.0)
    answers = tiny.generate([held("When?", DATE), ask("a", max_tokens=12)])
    assert [type(answer) for answer in answers] == [Unparsable, Completion]
    assert "to compile" in str(answers[0])


def test_a_busy_machine_fails_no_row() -> None:
    working = Compiling()
    working.begin()
    for compiling in (Compiling(), working):
        row = ConstrainedRow(
            Row(9, ()), Sampling(), compiling, endings=None, end_ids=[0], decode=lambda _ids: ""
        )  # fmt: skip
        row._asked -= 30
        assert not row.start()
        row._asked -= 31
        assert row.start()
        assert "within 60 s" in str(row.error)


def test_an_engine_that_fails_in_a_rerun_costs_one_row(
    tiny: CTranslate2Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = CTranslate2Generator._run

    def failing(self: CTranslate2Generator, prompts: list[Any], rows: list[Row], **options: Any) -> list[Any]:
        if options and any(prompt.tokens == culprit for prompt in prompts):
            raise RuntimeError("out of memory")
        return run(self, prompts, rows, **options)

    requests = [held(text, DATE, max_tokens=40) for text in ("one", "two", "three")]
    expected = done(tiny.generate(requests))
    culprit = tiny._prompts.encode(requests[1].messages)
    monkeypatch.setattr(CTranslate2Generator, "_run", failing)
    answers = tiny.generate(requests)
    assert [answers[0], answers[2]] == [expected[0], expected[2]]
    assert "RuntimeError" in str(answers[1])


def test_compiled_grammars_are_kept_within_a_bound(tiny: CTranslate2Generator) -> None:
    grammars = Grammars(tiny._tokenizer.to_str, tiny._end_ids)
    first = grammars.ask("start: /a/")
    for number in range(constrained.MOST_COMPILED - 1):
        grammars.ask(f"start: /b{number}/").matcher.result(60)
    assert grammars.ask("start: /a/") is first
    grammars.ask("start: /c/")
    assert grammars.ask("start: /a/") is first
    assert len(grammars._compiled) == constrained.MOST_COMPILED
    large = grammars.ask(f"start: /{'d' * constrained.MOST_CHARACTERS}/")
    assert [found for found, _ in grammars._compiled.values()] == [large]


def row_of(output: OutputFormat, tokenizer: str, end: int, **sampling: object) -> ConstrainedRow:
    row = ConstrainedRow(
        Row(40, ()),
        Sampling.model_validate({"temperature": 0, **sampling}),
        Grammars(lambda: tokenizer, [end]).ask(grammar_of(output)),
        endings=None,
        end_ids=[end],
        decode=str,
    )
    assert row.start(60)
    return row


def test_an_end_token_before_the_grammar_ends_is_a_violation(tiny: CTranslate2Generator) -> None:
    (end,) = tiny._end_ids
    early = row_of(ENDLESS, tiny._tokenizer.to_str(), end)
    assert early.row.ids == tiny._tokenizer.encode("x").ids  # forced
    assert early.add(end)
    assert (early.ended, early.is_whole) == (True, True)
    person = row_of(PERSON, tiny._tokenizer.to_str(), end)
    assert person.add(end)
    assert (person.ended, person.is_violated) == (False, True)


def test_logits_beyond_the_tokenizer_are_never_chosen(tiny: CTranslate2Generator) -> None:
    (end,) = tiny._end_ids
    row = row_of(FORMATS[2][1], tiny._tokenizer.to_str(), end)
    logits = np.zeros(tiny._vocabulary_size + 100, dtype=np.float32)
    logits[-1] = 9.0
    row.choose(logits)
    assert row.error is None
    assert tiny._decode(row.row.ids) in ("yes", "no", "maybe")


def test_what_alone_can_follow_comes_in_the_tokens_of_its_tokenizer() -> None:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["</s>", *letters, "ab"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b")]))
    tokenizer.add_special_tokens(["</s>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    row = row_of(GrammarFormat(grammar='start: ("x" | "y") "abc"'), tokenizer.to_str(), 0)
    assert not row.add(vocabulary["x"])
    assert row.forced()[0] == vocabulary["ab"]
    assert row.add(vocabulary["a"])
    assert row.is_violated


def test_rows_whose_prompts_begin_alike_share_that_beginning(tiny: CTranslate2Generator) -> None:
    seen: list[int] = []

    class Watched:
        """The engine, and how many tokens each rerun shares."""

        def generate_batch(self, prompts: list[list[str]], **options: Any) -> Any:
            if options.get("return_logits_vocab") and len(prompts) > 1:
                seen.append(len(options.get("static_prompt", ())))
            return tiny._engine.generate_batch(prompts, **options)

    watched = ctranslate2_generator.copy(tiny)
    watched._engine = Watched()
    asked = [held("a long beginning of the prompt " * 4 + end, DATE, max_tokens=8) for end in ("one", "two", "six")]
    answers = done(watched.generate(asked))
    assert min(seen) > 100
    assert answers == done(tiny.generate(asked))
    seen.clear()
    assert done(watched.generate([replace(request, tenant=str(at)) for at, request in enumerate(asked)])) == answers
    assert set(seen) == {0}

import json
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.workers.models.engines.asking import ask, done, one

from headrace_schemas import Message
from headrace_schemas.errors import ConfigurationError, PromptTooLong, Unavailable
from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_workers.models.engines import labels as labels_module
from headrace_workers.models.engines.ctranslate2_generator import CTranslate2Generator
from headrace_workers.models.engines.labels import MOST_TOKENS
from headrace_workers.models.engines.logits import UnusableLogits
from headrace_workers.models.engines.slots import Run
from headrace_workers.models.generator import Completion, GivenUp, LabelRequest, LabelScores
from headrace_workers.models.registry import read_card, write_card

MIXED = ("a", "what is this?", "a longer prompt " * 6, "b", "tell me of rivers and mills " * 3)


@pytest.fixture(scope="module")
def tiny(tiny_home: Path) -> CTranslate2Generator:
    return CTranslate2Generator.load(tiny_home / "models" / "tiny", device="cpu", inter_threads=2)


def test_answers_come_in_the_order_of_their_requests(tiny: CTranslate2Generator) -> None:
    together = done(tiny.generate([ask(text, max_tokens=12) for text in MIXED]))
    alone = [one(tiny, ask(text, max_tokens=12)) for text in MIXED]
    assert together == alone
    assert len({answer.text for answer in together}) > 1


def test_each_request_keeps_its_own_limit(tiny: CTranslate2Generator) -> None:
    limits = (3, 9, 5, 1, 7)
    answers = done(tiny.generate([ask(text, max_tokens=n) for text, n in zip(MIXED, limits, strict=True)]))
    assert [answer.completion_tokens for answer in answers] == list(limits)
    assert {answer.finish_reason for answer in answers} == {"length"}


def test_prompt_tokens_count_the_rendered_template(tiny: CTranslate2Generator) -> None:
    rendered = len("user\nabc\n") + len("assistant\n") + 3  # <|im_start|> twice, <|im_end|> once
    assert one(tiny, ask("abc", max_tokens=1)).prompt_tokens == rendered


def test_an_answer_ends_before_its_stop_string(tiny: CTranslate2Generator) -> None:
    free = one(tiny, ask("what is this?", max_tokens=40))
    stop = next(letter for letter in free.text[5:] if letter.isascii() and letter.isprintable())
    stopped, neighbour = done(
        tiny.generate([ask("what is this?", max_tokens=40, stop=[stop]), ask("and that one?", max_tokens=40)])
    )
    assert stopped.text == free.text[: free.text.index(stop)]
    assert stopped.finish_reason == "stop"
    assert stopped.completion_tokens < free.completion_tokens
    assert neighbour == one(tiny, ask("and that one?", max_tokens=40))


def test_a_prompt_over_the_context_concerns_itself_alone(tiny: CTranslate2Generator) -> None:
    answers = tiny.generate([ask("a", max_tokens=2), ask("x" * 2030), ask("y" * 100_000), ask("b", max_tokens=2)])
    assert [type(answer) for answer in answers] == [Completion, PromptTooLong, PromptTooLong, Completion]
    assert "holds 2048" in str(answers[1])
    assert not PromptTooLong.category.retryable


def test_an_answer_is_clipped_to_the_room_that_the_prompt_leaves(tiny: CTranslate2Generator) -> None:
    overhead = one(tiny, ask("x", max_tokens=1)).prompt_tokens - 1
    for room in (1, 5):
        answer = one(tiny, ask("x" * (2048 - overhead - room), max_tokens=50))
        assert (answer.completion_tokens, answer.finish_reason) == (room, "length")


def test_a_seed_repeats_an_answer(tiny: CTranslate2Generator) -> None:
    seeded = ask("tell me", temperature=1.0, max_tokens=20, seed=7)
    first = one(tiny, seeded)
    done(tiny.generate([ask(text, temperature=1.3, max_tokens=8) for text in MIXED]))
    assert done(tiny.generate([ask("a", max_tokens=4), seeded, seeded]))[1:] == [first, first]
    assert one(tiny, ask("tell me", temperature=1.0, max_tokens=20, seed=8)).text != first.text


@pytest.mark.parametrize("seed", [None, 7])
def test_what_is_given_up_ends_early_and_is_no_answer(tiny: CTranslate2Generator, seed: int | None) -> None:
    wanted = ask("tell me", temperature=1.0 if seed else 0.0, max_tokens=400, seed=seed)
    asked: list[int] = []

    def after_five() -> bool:
        asked.append(1)
        return len(asked) > 5

    first = replace(wanted, given_up=after_five)
    answers = tiny.generate([replace(wanted, given_up=lambda: True), first, ask("a", max_tokens=12)])
    assert [type(answer) for answer in answers] == [GivenUp, GivenUp, Completion]
    assert answers[2] == one(tiny, ask("a", max_tokens=12))
    assert len(asked) < 10
    assert GivenUp.category.retryable
    assert isinstance(one(tiny, wanted), Completion)


def test_on_a_gpu_nobody_asks_at_each_token(tiny: CTranslate2Generator) -> None:
    """That would take longer than its steps: only what waits is given up."""
    elsewhere = copy(tiny)
    elsewhere._placement = replace(tiny.placement, device="cuda")
    asked: list[int] = []
    request = replace(ask("tell me", max_tokens=9), given_up=lambda: bool(asked.append(1)))
    assert isinstance(one(elsewhere, request), Completion)
    assert len(asked) == 1


@pytest.mark.parametrize("seed", [None, 7])
def test_what_is_given_up_before_its_turn_is_not_begun(tiny: CTranslate2Generator, seed: int | None) -> None:
    class Never:
        def generate_batch(self, *_: Any, **__: Any) -> list[Any]:
            raise AssertionError("it was begun")

    unasked = copy(tiny)
    unasked._engine = Never()
    given_up = replace(ask("tell me", temperature=1.0 if seed else 0.0, seed=seed), given_up=lambda: True)
    assert [type(completion) for completion in unasked.generate([given_up, given_up])] == [GivenUp, GivenUp]


def test_a_seed_means_the_same_in_every_process_and_serving_imports_neither_torch_nor_transformers(
    tiny: CTranslate2Generator, tiny_home: Path
) -> None:
    """The process ends well, although it ends right after an answer."""
    code = (
        "import sys, pathlib, headrace_workers.wiring\n"
        "from headrace_schemas import Message, Sampling\n"
        "from headrace_workers.models.engines.engine import LoadOptions\n"
        "from headrace_workers.models.engines.load_generator import load_generator\n"
        "from headrace_workers.models.generator import Request\n"
        "generator = load_generator(pathlib.Path(sys.argv[1]), 'tiny', LoadOptions(inter_threads=1))\n"
        "def ask(text, **sampling): return Request((Message(role='user', content=text),), Sampling(**sampling))\n"
        "generator.generate([ask('other', temperature=1.5, max_tokens=9), ask('and', max_tokens=5)])\n"
        "asked = ask('tell me', temperature=1.0, top_p=0.95, max_tokens=40, seed=7)\n"
        "print(ascii(generator.generate([asked])[0].text))\n"
        "heavy = ('torch', 'transformers', 'ctranslate2.converters', 'ctranslate2.specs', 'gguf', 'huggingface_hub')\n"
        "print([name for name in heavy if name in sys.modules])\n"
        "generator.generate([ask('x', max_tokens=9, stop=('zz',))])\n"
    )
    here = one(tiny, ask("tell me", temperature=1.0, top_p=0.95, max_tokens=40, seed=7))
    for _ in range(2):
        there = subprocess.run([sys.executable, "-c", code, str(tiny_home)], capture_output=True, text=True, check=True)
        assert there.stdout.splitlines() == [ascii(here.text), "[]"]


def test_a_seeded_answer_is_not_bounded_by_what_logits_may_hold(
    tiny: CTranslate2Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs are cut where they would keep too many."""
    seeded = ask("tell me", temperature=0.3, max_tokens=40, seed=7)
    whole = one(tiny, seeded)
    monkeypatch.setattr("headrace_workers.models.engines.ctranslate2_generator.LOGITS_BYTES", 3 * 4 * 259)
    assert one(tiny, seeded) == whole


@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize("narrow", [{"temperature": 0.001}, {"top_k": 1}, {"top_p": 1e-6}], ids=str)
def test_temperature_top_k_and_top_p_reach_the_model(
    tiny: CTranslate2Generator, narrow: dict[str, float], seed: int | None
) -> None:
    greedy = one(tiny, ask("what is this?", max_tokens=20))
    wild = {"temperature": 2.0, "max_tokens": 20, "seed": seed}
    assert one(tiny, ask("what is this?", **wild)).text != greedy.text
    assert one(tiny, ask("what is this?", **{**wild, **narrow})) == greedy


def test_a_repetition_penalty_reaches_the_model(tiny: CTranslate2Generator) -> None:
    def words(penalty: float | None, **sampling: object) -> int:
        return len(set(one(tiny, ask("what is this?", max_tokens=60, repetition_penalty=penalty, **sampling)).text))

    assert words(0.5) < words(1) < words(2)
    plain, greedy = (one(tiny, ask("what is this?", max_tokens=60, repetition_penalty=number)) for number in (1, 1.3))
    assert plain != greedy
    # Two tokens may be so near to each other that a warmer choice takes the second one now and then.
    cold = {"temperature": 0.00001, "max_tokens": 60, "repetition_penalty": 1.3}
    assert one(tiny, ask("what is this?", **cold)) == greedy
    assert one(tiny, ask("what is this?", seed=7, **cold)) == greedy


def test_a_penalty_knows_no_neighbour(tiny: CTranslate2Generator) -> None:
    requests = [ask(text, max_tokens=40, repetition_penalty=1.5) for text in MIXED]
    assert done(tiny.generate(requests)) == [one(tiny, request) for request in requests]


def test_the_models_own_penalty_is_that_of_requests_without_one(
    tiny: CTranslate2Generator, tiny_home: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_home / "models" / "tiny", tmp_path / "tiny"))
    write_card(folder, replace(read_card(folder), repetition_penalty=1.5))
    careful = CTranslate2Generator.load(folder, device="cpu", inter_threads=1)
    text = "what is this?"
    asked = [ask(text, max_tokens=60), ask(text, max_tokens=60, repetition_penalty=1)]
    mine, none = done(careful.generate(asked))
    assert mine == one(tiny, ask(text, max_tokens=60, repetition_penalty=1.5)) != none
    assert none == one(tiny, ask(text, max_tokens=60))
    labels = [LabelRequest(asked[0].messages, ("a", "b"))]
    assert careful.label_probabilities(labels) == tiny.label_probabilities(labels)


@pytest.mark.parametrize("narrow", [{"temperature": 0.001}, {"top_k": 1}, {"top_p": 1e-6}], ids=str)
def test_requests_of_one_call_keep_their_own_sampling(tiny: CTranslate2Generator, narrow: dict[str, float]) -> None:
    greedy = one(tiny, ask("what is this?", max_tokens=20))
    wild: dict[str, float] = {"temperature": 2.0, "max_tokens": 20}
    for order in (1, -1):
        requests = [ask("what is this?", **wild), ask("what is this?", **{**wild, **narrow})][::order]
        loose, narrowed = done(tiny.generate(requests))[::order]
        assert narrowed == greedy
        assert loose.text != greedy.text


def test_a_batch_that_cannot_be_computed_keeps_its_neighbours(
    tiny: CTranslate2Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [ask(text, max_tokens=6) for text in (*MIXED, "culprit")]
    expected = tiny.generate(asked)
    run = CTranslate2Generator._run

    def failing(self: CTranslate2Generator, prompts: list[Any], rows: list[Any], **options: Any) -> list[Any]:
        if any(prompt.index == len(MIXED) for prompt in prompts):
            raise RuntimeError("CUDA out of memory")
        return run(self, prompts, rows, **options)

    monkeypatch.setattr(CTranslate2Generator, "_run", failing)
    answers = tiny.generate(asked)
    assert answers[:-1] == expected[:-1]
    assert isinstance(answers[-1], Unavailable)
    *fine, failed = tiny.label_probabilities([LabelRequest(request.messages, ("a", "b")) for request in asked])
    assert isinstance(failed, Unavailable)
    assert all(isinstance(scores, LabelScores) for scores in fine)


def test_urgent_work_waits_for_nobody(tiny: CTranslate2Generator) -> None:
    gate, asked = threading.Event(), [ask("now", max_tokens=4), ask("now", temperature=1.0, seed=1, max_tokens=4)]
    others = [tiny._slots.submit(lambda: gate.wait(120), urgent=False) for _ in range(tiny.parallel)]
    try:
        with ThreadPoolExecutor(1) as threads:
            assert len(done(threads.submit(tiny.urgent.generate, asked).result(60))) == 2
            labels = [LabelRequest(asked[0].messages, ("a", "b"))]
            assert threads.submit(tiny.urgent.label_probabilities, labels).result(60)
        assert not any(other.done() for other in others)
    finally:
        gate.set()


@pytest.mark.parametrize("sampling", [{}, {"stop": ("zzzz",)}, {"seed": 7, "temperature": 1.0}])
def test_only_bulk_work_may_stand_aside(
    tiny: CTranslate2Generator, monkeypatch: pytest.MonkeyPatch, sampling: dict[str, Any]
) -> None:
    """Between any two of its tokens, however it is computed; and it says what it would have said."""
    asked: list[int] = []
    monkeypatch.setattr(Run, "between", lambda _run: asked.append(1))
    request = ask("Name three rivers.", max_tokens=8, **sampling)
    urgent = one(tiny.urgent, request)
    assert asked == []
    assert one(tiny, request) == urgent
    assert len(asked) >= urgent.completion_tokens - 1 > 0


def test_no_requests_give_no_answers(tiny: CTranslate2Generator) -> None:
    assert tiny.generate([]) == []
    assert tiny.label_probabilities([]) == []


def labelled(text: str, *labels: str, **more: Any) -> LabelRequest:
    return LabelRequest((Message(role="user", content=text),), labels, **more)


def test_labels_of_a_prompt_over_the_context_are_an_error_of_that_prompt(tiny: CTranslate2Generator) -> None:
    """A label counts, too: of a prompt that just fits, a short one can be scored, and a long one cannot."""
    room = tiny.context_length - one(tiny, ask("", max_tokens=1)).prompt_tokens
    too_long, fine, no_label, label = tiny.label_probabilities(
        [labelled("x" * length, *labels) for length, labels in (
            (3000, ("a", "b")), (1, ("a", "b")), (room - 3, ("a", "a" * 9)), (room - 3, ("a", "b"))
        )]
    )  # fmt: skip
    assert isinstance(too_long, PromptTooLong)
    assert isinstance(no_label, PromptTooLong)
    assert isinstance(label, LabelScores)
    assert isinstance(fine, LabelScores)
    assert 0 < sum(fine.masses) < 1


def test_labels_that_begin_alike_or_differ_in_case_are_told_apart(tiny: CTranslate2Generator) -> None:
    """Each has the probability that it has beside others."""
    labels = ("yes", "yesterday", "Yes", "y", " yes", "<|im_end|>", "z" * 300)
    (together,) = tiny.label_probabilities([labelled("x", *labels)])
    alone = [tiny.label_probabilities([labelled("x", label)])[0] for label in labels]
    assert isinstance(together, LabelScores)
    # A label after a space is the other label where that begins with one.
    (spaced,) = tiny.label_probabilities([labelled("x", "yes", " yes")])
    assert together.masses[1:4] == pytest.approx([scores.masses[0] for scores in alone[1:4]], rel=1e-2)
    assert together.masses[0] + together.masses[4] == pytest.approx(sum(spaced.masses), rel=1e-2)
    assert together.masses[5:] == pytest.approx([scores.masses[0] for scores in alone[5:]], rel=1e-2)
    assert 0 < together.masses[5] < 1e-3  # a text, and no end of the turn


def test_labels_of_two_thousand_characters_are_read_to_their_ends(tiny: CTranslate2Generator) -> None:
    """A question may have labels that long, which differ in the last character alone."""
    long = "a" * (MAX_SHORT_TEXT - 1)
    labels = (f"{long}b", f"{long}c", "yes")
    (together,) = tiny.label_probabilities([labelled("x", *labels)])
    (alone,) = tiny.label_probabilities([labelled("x", "yes")])
    assert isinstance(together, LabelScores)
    assert isinstance(alone, LabelScores)
    assert together.masses == (0.0, 0.0, pytest.approx(alone.masses[0], rel=1e-2))
    assert together.label_tokens > 2 * MAX_SHORT_TEXT


def test_many_labels_are_followed_only_where_the_model_may_begin_them(
    tiny: CTranslate2Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a question with hundreds of labels has few rows; those that are followed have the probabilities they have."""
    labels = [f"{letter}{number}" for letter in "abcdefghij" for number in range(25)]
    (few,) = tiny.label_probabilities([labelled("x", *labels)])
    monkeypatch.setattr(labels_module, "LEAST_SHARE", 0.0)
    (all_of_them,) = tiny.label_probabilities([labelled("x", *labels)])
    assert isinstance(few, LabelScores)
    assert few.label_tokens < all_of_them.label_tokens
    assert sum(few.masses) == pytest.approx(sum(all_of_them.masses), rel=0.02)
    assert few.masses == pytest.approx(all_of_them.masses, abs=2e-3 * max(all_of_them.masses))


def test_labels_that_cannot_be_told_apart_are_refused(tiny: CTranslate2Generator) -> None:
    for labels, reason in ((("yes", "yes"), "same tokens"), (("yes", " "), "no token")):
        with pytest.raises(ValueError, match=reason):
            tiny.label_probabilities([labelled("x", *labels)])


def test_the_text_that_many_questions_ask_about_is_read_once(tiny: CTranslate2Generator) -> None:
    """Their scores are those that each has alone."""
    text = "A long text about mills and rivers. " * 3
    requests = [labelled(f"{text}Question {number}?", "yes", "no", "y") for number in range(40)]
    scores = tiny.label_probabilities(requests)
    for request, found in zip(requests, scores, strict=True):
        (alone,) = tiny.label_probabilities([request])
        assert isinstance(found, LabelScores)
        assert found.masses == pytest.approx(alone.masses, rel=1e-2)
    first, *rest = (found.prompt_tokens for found in scores)
    assert first > len(text) > 3 * max(rest)


def test_tenants_share_no_text(tiny: CTranslate2Generator) -> None:
    text = "A long text about mills and rivers. " * 3
    asked = [labelled(f"{text}One?", "a", tenant="shop"), labelled(f"{text}Two?", "a", tenant="bank")]
    assert all(found.prompt_tokens > len(text) for found in tiny.label_probabilities(asked))


def test_many_questions_with_labels_of_one_length_run_in_bounded_batches(
    tiny: CTranslate2Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    run = CTranslate2Generator._run

    def counting(self: CTranslate2Generator, prompts: list[Any], rows: list[Any], **options: Any) -> list[Any]:
        sizes.append(sum(len(prompt.tokens) for prompt in prompts))
        return run(self, prompts, rows, **options)

    monkeypatch.setattr(CTranslate2Generator, "_run", counting)
    text = "A long text about mills and rivers. " * 10
    scores = tiny.label_probabilities([labelled(f"{text}Number {number:03}?", "yes", "no") for number in range(400)])
    assert all(isinstance(found, LabelScores) for found in scores)
    assert max(sizes) <= 1.1 * MOST_TOKENS


def test_a_request_that_is_given_up_is_not_scored(tiny: CTranslate2Generator) -> None:
    """Nor is the rest of one that is given up between two batches; the others are."""
    asked: list[int] = []
    text = "A long text about mills and rivers. " * 10
    requests = [
        labelled(
            f"{text}Number {number:03}?", "y", "n", whole=False, given_up=lambda: asked.append(1) or len(asked) > 30
        )
        for number in range(60)
    ]
    probabilities = tiny.label_probabilities([labelled("x", "a"), *requests])
    assert isinstance(probabilities[0], LabelScores)
    assert 0 < sum(isinstance(scores, GivenUp) for scores in probabilities) < 60


def test_figures_that_are_no_numbers_are_an_error_of_their_prompt(
    tiny: CTranslate2Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        logits = ([[float("nan")] * 300] * 9,)

    run = CTranslate2Generator._run
    monkeypatch.setattr(
        CTranslate2Generator, "_run",
        lambda self, prompts, rows, **options: [
            Broken() if prompt.index == 1 else result
            for prompt, result in zip(prompts, run(self, prompts, rows, **options), strict=True)
        ],
    )  # fmt: skip
    fine, broken = tiny.label_probabilities([labelled("x", "a", "b"), labelled("y", "a", "b")])
    assert isinstance(fine, LabelScores)
    assert isinstance(broken, UnusableLogits)


def test_a_folder_that_cannot_be_loaded_says_so(tiny_home: Path, tmp_path: Path) -> None:
    for path in (tiny_home / "models" / "tiny").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[: 100 if path.name == "model.bin" else None])
    with pytest.raises(ConfigurationError, match="pull or convert the model again"):
        CTranslate2Generator.load(tmp_path)


def test_a_tokenizer_of_another_model_is_refused(tiny_home: Path, tmp_path: Path) -> None:
    """It would turn every prompt into other words, and every answer too, without an error."""
    for path in (tiny_home / "models" / "tiny").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ConfigurationError, match=r"tokenizer.json is not this model's: its token \d+ is '.', in voc"):
        CTranslate2Generator.load(tmp_path)

"""Decisions: questions about one text, scored together, against as many jobs whose answer is held to the choices; and
a classifier against the language model, in jobs a second of processor time.
"""

import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from bench.ends import Say
from bench.report import Report, report, row
from headrace_producers.settings import DEFAULT_MODEL
from headrace_schemas import Message, Sampling
from headrace_schemas.decision import Choice, ChoiceOption, Predicate
from headrace_schemas.output_format import ChoiceFormat

if TYPE_CHECKING:
    from headrace_workers.models.generator import Generator

NAME = "decisions"
_TURNS: Final = 3
_PARAGRAPH: Final = (
    "The customer wrote that the parcel which was promised for Monday had still not come on Thursday, and that nobody "
    "answered the phone in the shop. She asks for her money, or for another pair of shoes in the same size. "
)
_TEXT: Final = (Message(role="user", content=_PARAGRAPH * 11),)  # about 500 tokens
_EMBEDDER: Final = "all-minilm-l6-v2"
_TEAMS: Final = ("delivery", "billing", "returns", "repairs", "sales", "account", "complaints", "press")
_THINGS: Final = ("lamp", "chair", "kettle", "clock", "carpet", "mirror", "tent", "violin")
_MOST_TOKENS: Final = 256  # of each answer of the full generation batch: the default of jobs


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """40 questions (2 when quick) about 500 tokens in turns with as many jobs, one question with one job, short jobs of
    one question for the model and for a classifier, and the peak memory of 400 (2). No service: `embedded` changes
    nothing.
    """
    import headrace_workers.wiring  # noqa: F401 - installs the engines
    from headrace_workers.models.engines.load_generator import load_generator
    from headrace_workers.models.pull import pull

    count, turns = (2, 1) if quick else (40, _TURNS)
    with tempfile.TemporaryDirectory() as folder:
        say(f"getting {DEFAULT_MODEL} and {_EMBEDDER}")
        pull(DEFAULT_MODEL, Path(folder))
        pull(_EMBEDDER, Path(folder))
        generator = load_generator(Path(folder), DEFAULT_MODEL)
        many, one = _questions(count), _questions(1)
        say(f"{count} questions and {count} jobs, {turns} times in turns")
        decided, chosen, alone, chosen_alone = _in_turns(
            turns,
            lambda: _decide(generator, many),
            lambda: _choose(generator, many),
            lambda: _decide(generator, one),
            lambda: _choose(generator, one),
        )
        say("the processor time of these questions, and of the tokens that they read")
        measured, predicted = _to_cost_model(generator, many, turns)
        jobs, classified = (4, 200) if quick else (32, 2_000)
        say(f"{jobs} jobs of one question by the model, and {classified:,} by a classifier")
        by_model, by_head = _a_cpu_second(generator, jobs), _a_cpu_second(_classifier(Path(folder)), classified)
        say("the peak memory of 400 questions and of a full batch of answers")
        peak = {what: _peak(Path(folder), what, 2 if quick else 400) for what in ("questions", "answers")}
    return report(
        NAME,
        f"{DEFAULT_MODEL} int8, no service",
        [
            row(f"{count} questions about 500 tokens", decided, "s"),
            row(f"{count} jobs with `choice`", chosen, "s"),
            row("jobs to questions", chosen / decided, "ratio", at_least=4.0),
            row("one question to one job", alone / chosen_alone, "ratio", at_most=1.25),
            row(f"processor time of {count} questions", measured, "s"),
            row("measured to the cost model (tokens read: the text once a batch, each question once)",
                measured / predicted, "ratio", at_most=1.25),
            row(f"jobs of one question with {len(_TEAMS)} choices, the model", by_model, "jobs/CPU s"),
            row("the same, a classifier", by_head, "jobs/CPU s"),
            row("classifier to the model", by_head / by_model, "ratio", at_least=50.0),
            row("peak memory, questions", peak["questions"], "MiB"),
            row("peak memory, questions to a full batch of answers", peak["questions"] / peak["answers"], "ratio",
                at_most=1.25),
        ],
    )  # fmt: skip


def _questions(count: int) -> tuple[Predicate, ...]:
    return tuple(
        Predicate(type="predicate", instructions=f"Customer number {number} is angry about the late parcel.")
        for number in range(count)
    )


def _in_turns(turns: int, *runs: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Return the median seconds of each of these, which run in turns."""
    taken: list[list[float]] = [[] for _ in runs]
    for _ in range(turns):
        for index, run in enumerate(runs):
            begun = clock()
            run()
            taken[index].append(clock() - begun)
    return [median(seconds) for seconds in taken]


def _decide(generator: "Generator", questions: tuple[Predicate, ...]) -> int:
    """Decide these questions about the text. Return how many tokens they count: those of the text once."""
    from headrace_workers.features.decisions.deciding import Decided, DecisionRequest, decide_all

    (decided,) = decide_all(generator, [DecisionRequest(_TEXT, questions, "shop")])
    assert isinstance(decided, Decided)
    return decided.prompt_tokens


def _choose(generator: "Generator", questions: tuple[Predicate, ...]) -> object:
    from headrace_workers.features.decisions.prompts import ask
    from headrace_workers.models.generator import Request

    asked = [ask(_TEXT, question) for question in questions]
    sampling = Sampling(temperature=0, max_tokens=8)
    return generator.generate(
        [Request(item.messages, sampling, "shop", output=ChoiceFormat(choices=item.labels)) for item in asked]
    )


def _to_cost_model(generator: "Generator", questions: tuple[Predicate, ...], turns: int) -> tuple[float, float]:
    """Return the processor seconds that these questions take, and those that the cost model predicts: the tokens that
    are read, at what one takes in a prompt of one question.
    """
    from headrace_workers.models.engines.labels import MOST_TOKENS

    measured, alone = _in_turns(
        turns,
        lambda: _decide(generator, questions),
        lambda: _decide(generator, questions[:1]),
        clock=time.process_time,
    )
    prompt, together = _decide(generator, questions[:1]), _decide(generator, questions)
    own = (together - prompt) / (len(questions) - 1)  # of a question, without the text
    batches = math.ceil(len(questions) / (MOST_TOKENS // prompt))
    return measured, alone / prompt * (batches * (prompt - own) + len(questions) * own)


def _a_cpu_second(generator: "Generator", count: int) -> float:
    """Return how many jobs a generator decides in a second of processor time: each asks one question about a short text
    of its own.
    """
    from headrace_workers.features.decisions.deciding import Decided, DecisionRequest, decide_all

    choices = tuple(ChoiceOption(value=team) for team in _TEAMS)
    question = Choice(type="choice", name="team", instructions="Which team should read this?", choices=choices)
    texts = [
        f"Order {number} was to be a {_THINGS[number % 8]}, and it came broken and late." for number in range(count)
    ]
    requests = [DecisionRequest((Message(role="user", content=text),), (question,), "shop") for text in texts]
    decide_all(generator, requests[:2])
    begun = time.process_time()
    found = decide_all(generator, requests)
    taken = time.process_time() - begun
    assert all(isinstance(decided, Decided) for decided in found)
    return count / taken


def _classifier(home: Path) -> "Generator":
    """Return a classifier of the question that answers always. What it learnt does not change how long it takes."""
    import numpy as np

    from headrace_workers.features.classifiers.card import Card
    from headrace_workers.features.classifiers.generator import ClassifierGenerator
    from headrace_workers.features.classifiers.novelty import KEPT_ROWS, Novelty
    from headrace_workers.models.embedders.load_embedder import load_embedder
    from headrace_workers.models.heads import Head

    embedder = load_embedder(home, _EMBEDDER)
    card = Card(
        question="team", labels=_TEAMS, none=False, embedder=_EMBEDDER, threshold=0.0,
        least_logit=-1e9, agreement=0, agreement_bound=0, rows=0, held_out=0, served=0, agreed=0, right=0,
        foreign=0, calibration_error=0, calibrated=False, data_sha256="", seed=0,
    )  # fmt: skip
    random, size = np.random.default_rng(0), embedder.dimensions
    weights = random.normal(size=(len(_TEAMS), size)).astype(np.float32)
    rows = random.normal(size=(KEPT_ROWS, size)).astype(np.float32)
    scale = np.array([0, 1, 0, 1, 1e9], np.float32)  # no text is foreign
    novelty = Novelty(np.zeros(size, np.float32), np.eye(size, dtype=np.float32), rows, scale)
    return ClassifierGenerator(
        "team", card, Head(embedder.id, weights, np.zeros(len(_TEAMS), np.float32)), novelty, embedder
    )


def _peak(home: Path, what: str, count: int) -> float:
    """Return the peak memory of a process that computes this, in MiB."""
    command = [sys.executable, "-m", "bench.decisions", str(home), what, str(count)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _compute(home: Path, what: str, count: int) -> None:
    import headrace_workers.wiring  # noqa: F401 - installs the engines
    from headrace_workers.core.machine import peak_memory
    from headrace_workers.models.engines.load_generator import load_generator
    from headrace_workers.models.generator import Request

    generator = load_generator(home, DEFAULT_MODEL)
    if what == "questions":
        _decide(generator, _questions(count))
    else:  # as many rows of as many tokens as a batch holds, each with an answer of the default length
        words = Message(role="user", content="Tell a long story about a mill and a river. " * 10)
        sampling = Sampling(temperature=0, max_tokens=_MOST_TOKENS, repetition_penalty=1)
        generator.generate([Request((words,), sampling) for _ in range(min(count, 16 * generator.parallel))])
    print(peak_memory() / 2**20)


if __name__ == "__main__":
    _compute(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))

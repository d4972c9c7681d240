"""Decisions: questions about one text, scored together, against as many jobs whose answer is held to the choices."""

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
from headrace_schemas.decision import Predicate
from headrace_schemas.output_format import ChoiceFormat

if TYPE_CHECKING:
    from headrace_workers.features.generation.generator import Generator

NAME = "decisions"
_TURNS: Final = 3
_PARAGRAPH: Final = (
    "The customer wrote that the parcel which was promised for Monday had still not come on Thursday, and that nobody "
    "answered the phone in the shop. She asks for her money, or for another pair of shoes in the same size. "
)
_TEXT: Final = (Message(role="user", content=_PARAGRAPH * 11),)  # about 500 tokens
_MOST_TOKENS: Final = 256  # of each answer of the full generation batch: the default of jobs


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """40 questions (8 when quick) about 500 tokens in turns with as many jobs, one question with one job, and the peak
    memory of 400. No service: `embedded` changes nothing.
    """
    import headrace_workers.wiring  # noqa: F401 - installs the engines
    from headrace_workers.features.generation.engines.load_generator import load_generator
    from headrace_workers.features.generation.models.pull import pull

    count, turns = (8, 1) if quick else (40, _TURNS)
    with tempfile.TemporaryDirectory() as folder:
        say(f"getting {DEFAULT_MODEL}")
        pull(DEFAULT_MODEL, Path(folder))
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
        read, steps = _cost(generator, turns)
        tokens, labels = _counted(generator, many)
        say("the peak memory of 400 questions and of a full batch of answers")
        peak = {what: _peak(Path(folder), what, 40 if quick else 400) for what in ("questions", "answers")}
    return report(
        NAME,
        f"{DEFAULT_MODEL} int8, no service",
        [
            row(f"{count} questions about 500 tokens", decided, "s"),
            row(f"{count} jobs with `choice`", chosen, "s"),
            row("jobs to questions", chosen / decided, "ratio", at_least=4.0),
            row("one question to one job", alone / chosen_alone, "ratio", at_most=1.25),
            row("measured to the cost model (tokens read, label steps)", decided / (tokens * read + labels * steps),
                "ratio", at_most=1.25),
            row("cost model: a token that is read", read * 1000, "ms"),
            row("cost model: a step of a label", steps * 1000, "ms"),
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


def _in_turns(turns: int, *runs: Callable[[], object]) -> list[float]:
    """Return the median seconds of each of these, which run in turns."""
    taken: list[list[float]] = [[] for _ in runs]
    for _ in range(turns):
        for index, run in enumerate(runs):
            begun = time.perf_counter()
            run()
            taken[index].append(time.perf_counter() - begun)
    return [median(each) for each in taken]


def _decide(generator: "Generator", questions: tuple[Predicate, ...]) -> object:
    from headrace_workers.features.decisions.deciding import DecisionRequest, decide_all

    return decide_all(generator, [DecisionRequest(_TEXT, questions, "shop")])


def _choose(generator: "Generator", questions: tuple[Predicate, ...]) -> object:
    from headrace_workers.features.decisions.prompts import ask
    from headrace_workers.features.generation.generator import Request

    asked = [ask(_TEXT, question) for question in questions]
    sampling = Sampling(temperature=0, max_tokens=8)
    return generator.generate(
        [Request(each.messages, sampling, "shop", output=ChoiceFormat(choices=each.labels)) for each in asked]
    )


def _counted(generator: "Generator", questions: tuple[Predicate, ...]) -> tuple[int, int]:
    """Return how many tokens these questions read, and how many tokens of labels."""
    from headrace_workers.features.decisions.deciding import Decided

    (decided,) = _decide(generator, questions)  # type: ignore[misc]
    assert isinstance(decided, Decided)
    return decided.prompt_tokens, decided.completion_tokens


def _cost(generator: "Generator", turns: int) -> tuple[float, float]:
    """Return the seconds of a token that is read, and of a step of a label, from questions about the same text."""
    from headrace_workers.features.generation.generator import LabelRequest

    few, more = ("Yes",), ("Yes", "No", "Maybe", "True", "False", "Good", "Bad", "Often")
    (short, long) = _in_turns(
        turns + 2,
        lambda: generator.label_probabilities([LabelRequest(_TEXT, few, whole=False)]),
        lambda: generator.label_probabilities([LabelRequest(_TEXT, more)]),
    )
    (read,), (steps,) = (generator.label_probabilities([LabelRequest(_TEXT, more)]) for _ in range(2))
    return short / read.prompt_tokens, max(0.0, long - short) / steps.label_tokens  # type: ignore[union-attr]


def _peak(home: Path, what: str, count: int) -> float:
    """Return the peak memory of a process that computes this, in MiB."""
    command = [sys.executable, "-m", "bench.decisions", str(home), what, str(count)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _compute(home: Path, what: str, count: int) -> None:
    import headrace_workers.wiring  # noqa: F401 - installs the engines
    from headrace_workers.core.machine import peak_memory
    from headrace_workers.features.generation.engines.load_generator import load_generator
    from headrace_workers.features.generation.generator import Request

    generator = load_generator(home, DEFAULT_MODEL)
    if what == "questions":
        _decide(generator, _questions(count))
    else:  # as many rows of as many tokens as a batch holds, each with an answer of the default length
        words = Message(role="user", content="word " * 90)
        sampling = Sampling(temperature=0, max_tokens=_MOST_TOKENS, repetition_penalty=1)
        generator.generate([Request((words,), sampling) for _ in range(16 * generator.parallel)])
    print(peak_memory() / 2**20)


if __name__ == "__main__":
    _compute(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))

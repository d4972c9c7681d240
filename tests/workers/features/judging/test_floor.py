"""A floor under quality: a job's whole way through the real stages, with what was tried, and its receipt."""

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from tests.workers.core.pipeline.claimed import NOW, row
from tests.workers.features.judging.judge_model import JudgeModel, Probabilities, Prompt

from headrace_schemas import (
    Category,
    Contains,
    Cosine,
    GenerationJob,
    HeadraceError,
    MinQuality,
    NotJudged,
    Result,
    Rubric,
    TokenF1,
)
from headrace_schemas.codec import decode_value, encode_value
from headrace_schemas.errors import PromptTooLong, Unavailable
from headrace_schemas.recall import CacheMode
from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.leases import Started
from headrace_workers.core.ledger.outcome import Done, Ended, Held, Retry
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.settle import Conditions, settle, task_of
from headrace_workers.core.tables import RELEASED
from headrace_workers.features.cache.step import mode_of
from headrace_workers.features.generation.stage import generate
from headrace_workers.features.judging.ground_step import ground_answers
from headrace_workers.features.judging.stage import judge
from headrace_workers.features.moderation.blocklist import BlocklistDetector
from headrace_workers.features.moderation.moderator import PolicyModerator
from headrace_workers.features.moderation.policy import Policy, Rule
from headrace_workers.features.moderation.step import moderate
from headrace_workers.models.embedders.hashed import HashEmbedder
from headrace_workers.models.engines.echo import EchoGenerator
from headrace_workers.models.generator import Completion, Request

WATER = Contains(text="water")
ASKED = "Why did the mill stand still?"


class Scripted(EchoGenerator):
    """Gives these answers, one after the other, and remembers what it was asked."""

    def __init__(self, *answers: str | HeadraceError) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[Request] = []

    def generate(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
        self.asked += requests
        return [
            answer if isinstance(answer, HeadraceError) else Completion(answer, "stop", 10, len(answer.split()))
            for answer in (self.answers.pop(0) for _ in requests)
        ]


class Way:
    """One job on its way: each stage is run and settled as a worker does it. `attempts` is that of each step."""

    def __init__(self, job: GenerationJob, model: EchoGenerator, judge_model: JudgeModel | None = None) -> None:
        self.pipeline = Pipeline(judge_model="judge")
        self.steps: dict[str, Callable[..., Sequence[Any]]] = {
            "generate": partial(generate, generator=model),
            "moderate": partial(moderate, moderator=PolicyModerator([], Policy({}))),
            "rubric": partial(judge, generator=judge_model),
            "judge": judge,
        }
        self.row = row(job_payload=encode_value(job))
        self.stage = "generate"
        self.passed: list[tuple[str, int]] = []
        self.ids: list[str] = []

    def once(self, **changes: Any) -> StepResult:
        now = row(**{**self.row._asdict(), **changes})
        task = task_of(now)
        self.passed.append((self.stage, now.ordinal))
        (outcome,) = self.steps[self.stage]([task])
        started = Started(1, "q", self.stage, "g", False, 12, NOW, (now,))
        settled = settle(started, now, task, outcome, Conditions(self.pipeline, 3, random.Random(1), ran_ms=1.0))
        if isinstance(outcome, Done | Ended):
            self.ids += [record.headers["ce_id"] for record in settled.records]
        for step in settled.following:
            self.stage = step.stage
            self.row = row(
                job_payload=self.row.job_payload, ordinal=step.ordinal, event_type=step.event_type,
                payload=step.payload, context=step.context,
            )  # fmt: skip
        return settled

    def until_it_stays(self, **changes: Any) -> StepResult:
        """On, until there is no next stage."""
        settled = self.once(**changes)
        while settled.following:
            settled = self.once(**changes)
        return settled

    def end(self, **changes: Any) -> Result:
        settled = self.until_it_stays(**changes)
        assert settled.end is not None
        value = decode_value("headrace.result.v1", settled.end.value)
        assert isinstance(value, Result)
        return value


def job(*criteria: Any, **floor: Any) -> GenerationJob:
    asked = {"criterion": criteria[0].key, "value": 1.0, **floor}
    return GenerationJob(
        model="echo", prompt=ASKED, tenant="shop", criteria=criteria, min_quality=MinQuality.model_validate(asked)
    )


def told(result: Result) -> tuple[str, list[float | None], int]:
    floor = result.judge.floor
    assert floor is not None
    return floor.outcome, [attempt.value for attempt in floor.attempts], floor.chosen


def test_an_answer_that_meets_its_floor_goes_out() -> None:
    """With what the receipt says of it, and nothing else."""
    way = Way(job(WATER), Scripted("It lacked water."))
    result = way.end()
    assert told(result) == ("met", [1.0], 1)
    assert way.passed == [("generate", 0), ("moderate", 0), ("judge", 0)]
    assert result.answer is not None
    assert result.answer.usage.completion_tokens == 3


def test_an_answer_below_is_made_again_with_what_is_wrong() -> None:
    model = Scripted("No idea.", "It lacked water.")
    way = Way(job(WATER), model)
    result = way.end()
    assert told(result) == ("met", [0.0, 1.0], 2)
    assert result.answer is not None
    assert result.answer.text == "It lacked water."
    assert (result.answer.usage.prompt_tokens, result.answer.usage.completion_tokens) == (20, 5)
    assert way.passed == [(stage, n) for n in (0, 1) for stage in ("generate", "moderate", "judge")]
    assert [stage.stage for stage in result.stages] == ["generate", "moderate", "judge"] * 2
    first, second = ([(message.role, message.content) for message in request.messages] for request in model.asked)
    assert first == [("user", ASKED)]
    assert second[:2] == [("user", ASKED), ("assistant", "No idea.")]
    role, critique = second[2]
    assert role == "user"
    assert critique.startswith('That answer was scored 0.00 of 1. What counts is this: It must contain "water".')
    assert len(way.ids) == len(set(way.ids)) == 4


@pytest.mark.parametrize(("attempts", "answers"), [(1, 2), (3, 4)])
def test_the_best_of_all_answers_goes_out(attempts: int, answers: int) -> None:
    scores = TokenF1()
    texts = ["the mill stood", "the mill", "the mill stood", "x"][:answers]
    asked = job(scores, value=0.99, attempts=attempts).model_copy(update={"reference": "the mill stood still"})
    model = Scripted(*texts)
    result = Way(asked, model).end()
    outcome, values, chosen = told(result)
    assert (outcome, len(values), chosen) == ("below", answers, 1)
    assert result.answer is not None
    assert result.answer.text == texts[0]
    assert result.judge.scores[0].value == values[0]
    assert model.answers == []
    assert all("the mill stood still" not in request.messages[-1].content for request in model.asked)


def test_a_poor_answer_may_be_accepted() -> None:
    result = Way(job(WATER, then="accept"), Scripted("No idea.")).end()
    assert told(result) == ("below", [0.0], 1)


def test_a_poor_answer_may_be_held_for_a_person() -> None:
    way = Way(job(WATER, then="hold"), Scripted("No idea."))
    settled = way.until_it_stays()
    assert isinstance(settled.outcome, Held)
    assert settled.outcome.reason == "its score by contains is 0, and the job wants 1 or a person's word"
    result = way.end(woken_by=RELEASED)
    assert told(result) == ("below", [0.0], 1)
    assert Way(job(WATER, then="hold"), Scripted("Water.")).end().status == "completed"


def test_what_cannot_be_judged_goes_out_and_says_so() -> None:
    """A judge that answers nonsense is no reason to ask for ever."""
    nonsense = JudgeModel(lambda prompt, choices: (float("nan"),) * len(choices))
    result = Way(job(Rubric(question="Kind?", name="kind")), Scripted("No."), nonsense).end()
    assert told(result) == ("not_judged", [None], 1)
    assert result.judge.floor is not None
    assert result.judge.floor.attempts[0].not_judged is NotJudged.UNANSWERED
    assert told(Way(job(Rubric(question="Kind?"), then="accept"), Scripted("No."), nonsense).end())[0] == "not_judged"


def test_what_cannot_be_judged_is_held_where_a_person_is_to_decide() -> None:
    nonsense = JudgeModel(lambda prompt, choices: (0.0,) * len(choices))
    way = Way(job(Rubric(question="Kind?", name="kind"), then="hold", value=0.5), Scripted("No."), nonsense)
    settled = way.until_it_stays()
    assert isinstance(settled.outcome, Held)
    wanted = "it could not be judged by kind (unanswered), and the job wants 0.5 or a person's word"
    assert settled.outcome.reason == wanted
    assert settled.records
    assert told(way.end(woken_by=RELEASED)) == ("not_judged", [None], 1)

    away = JudgeModel(lambda prompt, choices: Unavailable("not now"))
    way = Way(job(Rubric(question="Kind?"), then="hold"), Scripted("No."), away)
    assert isinstance(way.until_it_stays().outcome, Retry)
    settled = way.until_it_stays(attempts=3)
    assert isinstance(settled.outcome, Held)
    assert "(failed)" in settled.outcome.reason
    assert "not now" not in settled.outcome.reason  # status shows it, and a provider's words may quote the text
    assert "given up: not now" in str(settled.outcome.known)  # the reviewer sees the score


@pytest.mark.parametrize("then", ["hold", "regenerate", "accept"])
def test_what_moderation_withheld_is_not_held_for_its_quality(then: str) -> None:
    way = Way(job(WATER, then=then), Scripted("No idea."))
    blocked = PolicyModerator([BlocklistDetector(["idea"])], Policy({"blocklist": Rule("block")}))
    way.steps["moderate"] = partial(moderate, moderator=blocked)
    result = way.end()
    assert (result.status, told(result)) == ("blocked", ("not_judged", [None], 1))


def test_a_second_answer_that_cannot_be_judged_is_not_better() -> None:
    """The first one, which could, goes out."""

    def answer(prompt: Prompt, choices: Sequence[str]) -> Probabilities:
        return (0.1, 0.1, 0.4, 0.4) if "First" in prompt[-1].content else (0.0,) * 4

    result = Way(job(Rubric(question="Kind?")), Scripted("First.", "Then."), JudgeModel(answer)).end()
    assert told(result) == ("below", [pytest.approx(0.2), None], 1)
    assert result.answer is not None
    assert result.answer.text == "First."


def test_what_was_found_of_one_answer_is_not_said_of_the_next() -> None:
    asked = job(Cosine(reference="It lacked water."), value=0.99)
    way = Way(asked, Scripted("No idea.", "It lacked water."))
    looks = [partial(ground_answers, embedder=HashEmbedder), lambda tasks: [Done() for _ in tasks]]

    def ground(tasks: Sequence[Any]) -> Sequence[Any]:
        return looks.pop(0)(tasks)

    way.steps["ground"] = ground
    result = way.end()
    assert result.judge.floor is not None
    first, second = result.judge.floor.attempts
    assert first.value is not None
    assert (second.value, second.not_judged, looks) == (None, NotJudged.NO_WORKER, [])


def test_the_answer_of_before_goes_out_where_none_can_be_made() -> None:
    way = Way(job(WATER), Scripted("No idea.", PromptTooLong("the prompt does not fit")))
    result = way.end()
    assert told(result) == ("below", [0.0], 1)
    assert result.judge.floor is not None
    assert result.judge.floor.note == "it could not be made again: the prompt does not fit"
    assert result.answer is not None
    assert (result.answer.text, result.answer.usage.prompt_tokens) == ("No idea.", 10)


def test_a_model_that_is_away_is_waited_for_and_then_done_without() -> None:
    way = Way(job(WATER), Scripted("No idea.", Unavailable("not now"), Unavailable("not now")))
    while way.stage != "generate" or not way.passed:
        way.once()
    while way.stage != "generate":
        way.once()
    assert isinstance(way.once().outcome, Retry)
    result = way.end(attempts=3)
    assert told(result) == ("below", [0.0], 1)


def test_the_longest_answers_go_on_whole() -> None:
    long = ["\n\u0001" * 100_000, "🙂" * 200_000, "x" * 200_000, "water" * 40_000]
    result = Way(job(WATER, attempts=3), Scripted(*long)).end()
    assert told(result) == ("met", [0.0, 0.0, 0.0, 1.0], 4)


def test_an_answer_with_a_floor_is_not_looked_up() -> None:
    """It may be made again, and poor ones are nobody else's."""
    assert mode_of(job(WATER), CacheMode.SEMANTIC) is CacheMode.OFF


class Several(Scripted):
    """Answers in the name of one model after the other."""

    def __init__(self, names: Sequence[str], *answers: str | HeadraceError) -> None:
        super().__init__(*answers)
        self._names = names

    @property
    def alias(self) -> str:
        return self._names[max(0, len(self.asked) - 1)]


def chained(*models: str) -> GenerationJob:
    return job(WATER, then="next").model_copy(update={"model": models})


def test_an_answer_below_its_floor_counts_as_a_failure_of_its_model() -> None:
    model = Several(("a", "b"), "No idea.", "It lacked water.")
    result = Way(chained("a", "b"), model).end()
    assert told(result) == ("met", [0.0, 1.0], 2)
    assert [len(request.messages) for request in model.asked] == [1, 1]
    assert result.answer is not None
    assert result.answer.model == "b"
    first, second = result.answer.attempts
    assert (first.model, first.category, first.reason) == (
        "a", Category.REROUTABLE, "its score by contains is 0, below 1",
    )  # fmt: skip
    assert (second.model, second.category) == ("b", None)
    assert first.usage is not None
    assert (first.usage.prompt_tokens, first.usage.completion_tokens) == (10, 2)


def test_behind_the_last_model_the_best_answer_goes_out() -> None:
    model = Several(("a", "b", "c"), "No idea.", "None.", "Never.")
    result = Way(chained("a", "b", "c"), model).end()
    assert told(result) == ("below", [0.0, 0.0, 0.0], 1)
    assert len(model.asked) == 3
    assert Pipeline().most_tokens(chained("a", "b", "c"), 100) > Pipeline().most_tokens(chained("a"), 100)

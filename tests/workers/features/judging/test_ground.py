from typing import Any

import pytest
from tests.workers.features.judging.test_judge import ACCEPTED, JOB_ID, generation, moderated_task

from headrace_schemas import Cosine, EvaluationJob, Grounded, NotJudged, Result, Score
from headrace_schemas.errors import ConfigurationError, Unavailable
from headrace_workers.core.ledger.outcome import Done, Ended, Outcome, Retry
from headrace_workers.core.pipeline.task import Task
from headrace_workers.features.judging.ground_step import ground_answers
from headrace_workers.features.judging.scores import EMBEDDED, from_context
from headrace_workers.features.judging.stage import judge
from headrace_workers.features.knowledge.chunking import Chunk
from headrace_workers.features.knowledge.prompt import Passage, user_turn
from headrace_workers.models.embedders.embedder import CountingEmbedder
from headrace_workers.models.embedders.hashed import HashEmbedder

SAID = "It opens at 9. It closes at 17."


def evaluated(output: str = SAID, hints: bool = False, **fields: Any) -> Task:
    job = EvaluationJob(input="When?", output=output, criteria=(Grounded(hints=hints),), **fields)
    return Task(JOB_ID, job, job, ACCEPTED)


def score(task: Task, outcome: Outcome) -> Score:
    assert isinstance(outcome, Done)
    (ended,) = judge([Task(task.job_id, task.job, task.event, ACCEPTED, context={**task.context, **outcome.context})])
    assert isinstance(ended, Ended)
    assert isinstance(ended.event, Result)
    assert ended.event.judge is not None
    (found,) = ended.event.judge.scores
    return found


def looked_up(task: Task) -> Score:
    (outcome,) = ground_answers([task], embedder=HashEmbedder)
    return score(task, outcome)


def test_an_evaluation_is_looked_up_in_its_context() -> None:
    found = looked_up(evaluated(context="The mill opens at 9. Entry is free."))
    assert (found.criterion, found.value) == ("grounded", 0.5)
    assert found.unsupported is not None
    assert [(unsupported.start, unsupported.stop) for unsupported in found.unsupported] == [(15, len(SAID))]
    assert "17" in found.unsupported[0].reason


@pytest.mark.parametrize("hints", [False, True])
def test_hints_are_listed_where_a_criterion_asks_for_them(hints: bool) -> None:
    context = "The mill is open on Monday. Entry is free."
    found = looked_up(evaluated("The mill is not open on Monday.", hints=hints, context=context))
    assert found.value == 1.0
    assert [unsupported.checked for unsupported in found.unsupported or ()] == [False] * hints


def test_a_criterion_with_a_name_has_it_in_its_score() -> None:
    criterion = Grounded(name="stands_there")
    job = EvaluationJob(input="When?", output=SAID, context="It opens at 9.", criteria=(criterion,))
    found = looked_up(Task(JOB_ID, job, job, ACCEPTED))
    assert (found.name, found.version) == ("stands_there", criterion.version)


def test_a_generation_is_looked_up_in_its_passages_alone() -> None:
    turn = user_turn("Does it close at 17?", [Passage(Chunk("id", "doc 17", "", (0, 9), "It opens at 9."), 1.0)])
    task = moderated_task(generation(Grounded(), prompt="Does it close at 17?", knowledge="mill"), SAID, "allow")
    found = looked_up(Task(task.job_id, task.job, task.event, ACCEPTED, context={"knowledge": {"turn": turn}}))
    assert (found.value, len(found.unsupported or ())) == (0.5, 1)


def test_a_generation_without_a_base_is_looked_up_in_its_prompt() -> None:
    task = moderated_task(generation(Grounded(), prompt="It opens at 9. It closes at 17. When?"), SAID, "allow")
    assert looked_up(task).value == 1.0


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (evaluated(), "the job gave no context to look it up in"),
        (evaluated("Why?", context="x"), "the answer says nothing that could be looked up"),
        (
            moderated_task(generation(Grounded(), knowledge="mill"), SAID, "allow"),
            "no passage was given to the model, or the answer was known already",
        ),
        (moderated_task(generation(Grounded()), None, "block"), "the output was blocked by moderation"),
    ],
)
def test_what_cannot_be_looked_up_has_a_reason(task: Task, reason: str) -> None:
    found = looked_up(task)
    assert (found.value, found.reason) == (None, reason)


def test_a_job_that_passed_the_stage_by_has_a_reason() -> None:
    assert "role recall" in str(score(evaluated(context="x"), Done()).reason)
    compared = beside("the mill", "the mill")
    found = score(compared, Done())
    assert (found.not_judged, "role recall" in str(found.reason)) == (NotJudged.NO_WORKER, True)
    assert score(beside("the mill", None), Done()).not_judged is NotJudged.NO_REFERENCE


def beside(output: str, of_job: str | None, **of: Any) -> Task:
    job = EvaluationJob(input="?", output=output, reference=of_job, criteria=(Cosine(name="like", **of),))
    return Task(JOB_ID, job, job, ACCEPTED)


def test_an_answer_is_held_to_its_reference_by_their_vectors() -> None:
    found = looked_up(beside("the mill stood still", "the mill stood still"))
    assert (found.criterion, found.name, found.value) == ("cosine", "like", pytest.approx(1.0, abs=1e-5))
    ours, theirs = HashEmbedder().embed(["the mill stood still", "the mill was sold"])
    near = looked_up(beside("the mill stood still", "x", reference="the mill was sold"))
    assert near.value == pytest.approx(float(ours @ theirs), abs=1e-6)
    assert all((looked_up(beside("a", text)).value or 0.0) >= 0 for text in "bcdefgh")
    assert looked_up(beside("a", None)).not_judged is NotJudged.NO_REFERENCE


def test_what_the_embedder_does_not_read_whole_has_no_cosine() -> None:
    """Be it the answer or the reference: what was not read would have no part in the figure."""
    long = "mill " * 100_000
    for task in (beside(long[:200_000], "x"), beside("x", long[:200_000])):
        found = looked_up(task)
        assert found.not_judged is NotJudged.TOO_LONG
        assert "tokens, and the embedder reads" in str(found.reason)


def test_two_criteria_have_a_score_each_and_what_is_not_drawn_has_none() -> None:
    wanted = (Cosine(reference="the mill"), Grounded(), Cosine(reference="sold", share=1e-9))
    job = EvaluationJob(input="?", output="the mill", context="the mill", criteria=wanted)
    task = Task(JOB_ID, job, job, ACCEPTED)
    (outcome,) = ground_answers([task], embedder=HashEmbedder)
    assert isinstance(outcome, Done)
    assert from_context(EMBEDDED, outcome.context).keys() == {0, 1}


def test_an_embedder_that_is_away_is_asked_again_and_one_that_is_not_there_is_a_reason() -> None:
    def away() -> CountingEmbedder:
        raise Unavailable("the embedder is being loaded")

    def missing() -> CountingEmbedder:
        raise ConfigurationError("no embedder is called x: pull it")

    task = evaluated(context="It opens at 9.")
    (outcome,) = ground_answers([task], embedder=away)
    assert isinstance(outcome, Retry)
    assert isinstance(outcome.otherwise, Done)
    assert score(task, outcome.otherwise).reason == "the embedder is being loaded"
    (outcome,) = ground_answers([task], embedder=missing)
    assert score(task, outcome).reason == "no embedder is called x: pull it"

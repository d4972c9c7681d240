from dataclasses import replace
from typing import Any

import pytest
from tests.workers.core.pipeline.claimed import outcome_settled, settled
from tests.workers.features.generation.test_stage import Model, completion, task
from tests.workers.runtime.bridge.records import generation

from headrace_schemas import Category, GenerationJob, HeadraceError, Output, Sampling, Usage
from headrace_schemas.codec import encode_value
from headrace_schemas.errors import PromptTooLong, Unparsable
from headrace_schemas.output_format import JsonSchemaFormat
from headrace_workers.core.ledger.outcome import Dead, Done, Outcome, Retry, Unanswered
from headrace_workers.core.pipeline.chain import TRIED, Link, pin, tried_in
from headrace_workers.core.pipeline.stage import model_queue
from headrace_workers.core.pipeline.task import Task, pack
from headrace_workers.features.generation.attempt import objected, passed_on
from headrace_workers.features.generation.stage import generate
from headrace_workers.models.generator import Abstained, Completion

TREE = JsonSchemaFormat(
    json_schema={"type": "object", "properties": {"tall": {"type": "integer"}}, "required": ["tall"]}
)
VALID, INVALID = '{"tall": 3}', '{"tall": "three"}'
CUT = replace(completion('{"tall": '), finish_reason="length")


def asking(**changes: Any) -> GenerationJob:
    """Return a job that asks the model `small` for a tree."""
    return generation(**{"model": "small", "output": TREE, **changes})


def outcome_of_one(job: GenerationJob, answer: Completion | HeadraceError, **changes: Any) -> Outcome:
    asked = replace(task(job), **changes)
    (outcome,) = generate([asked], generator=Model(answer))
    return outcome_settled(outcome, asked) if isinstance(outcome, Unanswered) else outcome


def retried(outcome: Outcome) -> Task:
    assert isinstance(outcome, Retry)
    return replace(task(asking()), context=outcome.context)


def test_an_answer_with_its_format_is_an_output() -> None:
    model = Model(completion(VALID))
    (done,) = generate([task(asking())], generator=model)
    assert isinstance(done, Done)
    assert model.calls[0][0].output == TREE
    assert "JSON Schema" in model.calls[0][0].messages[-1].content


def test_a_model_repairs_its_answer_once() -> None:
    retry = outcome_of_one(asking(), completion(INVALID))
    assert isinstance(retry, Retry)
    assert retry.category != Category.REROUTABLE
    assert retry.more_tokens == 2 + 256
    model = Model(completion(VALID))
    (done,) = generate([retried(retry)], generator=model)
    *_, question, shown, objection = model.calls[0][0].messages
    assert (question.role, shown.role, shown.content) == ("user", "assistant", INVALID)
    assert "integer" in objection.content
    assert "(at /tall)" in objection.content
    assert isinstance(done, Done)
    assert done.context["repair"] is None


def test_a_prompt_that_is_too_long_to_repair_an_answer_is_asked_without_it() -> None:
    retry = outcome_of_one(asking(), completion(INVALID))
    assert isinstance(retry, Retry)
    again = outcome_of_one(asking(), PromptTooLong("too long"), context=retry.context)
    assert isinstance(again, Retry)
    assert again.context["repair"] is None
    assert isinstance(outcome_of_one(asking(), PromptTooLong("too long"), context=again.context), Dead)


@pytest.mark.parametrize("text", ["", "x" * 4_001])
def test_an_answer_that_cannot_be_shown_is_not_repaired(text: str) -> None:
    assert isinstance(outcome_of_one(asking(), completion(text)), Dead)


def test_an_unparsable_answer_ends_the_job_with_its_failure_and_place() -> None:
    """Where the context does not hold the answer and its repair, a greedy model would write the same again."""
    dead = outcome_of_one(asking(sampling=Sampling(max_tokens=2_000)), completion(INVALID))
    assert isinstance(dead, Dead)
    assert (dead.failure, dead.place) == ("unparsable", "/tall")
    assert (dead.category, dead.usage) == (Category.REROUTABLE, Usage(prompt_tokens=7, completion_tokens=2))
    assert "integer" in dead.reason


def test_the_tokens_of_an_answer_that_its_model_gave_up_are_charged() -> None:
    usage = Usage(prompt_tokens=9, completion_tokens=4)
    dead = outcome_of_one(asking(), Unparsable("its grammar takes too long", usage=usage))
    assert isinstance(dead, Dead)
    assert dead.usage == usage


def test_the_next_model_of_a_chain_is_asked_at_once() -> None:
    retry = outcome_of_one(asking(model=("small", "large")), completion(INVALID))
    assert isinstance(retry, Retry)
    assert (retry.category, retry.failure, retry.place) == (Category.REROUTABLE, "unparsable", "/tall")
    assert retry.context["repair"]["turns"][0] == {"role": "assistant", "content": INVALID}
    (tried,) = tried_in(retry.context)
    assert (tried.model, tried.failure) == ("small", "unparsable")
    assert tried.usage == Usage(prompt_tokens=7, completion_tokens=2)


def test_a_model_that_draws_its_tokens_is_asked_once_more() -> None:
    job = asking(sampling=Sampling(temperature=0.7, max_tokens=2_000))
    retry = outcome_of_one(job, completion(INVALID))
    assert isinstance(retry, Retry)
    assert retry.category != Category.REROUTABLE
    dead = outcome_of_one(job, completion(INVALID), context=retry.context)
    assert isinstance(dead, Dead)
    assert dead.failure == "unparsable"
    assert "tried before: small" in dead.reason


def test_a_seeded_model_is_not_asked_again() -> None:
    """It would draw the same tokens, where there is no room to show it its answer."""
    job = asking(sampling=Sampling(temperature=0.7, seed=1, max_tokens=2_000))
    assert isinstance(outcome_of_one(job, completion(INVALID)), Dead)


def test_an_answer_that_was_cut_off_is_written_again_with_twice_the_room() -> None:
    retry = outcome_of_one(asking(sampling=Sampling(max_tokens=100)), CUT)
    assert isinstance(retry, Retry)
    assert (retry.failure, retry.more_tokens) == ("truncated", 100)
    model = Model(completion(VALID))
    (done,) = generate([retried(retry)], generator=model)
    assert model.calls[0][0].sampling.max_tokens == 200
    assert isinstance(done, Done)
    assert done.context["room"] is None  # an answer that is asked for later has the usual room


def test_an_answer_is_cut_off_twice_at_most() -> None:
    job = asking(sampling=Sampling(max_tokens=100))
    first = outcome_of_one(job, CUT)
    assert isinstance(first, Retry)
    second = outcome_of_one(job, CUT, context=first.context)
    assert isinstance(second, Dead)
    assert second.failure == "truncated"


def test_an_answer_that_was_closed_is_written_again_once() -> None:
    """It has its format, though its tokens ran out: with twice the room it may be whole. Without it, it goes on."""
    job, closed = asking(sampling=Sampling(max_tokens=100)), replace(completion(VALID), finish_reason="length")
    first = outcome_of_one(job, closed)
    assert isinstance(first, Retry)
    assert (first.failure, first.more_tokens) == ("truncated", 100)
    assert isinstance(first.otherwise, Done)
    assert first.otherwise.context["room"] is None
    for second in (outcome_of_one(job, closed, context=first.context), outcome_of_one(job, closed, seconds_left=0.0)):
        assert isinstance(second, Done)
        assert isinstance(second.event, Output)
        assert (second.event.answer.text, second.event.answer.finish_reason) == (VALID, "length")


def test_a_second_model_begins_with_the_usual_room() -> None:
    job = asking(model=("small", "large"), sampling=Sampling(max_tokens=100))
    first = outcome_of_one(job, CUT)
    assert isinstance(first, Retry)
    assert first.category != Category.REROUTABLE
    second = outcome_of_one(job, CUT, context=first.context)
    assert isinstance(second, Retry)
    assert (second.category, second.context["room"], second.more_tokens) == (Category.REROUTABLE, None, 0)


def test_more_room_is_bounded_by_the_context() -> None:
    retry = outcome_of_one(asking(sampling=Sampling(max_tokens=1500)), CUT)
    assert isinstance(retry, Retry)
    assert retry.more_tokens == 2048 - 7 - 1500
    assert isinstance(outcome_of_one(asking(sampling=Sampling(max_tokens=2041)), CUT), Dead)


def test_no_time_for_more_room() -> None:
    dead = outcome_of_one(asking(), CUT, seconds_left=0.0)
    assert isinstance(dead, Dead)
    assert dead.failure == "truncated"


def test_what_no_text_satisfies_ends_the_job_even_in_a_chain() -> None:
    error = Unparsable("no text has this format", "unsatisfiable")
    dead = outcome_of_one(asking(model=("small", "large")), error)
    assert isinstance(dead, Dead)
    assert dead.failure == "unsatisfiable"


@pytest.mark.parametrize("sent_back_by", ["asked_again", "floor"])
def test_an_earlier_answer_stands_where_the_new_one_is_unparsable(sent_back_by: str) -> None:
    context = {sent_back_by: {"times": 1, "used": [1, 1], "attempts": [], **objected(VALID, "again")}}
    retry = outcome_of_one(asking(), completion(INVALID), context=context)
    assert isinstance(retry, Retry)
    assert isinstance(retry.otherwise, Done)
    outcome = outcome_of_one(asking(), completion(INVALID), context=context | retry.context)
    assert isinstance(outcome, Done)
    assert outcome.context["repair"] is None
    assert outcome.usage == Usage(prompt_tokens=7, completion_tokens=2)
    assert TRIED not in outcome.context


def test_a_job_whose_model_abstains_goes_to_the_next_model_of_its_chain_without_an_attempt() -> None:
    job = generation(model=("sure", "small"))
    begun = replace(task(job), context=pin([Link("sure", 20), Link("small", 90)]))
    done = passed_on(begun, Abstained("0.4 is below 0.9"), "sure", "generate")
    assert isinstance(done, Done)
    assert (done.to, done.model) == ("generate", "small")
    assert tried_in(done.context) == ()
    (answered,) = generate([replace(begun, context={**begun.context, **done.context})], generator=Model(completion()))
    assert isinstance(answered, Done)
    assert isinstance(answered.event, Output)
    assert answered.event.answer.attempts == ()
    assert answered.event.answer.because == "small answered in place of sure (abstained: 0.4 is below 0.9)"
    assert passed_on(begun, Abstained("0.4 is below 0.9"), "small", "generate") is None


def test_the_model_after_one_that_abstained_has_all_attempts() -> None:
    job = generation(model=("echo", "small"))
    context = pin([Link("echo", 20), Link("small", 90)])
    done = passed_on(replace(task(job), context=context), Abstained("not sure"), "echo", "generate")
    assert done is not None
    changes = {"job_payload": encode_value(job), "context": pack(context, ()), "attempts": 3}
    (following,) = settled(done, max_attempts=3, **changes).following
    assert (following.queue, following.tokens) == (model_queue("small"), 90)
    assert following.ordinal == 1  # a new step, whose attempts begin anew

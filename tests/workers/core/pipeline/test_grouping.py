import json

import pytest
from tests.schemas.documents import documents
from tests.workers.runtime.bridge.records import evaluation, generation

from headrace_schemas import Message, Sampling
from headrace_schemas.codec import decode_value
from headrace_schemas.output_format import JsonObjectFormat, RegexFormat
from headrace_schemas.tool import Tool
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.stage import model_queue
from headrace_workers.core.pipeline.task import estimate_tokens
from headrace_workers.core.tables import STEPS
from headrace_workers.features.generation.stage import shared_prefix

ID = "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11"


def group(**sampling):
    return generate_group(generation(sampling=Sampling(**sampling)), ID)


def generate_group(job, job_id):
    (generate,) = (stage for stage in Pipeline().stages if stage.name == "generate")
    return generate.group_of(job, job_id, job.model)


def test_greedy_jobs_share_whatever_greedy_ignores():
    assert group() == group(top_p=0.5, top_k=7, seed=3)


def test_what_changes_the_call_parts_groups():
    assert len({group(temperature=t, top_p=p, top_k=k) for t in (0.5, 1) for p in (0.5, 1) for k in (0, 4)}) == 8
    assert len({group(temperature=t, repetition_penalty=r) for t in (0, 0.5) for r in (None, 1, 1.5)}) == 6
    assert group(max_tokens=200) == group(max_tokens=256) != group(max_tokens=257)
    assert group(max_tokens=1) == group(max_tokens=16)
    assert generate_group(generation(model="other"), ID) != group()


def test_held_answers_run_apart_from_free_ones():
    tool = Tool(name="look", parameters={"type": "object"})
    held = [
        generation(output=JsonObjectFormat()),
        generation(output=RegexFormat(pattern="a+")),
        generation(tools=(tool,), tool_choice="required"),
    ]
    free = generation(tools=(tool,), tool_choice="none")
    assert len({generate_group(job, ID) for job in held}) == 1
    assert generate_group(free, ID) == group() != generate_group(held[0], ID)


def test_a_seeded_sample_runs_alone():
    """What its neighbours are must not change its answer."""
    job = generation(sampling=Sampling(temperature=1, seed=3))
    assert generate_group(job, ID) != generate_group(job, ID[::-1])
    job = generation(sampling=Sampling(temperature=1))
    assert generate_group(job, ID) == generate_group(job, ID[::-1])


def test_jobs_of_a_tenant_share_a_long_system_prompt():
    """And nothing else: neither with another tenant, nor a short one, nor in a job that is no generation."""

    def prefix(system, said="hello", tenant="a"):
        turns = (Message(role="system", content=system), Message(role="user", content=said))
        return shared_prefix(generation(prompt=None, messages=turns, tenant=tenant))

    long = "You answer for a shop. " * 40
    assert prefix(long) == prefix(long, said="bye") is not None
    assert len({prefix(long), prefix(long, tenant="b"), prefix(long + "!"), prefix("Be brief.")}) == 4
    assert prefix("Be brief.") is shared_prefix(generation()) is shared_prefix(evaluation(input=long)) is None


def jobs_of(*kinds):
    types = [f"headrace.job.{kind}.v1" for kind in kinds]
    return [decode_value(name, json.dumps(document).encode()) for name in types for document in documents(name)]


def test_a_group_fits_its_column_after_it_was_split():
    for job in jobs_of("generation"):
        longest = job.model_copy(update={"model": "m" * 64})
        assert len(generate_group(longest, ID)) + 2 * 8 <= STEPS.c.group_key.type.length
        assert len(model_queue(longest.model)) <= STEPS.c.queue.type.length


def test_every_job_costs_something():
    """A job of no cost would overtake for ever in the fair order."""
    jobs = jobs_of("generation", "evaluation", "embedding", "moderation")
    assert all(estimate_tokens(job) >= 1 for job in jobs)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("Name three rivers.", 4), ("12 May 2031", 7), ("naïve", 3), ("江の水", 3), ("a" * 30, 3), (" \n\t ", 0)],
)
def test_tokens_are_guessed_by_words_digits_and_signs(text, tokens):
    assert estimate_tokens(evaluation(input=text, output="")) == tokens + 1

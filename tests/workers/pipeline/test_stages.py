"""The pipeline as data."""

from tests.workers.bridge.records import evaluation, generation

from headrace_schemas import Rubric, Topic
from headrace_schemas.limits import Name
from headrace_schemas.topics import INBOUND
from headrace_workers.pipeline.stages import STAGES, models_of, stages_after

RUBRIC = (Rubric(question="Kind?"),)


def test_every_event_has_one_way_on():
    """A job's topics lead to one stage each, and results and dead letters end it."""
    assert {topic: [stage.name for stage in stages_after(topic)] for topic in Topic} == {
        Topic.GENERATION: ["generate"],
        Topic.OUTPUTS: ["moderate"],
        Topic.MODERATED: ["judge"],
        Topic.EVALUATION: ["judge"],
        Topic.CANCELLATION: [],
        Topic.RESULTS: [],
        Topic.DEAD: [],
    }


def test_names_fit_the_contract_and_the_table():
    """A stage's name goes into receipts and into a column."""
    from pydantic import TypeAdapter

    for stage in STAGES:
        assert TypeAdapter(Name).validate_python(stage.name) == stage.name
        assert len(stage.name) <= 32
    assert len({stage.name for stage in STAGES}) == len(STAGES)
    assert {topic for stage in STAGES for topic in stage.consumes} >= set(INBOUND) - {Topic.CANCELLATION}


def test_models_of_a_job_are_all_that_it_needs_on_its_way():
    """Its own, and the judge's where a rubric asks for one."""
    assert models_of(generation(), "judge") == {"echo"}
    assert models_of(generation(criteria=RUBRIC), "judge") == {"echo", "judge"}
    assert models_of(generation(criteria=RUBRIC), None) == {"echo"}
    assert models_of(evaluation(), "judge") == frozenset()
    assert models_of(evaluation(criteria=RUBRIC), None) == frozenset()
    assert models_of(evaluation(criteria=(Rubric(question="?", model="own"),)), "judge") == {"own"}

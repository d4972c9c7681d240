"""The list of stages."""

from typing import get_args

from pydantic import TypeAdapter

from headrace_schemas.job import AnyJob
from headrace_schemas.limits import Name
from headrace_workers.core.pipeline.routing import Pipeline

STAGES = Pipeline().stages


def test_names_fit_the_contract_and_the_table():
    """A stage's name goes into receipts and into a column."""
    for stage in STAGES:
        assert TypeAdapter(Name).validate_python(stage.name) == stage.name
        assert len(stage.name) <= 32
    assert len({stage.name for stage in STAGES}) == len(STAGES)


def test_every_kind_of_job_has_a_first_stage():
    """What is accepted has somewhere to go."""
    assert {kind for stage in STAGES for kind in stage.takes} >= set(get_args(AnyJob))

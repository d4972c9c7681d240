"""Tests of the admission of jobs that ask for a format: what a quick look refuses, and what takes time."""

from pathlib import Path
from typing import Any

import pytest
from tests.workers.runtime.bridge.records import generation

from headrace_schemas.errors import InvalidRecord
from headrace_workers.features.generation.admission import PromptCheck
from headrace_workers.features.generation.engines.counting import CountingModels
from headrace_workers.features.generation.models.registry import Registry
from headrace_workers.testing import make_echo_model

pytestmark = pytest.mark.integration  # formats are compiled in processes of their own


@pytest.fixture
def check(tmp_path: Path) -> PromptCheck:
    """Return the check of a home with the model `echo`."""
    make_echo_model(tmp_path)
    return PromptCheck(CountingModels(tmp_path, Registry(tmp_path)))


def _asks(schema: dict[str, Any]) -> Any:
    return generation(model="echo", output={"type": "json_schema", "json_schema": schema})


def test_a_new_format_is_examined_and_then_known(check: PromptCheck) -> None:
    """A format that nobody asked for before is left to the thorough check; later jobs need none."""
    job = _asks({"title": "examined once", "type": "string"})
    check.check(job)
    assert check.is_doubtful(job)

    check.examine(job)

    assert not check.is_doubtful(job)


def test_a_refused_format_is_refused_at_once_the_second_time(check: PromptCheck) -> None:
    """The thorough check refuses a format by its place, and the quick one does so from then on."""
    job = _asks({"properties": {"refused once": {"pattern": "(?!a)b"}}})
    check.check(job)

    for refuse in (check.examine, check.check):
        with pytest.raises(InvalidRecord, match="looks around") as refused:
            refuse(job)
        assert refused.value.param == "output.json_schema/properties/refused once/pattern"


def test_a_job_without_a_format_is_not_doubtful_for_it(check: PromptCheck) -> None:
    """A job that asks for no format, or for a choice, is compiled nowhere."""
    assert not check.is_doubtful(generation(model="echo"))
    assert not check.is_doubtful(generation(model="echo", output={"type": "choice", "choices": ["a"]}))

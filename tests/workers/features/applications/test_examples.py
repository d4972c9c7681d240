"""The applications in `examples/apps`, as they stand there: each row of their datasets makes a job."""

from pathlib import Path

import pytest

from headrace_schemas import GenerationJob
from headrace_workers.core.templates import Template
from headrace_workers.features.applications.definition import render
from headrace_workers.features.applications.file import read_application
from headrace_workers.features.evals.plan import read_dataset

APPS = Path(__file__).parents[4] / "examples" / "apps"


@pytest.mark.parametrize("name", ["museum-answers", "note-summary", "ticket-triage"])
def test_each_row_of_an_example_makes_a_job_with_a_reference(name: str) -> None:
    definition = read_application(APPS / f"{name}.toml")
    test = definition.test
    assert test is not None
    assert test.reference is not None
    dataset = read_dataset(APPS / test.dataset)
    assert dataset.digest == test.sha256
    for item in dataset.items:
        values = {name: item.row[name] for name in definition.variables if name in item.row}
        job = GenerationJob.model_validate(
            {
                **definition.job,
                "messages": [message.model_dump(exclude_defaults=True) for message in render(definition, values)],
                "reference": Template.parse(test.reference).fill(item.row),
            }
        )
        assert "{{" not in job.question
        assert "{%" not in job.question


def test_there_is_no_example_that_is_not_tested() -> None:
    assert sorted(path.stem for path in APPS.glob("*.toml")) == ["museum-answers", "note-summary", "ticket-triage"]


def test_triage_names_the_product_and_the_notes_where_there_are_any() -> None:
    definition = read_application(APPS / "ticket-triage.toml")
    (*_, question) = render(definition, {"ticket": " It broke. ", "product": "till", "notes": ["Old", "Loud"]})
    assert question.content == "Product: till\nNote: Old\nNote: Loud\nIt broke."
    assert render(definition, {"ticket": "It broke."})[-1].content == "It broke."

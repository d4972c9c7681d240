import re
from pathlib import Path

import pytest

from headrace_schemas import (
    CancelJob,
    DecisionJob,
    EmbeddingJob,
    EvaluationJob,
    GenerationJob,
    ModerationJob,
    TuningJob,
)
from headrace_schemas.job import Job, Sampling

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "job-fields.md").read_text(encoding="utf-8")
SECTIONS = {
    "Generation": GenerationJob,
    "Evaluation": EvaluationJob,
    "Embedding": EmbeddingJob,
    "Moderation": ModerationJob,
    "Decision": DecisionJob,
    "Tuning": TuningJob,
    "Cancellation": CancelJob,
}


def _fields(section: str) -> set[str]:
    """Return the names in the first column of the tables of a section."""
    body = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\|([^|]*)\|", body, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


@pytest.mark.parametrize("section", SECTIONS)
def test_each_kind_of_job_has_its_fields_on_the_page(section):
    common = set() if section == "Cancellation" else set(Job.model_fields)
    sampling = set(Sampling.model_fields) if section == "Generation" else set()
    assert _fields(section) == set(SECTIONS[section].model_fields) - common - {"resolution"} | sampling


def test_the_common_fields_are_those_of_every_job():
    assert _fields("All jobs") == set(Job.model_fields)

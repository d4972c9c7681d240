"""Criteria as files: read once, and what was accepted holds whatever becomes of the file."""

from pathlib import Path

import pytest
from tests.workers.features.judging.test_floor import Scripted, Way

from headrace_schemas import Contains, GenerationJob, Rubric
from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.judging.criterion_trial import read_criterion


def test_a_file_is_a_criterion_of_its_name(tmp_path: Path) -> None:
    file = tmp_path / "polite.toml"
    file.write_text('question = "Is it polite?"\nguidance = """\nBrevity is no fault.\n"""\n')
    assert read_criterion(file) == Rubric(question="Is it polite?", guidance="Brevity is no fault.\n", name="polite")
    file.write_text('criterion = "contains"\ntext = "please"\nname = "kind"\n')
    assert read_criterion(file) == Contains(text="please", name="kind")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('criterion = "regex"\npattern = "("', r"polite.toml: pattern: the pattern is no RE2 regular expression: "),
        (
            'criterion = "json_schema"\njson_schema = {type = "text"}',
            r"json_schema: the schema cannot be used: /type: ",
        ),
    ],
)
def test_a_criterion_that_cannot_be_used_is_told_before_anything_is_judged(
    tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "polite.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=told):
        read_criterion(tmp_path / "polite.toml")


def test_a_file_that_changes_in_mid_run_changes_no_job_that_was_accepted(tmp_path: Path) -> None:
    file = tmp_path / "polite.toml"
    file.write_text('criterion = "contains"\ntext = "please"\n')
    before = read_criterion(file)
    job = GenerationJob(model="echo", prompt="?", criteria=(before,))
    way = Way(job, Scripted("Water, please."))
    way.once()
    file.write_text('criterion = "contains"\ntext = "thanks"\n')
    (score,) = way.end().judge.scores
    assert (score.value, score.version) == (1.0, before.version)
    now = read_criterion(file)
    (score,) = (
        Way(GenerationJob(model="echo", prompt="?", criteria=(now,)), Scripted("Water, please.")).end().judge.scores
    )
    assert (score.value, score.version) == (0.0, now.version)
    assert now.version != before.version

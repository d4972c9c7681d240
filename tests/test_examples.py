"""The requests that `make demo` sends."""

from collections import Counter
from pathlib import Path

import pytest

from headrace_schemas import GenerationJob
from headrace_workers.moderation.moderator import PolicyModerator, build_moderator
from headrace_workers.ports import Moderation

LINES = (Path(__file__).parent.parent / "examples" / "jobs.jsonl").read_text(encoding="utf-8").splitlines()
REPEAT = "Repeat this sentence exactly:\n\n"


@pytest.fixture(scope="module")
def moderator() -> PolicyModerator:
    return build_moderator()


@pytest.mark.parametrize("line", LINES)
def test_every_line_is_a_job(line: str) -> None:
    """The contract takes each line as it stands, with one to three criteria; those that compare have a reference."""
    job = GenerationJob.model_validate_json(line, strict=True)
    assert 1 <= len(job.criteria) <= 3
    assert "kind" in job.metadata
    compares = {c.criterion for c in job.criteria} & {"exact_match", "f1", "chrf", "bleu"}
    assert not compares or job.reference


def test_the_kinds_are_those_that_people_run_in_bulk() -> None:
    """48 jobs of six kinds, none twice."""
    jobs = [GenerationJob.model_validate_json(line, strict=True) for line in LINES]
    assert len(set(LINES)) == 48
    kinds = Counter(job.metadata["kind"] for job in jobs)
    assert kinds.keys() == {"summary", "classification", "extraction", "rewriting", "question", "moderation"}
    assert min(kinds.values()) >= 6


def test_what_must_be_moderated_would_be(moderator: PolicyModerator) -> None:
    """A model that repeats the sentence as it is asked to meets the default policy."""
    jobs = [GenerationJob.model_validate_json(line, strict=True) for line in LINES]
    echoes = [j.question.removeprefix(REPEAT) for j in jobs if j.metadata["kind"] == "moderation"]
    verdicts = [v for v in moderator.moderate(echoes) if isinstance(v, Moderation)]
    categories = {f.category for v in verdicts for f in v.findings}
    assert Counter(v.action for v in verdicts) == {"redact": 5, "block": 1}
    assert categories == {"card", "email", "phone", "secret", "iban", "profanity"}


def test_the_other_texts_are_clean(moderator: PolicyModerator) -> None:
    """Real business texts with dates, amounts and numbers give no false alarm."""
    jobs = [GenerationJob.model_validate_json(line, strict=True) for line in LINES]
    clean = [job for job in jobs if job.metadata["kind"] != "moderation"]
    for job, verdict in zip(clean, moderator.moderate([job.question for job in clean]), strict=True):
        assert isinstance(verdict, Moderation)
        assert verdict.findings == (), job.question


QUESTIONS = (Path(__file__).parent.parent / "examples" / "questions.jsonl").read_text(encoding="utf-8").splitlines()


def test_the_questions_are_asked_of_documents() -> None:
    """Each names the base that `make demo` fills; some come again, in the same words or in others, and some ask for
    what is not in it.
    """
    jobs = [GenerationJob.model_validate_json(line, strict=True) for line in QUESTIONS]
    assert {(job.knowledge, job.cache) for job in jobs} == {("museum", "semantic")}
    kinds = Counter(job.metadata["kind"] for job in jobs)
    assert kinds == {"asked": 10, "repeated": 2, "reworded": 3, "elsewhere": 3}
    asked = {job.question for job in jobs if job.metadata["kind"] == "asked"}
    assert all((job.question in asked) == (job.metadata["kind"] in ("asked", "repeated")) for job in jobs)


def test_what_they_look_for_is_in_the_documents() -> None:
    """In the files as they ship, white space apart."""
    folder = Path(__file__).parent.parent / "examples" / "knowledge"
    text = " ".join(" ".join(path.read_text(encoding="utf-8").split()) for path in folder.glob("*.md"))
    jobs = [GenerationJob.model_validate_json(line, strict=True) for line in QUESTIONS]
    for job in jobs:
        for criterion in job.criteria:
            if criterion.criterion == "contains":
                assert criterion.text in text

from collections.abc import Collection
from datetime import UTC, datetime

import pytest
from tests.workers.runtime.bridge.records import NOW, RULES, Models, generation

from headrace_schemas.errors import DeadlinePassed, InvalidRecord, UnknownModel, UnknownResource
from headrace_workers.core.admission import AdmissionCheck, AdmissionRules, Named, NamedResources
from headrace_workers.core.pipeline.task import Job, estimate_tokens


class Counts(AdmissionCheck):
    """A check that counts so many tokens, and refuses prompts with this word."""

    def __init__(self, tokens: int | None, refuses: str = "never", *, doubts: bool = False) -> None:
        self.tokens = tokens
        self.refuses = refuses
        self.doubts = doubts
        self.examined = 0

    def is_doubtful(self, job: Job) -> bool:
        return self.doubts

    def examine(self, job: Job) -> int | None:
        self.examined += 1
        if self.refuses in (getattr(job, "prompt", None) or ""):
            raise InvalidRecord(f"the prompt says {self.refuses}")
        return self.tokens


class Needs(AdmissionCheck):
    """A check by which a job needs what its metadata names. Of all that, only `there` exists."""

    def __init__(self) -> None:
        self.asked: list[Collection[Named]] = []

    def named(self, job: Job, _models: Collection[str]) -> Collection[str]:
        return job.metadata.get("needs", "").split()

    def unknown(self, named: Collection[Named]) -> Collection[Named]:
        self.asked.append(named)
        return [row for row in named if row[1] != "there"]

    def missing(self, named: Named) -> InvalidRecord:
        return UnknownResource(f"there is no {named[1]}")


def rules(*checks: AdmissionCheck) -> AdmissionRules:
    return AdmissionRules(Models(), RULES.pipeline, checks)


def test_tokens_are_those_of_the_first_check_that_counts_them_else_an_estimate():
    job, last = generation(), Counts(7)
    assert rules(Counts(None), Counts(5), last).examine(job) == 5
    assert last.examined == 1
    assert rules(Counts(None)).examine(job) == estimate_tokens(job)
    with pytest.raises(InvalidRecord, match="the prompt says hush"):
        rules(Counts(5), Counts(None, "hush")).examine(generation(prompt="hush"))


def test_only_checks_that_doubt_a_job_examine_it_before_it_is_sent():
    sure, doubtful = Counts(5), Counts(7, doubts=True)
    assert rules(sure, doubtful).is_doubtful(generation())
    assert rules(sure, doubtful).examine_doubtful(generation()) == 7
    assert (sure.examined, doubtful.examined) == (0, 1)
    assert not rules(sure).is_doubtful(generation())
    assert rules(sure).examine_doubtful(generation()) is None


def test_the_deadline_is_checked_before_names():
    """A job that is late and names no model here is late: a new try with another model would be, too."""
    late = generation(deadline=datetime(2001, 1, 1, tzinfo=UTC), model="gone")
    with pytest.raises(DeadlinePassed):
        RULES.check(RULES.resolve(late), NOW)
    with pytest.raises(UnknownModel):
        RULES.check(RULES.resolve(generation(model="gone")), NOW)


def test_the_ledger_is_asked_once_for_each_resource():
    needs = Needs()
    named = NamedResources([needs])
    sent = [generation(metadata={"needs": name}) for name in ("there", "gone", "there")] + [generation()]
    jobs = [RULES.resolve(job) for job in sent]
    named.look_up(jobs)
    named.look_up(jobs)
    assert needs.asked == [[("default", "gone"), ("default", "there")]]
    for job in (jobs[0], jobs[2], jobs[3]):
        named.check(job)
    with pytest.raises(UnknownResource, match="there is no gone"):
        named.check(jobs[1])


def test_a_job_needs_all_resources_that_it_names():
    named, job = NamedResources([Needs()]), RULES.resolve(generation(metadata={"needs": "there gone"}))
    named.look_up([job])
    with pytest.raises(UnknownResource, match="there is no gone"):
        named.check(job)

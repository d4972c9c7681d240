import json
from collections.abc import Collection, Mapping
from typing import Any

import pytest

from headrace_schemas import GenerationJob, Message, Sampling
from headrace_schemas.application import ApplicationVersion
from headrace_schemas.errors import InvalidRecord, Unavailable, UnknownModel
from headrace_schemas.job import Lane
from headrace_workers.core.pipeline.task import Job
from headrace_workers.features.applications.definition import Definition
from headrace_workers.features.applications.resolver import ApplicationResolver
from headrace_workers.features.applications.store import Version, Wanted

TRIAGE: dict[str, Any] = {
    "name": "triage",
    "problem": {"purpose": "Sort tickets.", "owner": "support", "task": "classification", "metric": "exact_match"},
    "job": {
        "model": "mini",
        "sampling": {"temperature": 0.5, "max_tokens": 9},
        "lane": "batch",
        "criteria": [{"criterion": "exact_match"}],
        "output": {"type": "choice", "choices": ["bug", "question"]},
    },
    "messages": [
        {"role": "system", "text": "Sort the ticket."},
        {"role": "user", "text": "{% if urgent %}Urgent: {% endif %}{{ ticket }}"},
    ],
    "variables": {"ticket": {"type": "text", "max_length": 50}, "urgent": {"type": "boolean", "default": False}},
}


class Models:
    """The models `mini` and `large`, and the chain `both` of them."""

    def knows(self, alias: str, tenant: str) -> bool:
        return alias in ("mini", "large")

    def aliases(self, tenant: str) -> list[str]:
        return ["large", "mini"]

    def chain(self, name: str) -> tuple[str, ...] | None:
        return ("mini", "large") if name == "both" else None


class Ledger:
    """The versions that a ledger has, by what asks for them; it counts how often it was asked."""

    def __init__(self, **changes: Any) -> None:
        self.rows = {Wanted("default", "triage", "production"): version(3, **changes)}
        self.asked: list[list[Wanted]] = []
        self.is_away = False

    def look_up(self, wanted: Collection[Wanted]) -> Mapping[Wanted, Version]:
        if self.is_away:
            raise Unavailable("the ledger does not answer")
        self.asked.append(sorted(wanted))
        return {name: self.rows[name] for name in wanted if name in self.rows}


def version(number: int, **changes: Any) -> Version:
    definition = Definition.from_json(json.dumps({**TRIAGE, **changes}))
    return Version("", "triage", number, definition.digest, definition.to_json(), None)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def resolve(job: Job, ledger: Ledger | None = None, pinned: str | None = None) -> Any:
    resolver = ApplicationResolver(Models(), (ledger or Ledger()).look_up)  # type: ignore[arg-type]
    wanted = resolver.wanted(job, pinned)
    return job if wanted is None else resolver.resolve(job, wanted, resolver.find([wanted]).get(wanted))


def test_a_job_becomes_what_its_application_says() -> None:
    job = resolve(GenerationJob(application="triage", variables={"ticket": "It burns", "urgent": True}))
    assert [(turn.role, turn.content) for turn in job.messages] == [
        ("system", "Sort the ticket."),
        ("user", "Urgent: It burns"),
    ]
    assert (job.model, job.lane, job.application) == ("mini", Lane.BATCH, None)
    assert job.sampling == Sampling(temperature=0.5, max_tokens=9)
    assert job.output is not None
    assert job.criteria[0].key == "exact_match"
    digest = version(3).digest
    assert job.resolution.application == ApplicationVersion(name="triage", version=3, digest=digest, label="production")
    assert job.resolution.turns == 2
    assert job.variables == {"ticket": "It burns", "urgent": True}


def test_an_application_is_a_name_like_a_models() -> None:
    job = resolve(GenerationJob(model="triage", variables={"ticket": "t"}, prompt="And this?"))
    assert [turn.content for turn in job.messages] == ["Sort the ticket.", "t", "And this?"]


@pytest.mark.parametrize("model", ["mini", "both", ["mini", "large"]])
def test_a_model_or_chain_of_the_name_wins(model: Any) -> None:
    ledger = Ledger()
    job = GenerationJob(model=model, prompt="p")
    assert resolve(job, ledger) is job
    assert ledger.asked == []


def test_a_job_may_override_sampling_and_lane_where_it_sets_them() -> None:
    fields = {"application": "triage", "variables": {"ticket": "t"}}
    job = resolve(GenerationJob(**fields, sampling=Sampling(temperature=0.0), lane=Lane.INTERACTIVE))
    assert (job.sampling.temperature, job.sampling.max_tokens, job.lane) == (0.0, 9, Lane.INTERACTIVE)


def test_any_other_field_that_the_application_sets_is_refused_by_name() -> None:
    fields = {"application": "triage", "variables": {"ticket": "t"}}
    with pytest.raises(InvalidRecord, match=r"^output: the application triage sets it") as refused:
        resolve(GenerationJob(**fields, output={"type": "json_object"}))
    assert refused.value.param == "output"
    assert resolve(GenerationJob(**fields, reference="bug")).reference == "bug"


def test_the_criteria_of_a_job_come_behind_those_of_its_application() -> None:
    """So that a test may judge by more than the application does. Two criteria of one name are refused."""
    fields = {"application": "triage", "variables": {"ticket": "t"}, "reference": "bug"}
    own = [{"criterion": "f1"}, {"criterion": "exact_match"}]
    assert [criterion.key for criterion in resolve(GenerationJob(**fields, criteria=own)).criteria] == [
        "exact_match",
        "f1",
    ]
    with pytest.raises(InvalidRecord, match="triage has another criterion 'exact_match'; give yours another name"):
        resolve(GenerationJob(**fields, criteria=[{"criterion": "contains", "name": "exact_match", "text": "bug"}]))


def test_fields_that_contradict_the_applications_are_refused() -> None:
    floor = {"criterion": "exact_match", "value": 1}
    ledger = Ledger(job={**TRIAGE["job"], "min_quality": floor})
    with pytest.raises(InvalidRecord, match="min_quality is given with cache"):
        resolve(GenerationJob(application="triage", variables={"ticket": "t"}, cache="exact"), ledger)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("triage@9", "there is no application 'triage' with the version '9'"),
        ("triage@canary", "there is no application 'triage' with the label 'canary'"),
        ("other", "there is no application 'other' with the label 'production'"),
    ],
)
def test_an_unknown_application_label_or_version_is_refused(name: str, reason: str) -> None:
    with pytest.raises(UnknownModel, match=f"^{reason}: `headrace apps list`"):
        resolve(GenerationJob(application=name))


def test_a_name_of_nothing_is_left_for_the_check_of_models() -> None:
    job = GenerationJob(model="tiny", prompt="p")
    assert resolve(job) is job


def test_the_version_that_a_gateway_resolved_counts() -> None:
    ledger, pinned = Ledger(), version(2)
    ledger.rows[Wanted("default", "triage", f"sha256:{pinned.digest}")] = pinned
    job = resolve(GenerationJob(application="triage", variables={"ticket": "t"}), ledger, pinned.digest)
    assert (job.resolution.application.version, job.resolution.application.label) == (2, "production")
    with pytest.raises(UnknownModel, match="that a gateway resolved is not in the ledger"):
        resolve(GenerationJob(application="triage"), ledger, "0" * 64)


def test_a_label_is_believed_for_less_than_a_second() -> None:
    ledger, clock = Ledger(), Clock()
    resolver = ApplicationResolver(Models(), ledger.look_up, clock)  # type: ignore[arg-type]
    (name,) = ledger.rows
    assert resolver.find([name])[name].number == 3
    ledger.rows[name] = version(4)
    clock.now += 0.999
    assert resolver.find([name])[name].number == 3
    clock.now += 0.001
    assert resolver.find([name])[name].number == 4


def test_no_older_label_is_served_while_the_ledger_is_away() -> None:
    ledger, clock = Ledger(), Clock()
    resolver = ApplicationResolver(Models(), ledger.look_up, clock)  # type: ignore[arg-type]
    (name,) = ledger.rows
    resolver.find([name])
    ledger.is_away = True
    clock.now += 1.0
    with pytest.raises(Unavailable):
        resolver.find([name])


def test_one_look_up_serves_all_jobs_of_a_poll() -> None:
    ledger = Ledger()
    resolver = ApplicationResolver(Models(), ledger.look_up)  # type: ignore[arg-type]
    names = [Wanted("default", "triage", "production"), Wanted("default", "triage", "7"), Wanted("b", "triage", "7")]
    resolver.find(names)
    assert ledger.asked == [sorted(names)]


def test_more_messages_than_a_job_may_have_are_refused() -> None:
    turns = tuple(Message(role="user", content="t") for _ in range(127))
    with pytest.raises(InvalidRecord, match="messages: the application triage has 2 of its own, which makes 129"):
        resolve(GenerationJob(application="triage", variables={"ticket": "t"}, messages=turns))


def test_wrong_variables_are_refused_by_name() -> None:
    with pytest.raises(InvalidRecord, match=r"^variables.ticket: has 51 characters; the limit is 50"):
        resolve(GenerationJob(application="triage", variables={"ticket": "t" * 51}))

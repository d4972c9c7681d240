"""Jobs that take long to admit: applications that are rendered, formats that are compiled."""

from dataclasses import replace
from typing import Any

import pytest
from tests.workers.runtime.bridge.records import NOW, RULES, generation, record

from headrace_schemas.errors import InvalidRecord
from headrace_workers.core.admission import AdmissionCheck
from headrace_workers.core.ledger.dead_letters import Record
from headrace_workers.runtime.bridge.record_admission import RecordAdmission, RoundBudget


class Slow(AdmissionCheck):
    """A clock, which the jobs of the tenant `slow` move on by a second each, when they are rendered or checked."""

    def __init__(self) -> None:
        self.now = 0.0

    def _take(self, job: Any) -> None:
        self.now += job.tenant == "slow"

    def wanted(self, job: Any, _pinned: str | None) -> str:
        return job.tenant

    def find(self, _names: Any) -> dict[str, str]:
        return {}

    def resolve(self, job: Any, _wanted: str, _found: None) -> Any:
        self._take(job)
        if job.prompt == "refused":
            raise InvalidRecord("it cannot be rendered")
        return job

    def examine(self, job: Any) -> None:
        self._take(job)


def decided(slow: Slow, part: str, *sent: Record, seconds: float = 8.0) -> list[bool]:
    rules = replace(RULES, resolver=slow) if part == "rendered" else replace(RULES, checks=[slow])
    admission = RecordAdmission(rules, NOW)
    return [item is not None for item in admission.admit_all(sent, RoundBudget(seconds, lambda: slow.now))]


def of(tenant: str, partition: int = 0, **fields: Any) -> Record:
    return replace(record(generation(tenant=tenant, **fields)), partition=partition)


parts = pytest.mark.parametrize("part", ["rendered", "checked"])


@parts
def test_a_tenant_takes_its_share_of_a_round_and_others_go_on_in_other_partitions(part: str) -> None:
    """A quarter of 8 seconds are two of its jobs."""
    slow = [of("slow") for _ in range(6)]
    assert decided(Slow(), part, *slow, of("fast", 1), of("slow", 1), of("fast", 1), of("fast", 2)) == [
        True, True, False, False, False, False, True, False, False, True,
    ]  # fmt: skip


@parts
def test_what_was_decided_is_kept_when_the_round_is_used_up(part: str) -> None:
    slow = [replace(of("slow"), partition=n) for n in range(3)]
    assert decided(Slow(), part, *slow, of("fast", 4), seconds=1.0) == [True, False, False, False]


def test_a_job_that_is_refused_after_a_long_time_counts_as_well() -> None:
    assert decided(Slow(), "rendered", *[of("slow", prompt="refused") for _ in range(3)]) == [True, True, False]

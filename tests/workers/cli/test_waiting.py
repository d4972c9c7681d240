from collections.abc import Iterator, Sequence

import pytest
from tests.workers.cli.conftest import NOW, dead, job_id, result

from headrace_producers import Received
from headrace_schemas import Category, DeadLetter
from headrace_schemas.envelope import Envelope
from headrace_schemas.errors import Unavailable
from headrace_workers.cli.jobfile import JobEntry
from headrace_workers.cli.receipts import Receipt
from headrace_workers.cli.waiting import Waiting

ENTRIES = [JobEntry(line=n, offset=0, job_id=job_id(n), tenant="default") for n in (1, 2)]


class World:
    """Kafka and ledger by hand; each read of Kafka takes the time that it may."""

    def __init__(self) -> None:
        self.time = 0.0
        self.coming: list[Receipt] = []
        self.known: set[str] = set()
        self.ends: dict[str, Receipt] = {}
        self.refusals: list[Receipt] = []
        self.resent: list[str] = []
        self.looked: list[list[str]] = []
        self.away = False

    def read(self, *, timeout: float | None = None) -> Iterator[Received]:
        self.time += timeout or 0.0
        coming, self.coming = self.coming, []
        for receipt in coming:
            yield Received(Envelope(id="x", type="t", source="/s", time=NOW), receipt.event)

    def accepted(self, job_ids) -> set[str]:
        return self.known & set(job_ids)

    def ended(self, job_ids) -> list[Receipt]:
        return [self.ends[i] for i in job_ids if i in self.ends]

    def refused(self, job_ids, since_ms: int) -> list[Receipt]:
        return [r for r in self.refusals if r.job_id in job_ids]

    def resend(self, entries: Sequence[JobEntry]) -> None:
        self.resent += [entry.job_id for entry in entries]
        self.known |= set(self.resent)

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def look(self, job_ids) -> None:
        self.looked.append(sorted(job_ids))
        if self.away:
            raise Unavailable("away")

    def waiting(self, *, ledger: bool = True, taken=()) -> Waiting:
        jobs = self if ledger else None
        return Waiting(ENTRIES, resend=self.resend, monotonic=lambda: self.time, jobs=jobs, look=self.look, taken=taken)


def test_receipts_of_our_jobs_come_with_their_lines():
    world = World()
    world.coming = [result(9), result(2), result(2), result(1)]
    receipts = list(world.waiting(ledger=False).ends(world, None))
    assert [receipt.line for receipt in receipts] == [2, 1]


def test_time_that_is_over_ends_the_wait():
    world = World()
    world.coming = [result(1)]
    waiting = world.waiting(ledger=False)
    assert [receipt.line for receipt in waiting.ends(world, 3.0)] == [1]
    assert set(waiting.open) == {job_id(2)}
    assert world.time == 3.0


def test_an_end_that_kafka_lost_is_found_in_the_ledger():
    world = World()
    world.known = {job_id(1), job_id(2)}
    world.ends = {job_id(1): result(1), job_id(2): dead(2)}
    assert sorted(r.line or 0 for r in world.waiting().ends(world, 60.0)) == [1, 2]
    assert world.resent == []


def test_the_end_of_a_job_that_was_sent_before_is_told_at_once():
    world = World()
    world.known = {job_id(1), job_id(2)}
    world.ends = {job_id(1): result(1)}
    told = world.waiting().ends(world, 60.0)
    assert (next(told).line, world.time) == (1, 0.5)
    assert world.looked == []


@pytest.mark.parametrize("by_kafka", [False, True])
def test_the_answer_to_an_earlier_job_under_the_key_is_not_ours(by_kafka):
    """A bridge that is slow refuses ours after the earlier one's end was found."""
    world = World()
    world.known = {job_id(1), job_id(2)}
    world.coming, world.ends = ([result(1)] if by_kafka else []), {job_id(1): result(1), job_id(2): result(2)}
    told = world.waiting(taken={job_id(1)}).ends(world, 60.0)
    assert next(told).line == 2
    world.refusals = [dead(1, reason="is there with other content")]
    assert (next(told).line, world.time < 60.0) == (1, True)


def test_a_job_that_the_ledger_never_saw_is_sent_again():
    world = World()
    world.known = {job_id(1)}
    list(world.waiting().ends(world, 30.0))
    assert world.resent == [job_id(2)]


def test_what_the_ledger_has_and_does_not_end_is_looked_at():
    world = World()
    world.known, world.ends, world.away = {job_id(1), job_id(2)}, {job_id(2): result(2)}, True
    receipts = list(world.waiting().ends(world, 6.0))
    assert [receipt.line for receipt in receipts] == [2]
    assert world.looked == [[job_id(1)]]

    unknown = World()
    unknown.resend = lambda entries: None  # type: ignore[method-assign]
    list(unknown.waiting().ends(unknown, 6.0))
    assert unknown.looked == [[]]


def test_accepted_means_that_the_ledger_has_it():
    world = World()
    world.known = {job_id(1)}
    world.refusals = [dead(2, reason="no such model")]
    refused, unknown = world.waiting().confirm(30.0, world.sleep)
    assert ([r.line for r in refused], unknown) == ([2], 0)

    silent = World()
    silent.resend = lambda entries: None  # type: ignore[method-assign]
    assert silent.waiting().confirm(7.0, silent.sleep) == ([], 2)


def test_a_job_that_the_ledger_does_not_know_is_told_once(capsys):
    world = World()
    world.resend = lambda _entries: None
    world.known = {job_id(1)}
    waiting = world.waiting()
    assert list(waiting.ends(world, 30.0)) == []
    assert waiting.unknown == 1
    assert capsys.readouterr().err.count("the ledger does not know 1 of the jobs yet") == 1
    world.known = {job_id(1), job_id(2)}
    assert list(waiting.ends(world, 0.1)) == []
    assert waiting.unknown == 0


def test_the_end_of_the_time_is_the_last_look_at_the_ledger():
    world = World()
    world.known = {job_id(1), job_id(2)}
    world.ends = {job_id(1): result(1)}
    assert [receipt.line for receipt in world.waiting().ends(world, 1.0)] == [1]
    assert world.resent == []


def refusal(number: int, topic: str = "jobs.generation") -> Receipt:
    """The letter about a refused record: it ends no job, and refers to one."""
    letter = DeadLetter(
        refers_to=job_id(number), category=Category.CONFLICT, reason="another content", stage="ingest", topic=topic,
        size=2, original="{}", encoding="utf-8",
    )  # fmt: skip
    return Receipt(letter)


def test_a_job_that_is_known_with_other_content_is_told_as_refused():
    world = World()
    world.known = {job_id(1), job_id(2)}
    world.ends = {job_id(1): result(1), job_id(2): result(2)}
    world.refusals = [refusal(1)]
    receipts = list(world.waiting().ends(world, 30.0))
    assert [(receipt.line, receipt.status) for receipt in receipts] == [(1, "dead"), (2, "completed")]


def test_who_waits_for_a_refused_job_is_told_and_waits_no_longer():
    world = World()
    world.coming = [refusal(1, topic="jobs.cancellation"), refusal(2), result(1)]
    receipts = list(world.waiting(ledger=False).ends(world, None))
    assert [(receipt.line, receipt.status) for receipt in receipts] == [(2, "dead"), (1, "completed")]

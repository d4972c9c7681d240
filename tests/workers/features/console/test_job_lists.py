"""Lists of jobs: which they hold, page by page, and how many rows a page reads."""

from collections.abc import Iterator

import pytest
from sqlalchemy import func, select, update
from tests.workers.features.console.test_situation import ended, ledger, planned, statements_of
from tests.workers.ledger_in_short import ledger_url
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import generation

from headrace_workers.core.ledger.accounting import LAG_MS, account
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS
from headrace_workers.features.console import job_lists
from headrace_workers.features.console.job_lists import (
    ENDED,
    ENDED_JOBS,
    UNFINISHED,
    JobFilter,
    JobList,
    JobLists,
    Place,
)

__all__ = ["ledger", "ledger_url"]


def pages(ledger: Ledger, wanted: JobFilter) -> Iterator[JobList]:
    place: Place | None = None
    for _ in range(100):
        page = ledger.of(JobLists).page(wanted, place)
        yield page
        if page.after is None:
            return
        place = Place.read(str(page.after))
        assert place == page.after
    raise AssertionError("the list does not end")


def ids(ledger: Ledger, wanted: JobFilter) -> list[str]:
    return [row.id for page in pages(ledger, wanted) for row, _ in page.jobs]


def test_a_list_is_by_state_tenant_application_and_model(ledger: Ledger):
    echo, other = take_in(ledger, [generation(prompt="a"), generation(prompt="b", tenant="b", model="other")])
    ended(ledger, 2, ago=1_000, application="triage@3")
    ended(ledger, 1, ago=2_000, state="dead", application="triage@2", tenant="b")
    ended(ledger, 1, ago=3_000, state="cancelled")
    ended(ledger, 1, ago=4_000, subject="a-unit", tenant="u")
    three, two = ["done-1000-1", "done-1000-0"], ["dead-2000-0"]
    expected = {
        JobFilter(UNFINISHED, tenant="b"): [other],
        JobFilter(UNFINISHED, model="echo"): [echo],
        JobFilter(ENDED): [*three, *two, "cancelled-3000-0"],
        JobFilter("dead"): two,
        JobFilter(ENDED, tenant="b"): two,
        JobFilter(ENDED, application="triage"): [*three, *two],
        JobFilter(ENDED, application="triage@3"): three,
        JobFilter(ENDED, model="echo"): [],
    }
    assert {wanted: ids(ledger, wanted) for wanted in expected} == expected


@pytest.mark.parametrize("most", [3, 4, 100])
def test_pages_leave_nothing_out_and_read_no_more_than_their_bound(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, most: int
):
    monkeypatch.setattr(job_lists, "PAGE", 2)
    for name in ("MOST_READ", "MOST_PASSED", "MOST_LOOKED_UP"):
        monkeypatch.setattr(job_lists, name, most)
    wanted = [
        *ended(ledger, 3, ago=1_000, tenant="rare"), *ended(ledger, 1, ago=90_000, tenant="rare"),
        *ended(ledger, 2, ago=500_000, tenant="rare"),
    ]  # fmt: skip
    for ago in range(2_000, 12_000, 1_000):
        ended(ledger, 1, ago=ago)
    found = list(pages(ledger, JobFilter(ENDED, tenant="rare")))
    assert {row.id for page in found for row, _ in page.jobs} == set(wanted)
    assert all(page.read <= most and len(page.jobs) <= 2 for page in found)
    if most > len(wanted):  # then no row was at a page's bound, and none is shown twice
        assert sorted(row.id for page in found for row, _ in page.jobs) == sorted(wanted)
    # Where a page ended at its bound, the address does not tell whose the last row was.
    assert all(page.after is None or page.after.job_id in ("", "~") for page in found if page.stopped)


@pytest.mark.parametrize("most", [4, 100])
def test_a_tenant_finds_its_few_jobs_behind_many_of_others(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, most: int):
    monkeypatch.setattr(job_lists, "PAGE", 2)
    for name in ("MOST_READ", "MOST_PASSED", "MOST_LOOKED_UP"):
        monkeypatch.setattr(job_lists, name, most)
    new = ended(ledger, 1, ago=1_000, tenant="rare")
    ended(ledger, 10, ago=LAG_MS + 60_000)
    old = [
        *ended(ledger, 3, ago=LAG_MS + 90_000, tenant="rare"),
        *ended(ledger, 1, LAG_MS + 99_000, "dead", tenant="rare"),
    ]
    while ledger.account():
        pass
    found = list(pages(ledger, JobFilter(ENDED, tenant="rare")))
    assert [[row.id for row, _ in page.jobs] for page in found] == [[*new, old[2]], [old[1], old[0]], [old[3]]]
    assert not any(page.stopped for page in found)


def test_a_job_that_was_replayed_is_listed_by_its_last_end(ledger: Ledger):
    (job_id,) = ended(ledger, 1, ago=LAG_MS + 60_000, tenant="rare")
    wanted = JobFilter(ENDED, tenant="rare")

    def accounted(up_to: int) -> list[str]:
        with writing(ledger.engine) as tx:
            account(tx, up_to)
        return ids(ledger, wanted)

    def changed(**values: object) -> list[str]:
        with writing(ledger.engine) as tx:
            tx.execute(update(JOBS).values(values))
        return ids(ledger, wanted)

    now = ledger.now()
    assert accounted(now - LAG_MS) == [job_id]
    assert changed(state="active", ended_at=None) == []
    assert changed(state="done", ended_at=now - 1_000) == [job_id]
    assert accounted(now) == [job_id]


def test_a_job_that_is_forgotten_leaves_nothing(ledger: Ledger):
    ended(ledger, 3, ago=LAG_MS + 60_000)
    assert not ledger.account()
    count = select(func.count()).select_from(ENDED_JOBS)
    assert ledger.read(count) == [(3,)]
    while ledger.prune(LAG_MS):
        pass
    assert ledger.read(count) == [(0,)]


def test_no_page_walks_all_jobs(ledger: Ledger):
    if ledger.engine.dialect.name != "sqlite":
        pytest.skip("what PostgreSQL plans depends on its statistics")
    take_in(ledger, [generation()])
    ended(ledger, 3)
    wanted = (
        JobFilter(UNFINISHED), JobFilter("done"), JobFilter(ENDED, application="a@1"), JobFilter(ENDED, tenant="a"),
    )  # fmt: skip
    for statement, parameters in statements_of(
        ledger,
        lambda: [ledger.of(JobLists).page(job_filter, at) for job_filter in wanted for at in (None, Place(2**45, "~"))],
    ):
        plan = planned(ledger, statement, parameters)
        assert not [row for row in plan if row in ("SCAN jobs", "SCAN steps", f"SCAN {ENDED_JOBS}")], (statement, plan)


@pytest.mark.parametrize("text", ["", "x", "-", "9" * 30 + "-a", "1.5-a", "½-a"])
def test_an_address_that_is_no_place_begins_the_list(text: str):
    assert Place.read(text) is None

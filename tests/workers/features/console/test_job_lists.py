"""Lists of jobs: which they hold, page by page, and how many rows a page reads."""

from collections.abc import Iterator

import pytest
from sqlalchemy import update
from tests.workers.features.console.test_situation import ended, ledger
from tests.workers.ledger_in_short import ledger_url
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import generation

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS
from headrace_workers.features.console import job_lists
from headrace_workers.features.console.job_lists import ENDED, UNFINISHED, JobFilter, JobList, JobLists, Place

__all__ = ["ledger", "ledger_url"]


def pages(ledger: Ledger, wanted: JobFilter) -> Iterator[JobList]:
    """All pages of a list."""
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
    return [line.row.id for page in pages(ledger, wanted) for line in page.jobs]


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
    monkeypatch.setattr(job_lists, "MOST_READ", most)
    wanted = [
        *ended(ledger, 3, ago=1_000, tenant="rare"), *ended(ledger, 1, ago=90_000, tenant="rare"),
        *ended(ledger, 2, ago=500_000, tenant="rare"),
    ]  # fmt: skip
    for ago in range(2_000, 12_000, 1_000):
        ended(ledger, 1, ago=ago)
    found = list(pages(ledger, JobFilter(ENDED, tenant="rare")))
    assert {line.row.id for page in found for line in page.jobs} == set(wanted)
    assert all(page.read <= most and len(page.jobs) <= 2 for page in found)
    if most > len(wanted):  # then no row was at a page's bound, and none is shown twice
        assert sorted(line.row.id for page in found for line in page.jobs) == sorted(wanted)
    # Where a page ended at its bound, the address does not tell whose the last row was.
    assert all(page.after is None or page.after.job_id in ("", "~") for page in found if page.stopped)


def test_no_page_walks_all_jobs(ledger: Ledger):
    if ledger.engine.dialect.name != "sqlite":
        pytest.skip("what PostgreSQL plans depends on its statistics")
    take_in(ledger, [generation()])
    ended(ledger, 3)
    with writing(ledger.engine) as tx:
        tx.execute(update(JOBS).values(replays=0))
    with ledger.engine.connect() as connection:
        for wanted in (JobFilter(UNFINISHED), JobFilter("done"), JobFilter(ENDED, application="a@1")):
            for place in (None, Place(2**45, "~")):
                query = job_lists._walk(wanted, place).compile(ledger.engine)
                parameters = tuple(query.params[name] for name in query.positiontup or ())
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", parameters).all()
                assert not [row[3] for row in plan if row[3] == "SCAN jobs"], (wanted, plan)


@pytest.mark.parametrize("text", ["", "x", "-", "9" * 30 + "-a", "1.5-a", "½-a"])
def test_an_address_that_is_no_place_begins_the_list(text: str):
    assert Place.read(text) is None

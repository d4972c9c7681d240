import threading
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import update
from tests.workers.http.served import answer
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_schemas import NotJudged, Score
from headrace_workers.core.ledger import accounting
from headrace_workers.core.ledger.accounting import LAG_MS
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS
from headrace_workers.features.judging.store import ScoreCounts
from headrace_workers.features.spend.store import DAY_MS, Usage


def ended(
    ledger: Ledger, job: Callable[..., NewJob], ages_ms: list[int], tenant: str = "a", scores: Sequence[Score] = ()
) -> None:
    """Jobs that were answered so long ago, each with these scores."""
    new = [job(tenant=tenant) for _ in ages_ms]
    ledger.ingest(new)
    now = ledger.now()
    for new_job, age in zip(new, ages_ms, strict=True):
        answer(ledger, new_job.id, scores=scores)
        with writing(ledger.engine) as tx:
            tx.execute(update(JOBS).where(JOBS.c.id == new_job.id).values(ended_at=now - age))


def sums(ledger: Ledger, tenant: str = "a") -> list[tuple[int, int, int]]:
    rows, _ = ledger.of(Usage).of_tenant(tenant, date.min, date.max)
    return [(row.jobs, row.prompt_tokens, row.completion_tokens) for row in rows]


def test_a_job_is_counted_once_and_when_all_before_it_are(ledger: Ledger, job: Callable[..., NewJob]):
    ended(ledger, job, [LAG_MS + 5_000, LAG_MS + 6_000, 0])
    ended(ledger, job, [LAG_MS + 5_000], tenant="b")
    for _ in range(3):
        assert not ledger.account()
    assert sums(ledger) == [(2, 14, 6)]
    assert sums(ledger, "b") == [(1, 7, 3)]
    rows, until = ledger.of(Usage).of_tenant("a", date.min, date.max)
    assert (rows[0].kind, rows[0].model) == ("generation", "echo")
    assert 0 <= ledger.now() - LAG_MS - until < 60_000


def test_days_are_those_of_the_ends(ledger: Ledger, job: Callable[..., NewJob]):
    ended(ledger, job, [DAY_MS, DAY_MS + 1, 3 * DAY_MS])
    ledger.account()
    today = datetime.fromtimestamp(ledger.now() / 1000, UTC).date()
    assert [row.jobs for row in ledger.of(Usage).of_tenant("a", today - timedelta(4), today)[0]] == [1, 2]
    assert [row.jobs for row in ledger.of(Usage).of_tenant("a", today - timedelta(2), today)[0]] == [2]


@pytest.mark.parametrize("at_once", [1, 2, 3, 7])
def test_more_than_one_look_takes_is_counted_whole(
    ledger: Ledger, job: Callable[..., NewJob], monkeypatch: pytest.MonkeyPatch, at_once: int
):
    monkeypatch.setattr(accounting, "AT_ONCE", at_once)
    ended(ledger, job, [LAG_MS + 9_000, LAG_MS + 5_000, LAG_MS + 5_000, LAG_MS + 5_000, LAG_MS + 1_000])
    while ledger.account():
        pass
    assert sums(ledger) == [(5, 35, 15)]


def test_what_is_forgotten_was_counted_before(ledger: Ledger, job: Callable[..., NewJob]):
    ended(ledger, job, [LAG_MS + 5_000, 60_000, 0])
    while ledger.prune(30_000):
        pass
    assert len(ledger.read(JOBS.select())) == 1
    assert sums(ledger) == [(2, 14, 6)]
    ledger.account()
    assert sums(ledger) == [(2, 14, 6)]


def test_more_than_one_look_counts_is_forgotten_by_and_by(
    ledger: Ledger, job: Callable[..., NewJob], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(accounting, "AT_ONCE", 2)
    ended(ledger, job, [60_000 + 1_000 * n for n in range(5)])
    assert ledger.prune(30_000)
    assert 0 < len(ledger.read(JOBS.select())) < 5
    while ledger.prune(30_000):
        pass
    assert ledger.read(JOBS.select()) == []
    assert sums(ledger) == [(5, 35, 15)]


def test_two_that_count_at_a_time_count_once(ledger: Ledger, job: Callable[..., NewJob]):
    ended(ledger, job, [LAG_MS + 5_000 + n for n in range(20)])
    threads = [threading.Thread(target=ledger.account) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums(ledger) == [(20, 140, 60)]


JUDGED = (
    Score(criterion="rubric", name="polite", value=0.5),
    Score(criterion="rubric", name="true", not_judged=NotJudged.UNANSWERED, reason="no mass"),
    Score(criterion="f1", not_judged=NotJudged.NO_REFERENCE, reason="none"),
)


def test_scores_are_counted_once_by_kind_and_by_why_there_is_none(ledger: Ledger, job: Callable[..., NewJob]):
    ended(ledger, job, [LAG_MS + 5_000, LAG_MS + 6_000], scores=JUDGED)
    ended(ledger, job, [60_000], scores=JUDGED)
    ended(ledger, job, [LAG_MS + 7_000])
    for _ in range(3):
        ledger.account()
    two = [("f1", "no_reference", 2), ("rubric", "", 2), ("rubric", "unanswered", 2)]
    assert ledger.of(ScoreCounts).all() == two
    while ledger.prune(30_000):
        pass
    assert ledger.read(JOBS.select()) == []
    assert [row.scores for row in ledger.of(ScoreCounts).all()] == [3, 3, 3]

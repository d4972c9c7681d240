"""Pass rates are worked out at intervals, by one bridge, of what people label."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import delete, update
from tests.workers.ledger_jobs import sqlite_ledger, take_in

from headrace_schemas import Contains, EvaluationJob, JudgeVerdict, Result, Score
from headrace_schemas.codec import encode_value
from headrace_schemas.errors import Unavailable
from headrace_schemas.review import Review
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS
from headrace_workers.features.quality import duty as live_rates
from headrace_workers.features.quality.assessment import assess, by_subject
from headrace_workers.features.quality.duty import LiveRates
from headrace_workers.features.quality.store import Labels, PassRates
from headrace_workers.features.quality.tables import LABELS

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
JOBS_OF_EACH = 60


class Hours(SystemClock):
    at = 0.0

    def monotonic(self) -> float:
        return self.at


@pytest.fixture
def ledger(tmp_path: Path):
    """Two tenants whose jobs are judged: of each third people say something, of the judge's yes mostly no."""
    with sqlite_ledger(tmp_path) as found:
        for tenant in ("shop", "mill"):
            asked = [
                EvaluationJob(input="q", output="o", criteria=(Contains(text="x", name="right"),), tenant=tenant,
                              idempotency_key=f"k{n}")
                for n in range(JOBS_OF_EACH)
            ]  # fmt: skip
            ids = take_in(found, asked)
            for n, job_id in enumerate(ids):
                score = Score(criterion="contains", name="right", version="v1", value=float(n % 4 > 0))
                receipt = Result(job_id=job_id, tenant=tenant, status="completed", kind="evaluation", accepted_at=NOON,
                                 judge=JudgeVerdict(scores=(score,)))  # fmt: skip
                end = {"state": "done", "ended_at": JOBS.c.accepted_at + n, "terminal": encode_value(receipt),
                       "terminal_type": "headrace.result.v1"}  # fmt: skip
                with writing(found.engine) as tx:
                    tx.execute(update(JOBS).where(JOBS.c.id == job_id).values(end))
            said = [
                Review(job_id=job_id, tenant=tenant, criterion="right", label=n % 5 == 0, who="ann", when=NOON)
                for n, job_id in enumerate(ids)
                if n % 3 == 0
            ]
            found.of(Labels).add(said)
        yield found


def duty(ledger: Ledger, name: str = "one", clock: SystemClock | None = None) -> LiveRates:
    return LiveRates(ledger=ledger, bridge=name, clock=clock or Hours())


def test_they_are_those_that_quality_shows(ledger: Ledger):
    signs: list[int] = []
    assert duty(ledger).once(lambda: signs.append(len(ledger.of(PassRates).tenants()))) == 2
    assert signs == [1, 2]
    rows = ledger.of(PassRates).all()
    assert [(row.tenant, row.criterion, row.version) for row in rows] == [
        ("mill", "right", "v1"),
        ("shop", "right", "v1"),
    ]
    ((_, of),) = by_subject(*ledger.of(Labels).with_verdicts("shop")).items()
    mean = assess(of, 0).mean
    for row in rows:
        assert (row.value, row.low, row.high) == pytest.approx((mean.value, mean.interval.low, mean.interval.high))
        assert (row.labels, row.verdicts, row.level) == (JOBS_OF_EACH // 3, JOBS_OF_EACH, 0.95)
        assert row.low <= row.value <= row.high < 0.75  # the judge's own mean


def test_they_are_worked_out_now_and_then_by_one_bridge(ledger: Ledger):
    clock = Hours()
    first, second = duty(ledger, "one", clock), duty(ledger, "two", clock)
    assert [first.once(), first.once(), second.once()] == [2, 0, 0]
    clock.at = live_rates.EVERY + 1
    assert [second.once(), first.once()] == [0, 2]  # the duty is the first one's for as long as it keeps it


def test_what_nobody_labels_any_more_has_none(ledger: Ledger):
    clock = Hours()
    of = duty(ledger, "one", clock)
    of.once()
    with writing(ledger.engine) as tx:
        tx.execute(delete(LABELS).where(LABELS.c.tenant == "mill"))
    clock.at = live_rates.EVERY + 1
    assert of.once() == 1
    assert [row.tenant for row in ledger.of(PassRates).all()] == ["shop"]


def test_only_so_many_jobs_are_read(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live_rates, "MOST_JOBS", 10)
    duty(ledger).once()
    rows = ledger.of(PassRates).all()
    assert [(row.tenant, row.verdicts) for row in rows] == [("mill", 10), ("shop", 10)]
    assert {row.labels for row in rows} == {3}  # of the jobs that were read


def test_the_figures_of_one_tenant_are_not_another_s_trouble(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    from headrace_workers.features.quality import assessment

    worked_out = assessment.pass_rates

    def broken(labels, *others):
        if labels[0].tenant == "mill":
            raise ZeroDivisionError
        return worked_out(labels, *others)

    monkeypatch.setattr(assessment, "pass_rates", broken)
    duty(ledger).once()
    assert [row.tenant for row in ledger.of(PassRates).all()] == ["shop"]


@pytest.mark.parametrize("where", ["hold", "labels.with_verdicts"])
def test_a_ledger_that_was_away_is_asked_again_when_it_is_back(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, where: str
):
    rates = duty(ledger)

    def away(*_args: object) -> None:
        raise Unavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(ledger.of(Labels) if "." in where else ledger, where.rpartition(".")[2], away)
        with pytest.raises(Unavailable):
            rates.once()
    assert rates.once() == 2
    assert rates.once() == 0

import json
from datetime import timedelta

import pytest

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import clock, writing
from headrace_workers.core.tables import JOBS
from headrace_workers.features.applications import week
from headrace_workers.features.applications.week import week_of


def test_the_newest_jobs_of_a_version_count(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(week, "MOST", 250)
    day = 86_400_000
    with writing(ledger.engine) as tx:
        now = clock(tx)
        rows = [
            {
                "id": f"{number}", "tenant": "shop", "kind": "generation", "state": "done", "payload": b"{}",
                "application": "triage@1" if number % 2 else "triage@2", "accepted_at": now - age - 5,
                "ended_at": now - age,
                "terminal": json.dumps({"judge": {"scores": [{"criterion": "f1", "value": number % 3 / 2}]}}).encode(),
            }
            for number, age in enumerate([8 * day, 8 * day, *range(0, 620_000, 1_000)])
        ]  # fmt: skip
        tx.execute(JOBS.insert(), rows)
    one = week_of(ledger, "shop", "triage", 1, "f1", timedelta(days=7))
    assert (one.jobs, one.judged, one.p50_ms, one.currency) == (250, 250, 5.0, None)
    assert 160 <= one.passed <= 170
    monkeypatch.setattr(week, "MOST", 1_000)
    assert week_of(ledger, "shop", "triage", 2, "f1", timedelta(days=7)).jobs == 310
    assert week_of(ledger, "", "triage", 2, "f1", timedelta(days=7)).jobs == 310
    assert week_of(ledger, "mill", "triage", 2, "f1", timedelta(days=7)).jobs == 0

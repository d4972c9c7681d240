"""What `headrace status` says about a job, from a real ledger."""

from sqlalchemy import update
from tests.workers.bridge.records import generation
from tests.workers.ledger_jobs import claim_one, take_in

from headrace_workers.cli.durations import rfc3339, show_time
from headrace_workers.cli.status_views import job_dict, step_rows
from headrace_workers.ledger.database import writing
from headrace_workers.ledger.tables import CLAIMS, STEPS

STATE, WAITED, RAN = 1, 4, 5  # columns of step_rows


def test_a_step_in_hand_tells_since_when_and_by_whom(ledger):
    """While it runs only its claim knows; before a worker has begun it, that is said."""
    (job_id,) = take_in(ledger, [generation()])
    claim = claim_one(ledger)
    (row,) = step_rows(ledger.job(job_id))
    assert (row[STATE], row[RAN]) == ("handed out, not begun", "–")

    started = ledger.start(claim.id, worker="generate@host:1:abc", lease_ms=60_000)
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(ready_at=started.now - 5_000))
        tx.execute(update(CLAIMS).values(started_at=started.now - 3_000))
    view = ledger.job(job_id)
    (row,) = step_rows(view)
    assert row[STATE] == f"running since {show_time(started.now - 3_000)} by generate@host:1:abc"
    assert row[WAITED] == "2.0 s"
    (step,) = job_dict(view)["steps"]
    assert (step["state"], step["worker"]) == ("leased", "generate@host:1:abc")
    assert (step["started_at"], step["ended_at"], step["waited_ms"]) == (rfc3339(started.now - 3_000), None, 2_000)
    assert step["ran_ms"] == view.now - (started.now - 3_000) >= 3_000


def test_a_step_in_nobodys_hands_names_nobody(ledger):
    """One that waits, and one that was given back."""
    (job_id,) = take_in(ledger, [generation()])
    for _ in range(2):
        (row,) = step_rows(ledger.job(job_id))
        (step,) = job_dict(ledger.job(job_id))["steps"]
        assert (row[STATE], row[RAN], step["worker"], step["started_at"]) == ("ready", "–", None, None)
        claim = claim_one(ledger)
        ledger.start(claim.id, worker="w", lease_ms=60_000)
        ledger.release([claim.id])

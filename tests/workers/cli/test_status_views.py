"""What `headrace status` says about a job, from a real ledger."""

import json

import pytest
from sqlalchemy import select, update
from tests.workers.cli.conftest import Call
from tests.workers.core.ledger.after import After, answer
from tests.workers.core.ledger.test_documents import document
from tests.workers.ledger_jobs import claim_one, sqlite_ledger, take_in
from tests.workers.runtime.bridge.records import evaluation, generation

from headrace_schemas import Category
from headrace_workers.cli.durations import rfc3339, show_time
from headrace_workers.cli.job_views import JobDetails, job_json
from headrace_workers.cli.status_views import step_rows
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import Dead, Done, Retry
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import CLAIMS, JOBS, NEVER, STEPS
from headrace_workers.features.judging import store as scored
from headrace_workers.features.knowledge.store.documents import KnowledgeBases
from headrace_workers.features.quality.store import PassRate, PassRates

STATE, WAITED, RAN = 1, 4, 5  # columns of step_rows


def test_a_step_in_hand_tells_since_when_and_by_whom(ledger):
    """While it runs only its claim knows; before a worker has begun it, that is said."""
    (job_id,) = take_in(ledger, [generation()])
    claim = claim_one(ledger)
    (row,) = step_rows(JobDetails.of(ledger.job(job_id)))
    assert (row[STATE], row[RAN]) == ("handed out, not begun", "–")

    started = ledger.start(claim.id, worker="generate@host:1:abc", lease_ms=60_000)
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(ready_at=started.now - 5_000))
        tx.execute(update(CLAIMS).values(started_at=started.now - 3_000))
    view = ledger.job(job_id)
    job = JobDetails.of(view)
    (row,) = step_rows(job)
    assert row[STATE] == f"running since {show_time(started.now - 3_000)} by generate@host:1:abc"
    assert row[WAITED] == "2.0 s"
    (step,) = job.model_dump(mode="json")["steps"]
    assert (step["state"], step["worker"]) == ("leased", "generate@host:1:abc")
    assert (step["started_at"], step["ended_at"], step["waited_ms"]) == (rfc3339(started.now - 3_000), None, 2_000)
    assert step["ran_ms"] == view.now - (started.now - 3_000) >= 3_000


def test_operators_see_what_http_shows_and_more(ledger: Ledger):
    """`headrace status JOB --json` has all fields of `GET /v1/jobs/JOB`, with the same values."""
    (job_id,) = take_in(ledger, [evaluation(metadata={"tell": "a"})])
    answer(ledger, job_id)
    (standing,) = ledger.standings([job_id]).values()
    over_http = json.loads(job_json(job_id, standing))
    here = JobDetails.of(ledger.job(job_id)).model_dump(mode="json")
    assert (over_http["state"], over_http["end"]["job_id"]) == ("done", job_id)
    assert over_http.keys() < here.keys()
    (step,), (in_full,) = over_http.pop("steps"), here["steps"]
    assert {name: in_full[name] for name in step} == step
    assert {name: here[name] for name in over_http} == over_http


def test_a_step_in_nobodys_hands_names_nobody(ledger):
    """One that waits, and one that was given back."""
    (job_id,) = take_in(ledger, [generation()])
    for _ in range(2):
        job = JobDetails.of(ledger.job(job_id))
        (row,), (step,) = step_rows(job), job.model_dump()["steps"]
        assert (row[STATE], row[RAN], step["worker"], step["started_at"]) == ("ready", "–", None, None)
        claim = claim_one(ledger)
        ledger.start(claim.id, worker="w", lease_ms=60_000)
        ledger.release([claim.id])


@pytest.fixture
def followed(ledger: Ledger) -> str:
    """A job whose end four endpoints are to hear of, of which one did; and another job, of which one did."""
    said = {"a": Done(), "b": Retry("503 [busy]"), "c": Dead(Category.PERMANENT, "410")}
    after = After(ledger, lambda units: [said[unit.endpoint] for unit in units])
    job, other = take_in(ledger, [evaluation(metadata={"tell": tell}) for tell in ("a b c", "a")])
    for job_id in (job, other):
        answer(ledger, job_id)
    after.relay()
    after.run()
    with writing(ledger.engine) as tx:
        (unit,) = tx.execute(select(JOBS).where(JOBS.c.subject == other))
        (step,) = tx.execute(select(STEPS).where(STEPS.c.job_id == unit.id))
        tx.execute(JOBS.insert().values({**unit._mapping, "id": "u", "subject": job, "endpoint": "d"}))
        tx.execute(STEPS.insert().values({**step._mapping, "job_id": "u", "state": "ready", "attempts": 0}))
    return job


def test_a_job_is_shown_with_what_follows_it(call: Call, ledger: Ledger, followed: str):
    """Each unit with its endpoint, state, attempts and reason; units of other jobs are left out."""
    shown = json.loads(call("status", followed, "--json")[1])
    ids = {unit.pop("endpoint"): unit.pop("id") for unit in shown["units"]}
    assert shown["units"] == [
        {"stage": "after", "state": "done", "attempts": 1, "reason": None},
        {"stage": "after", "state": "waiting", "attempts": 1, "reason": "503 [busy]"},
        {"stage": "after", "state": "dead", "attempts": 1, "reason": "410"},
        {"stage": "after", "state": "ready", "attempts": 0, "reason": None},
    ]
    assert list(ids) == ["a", "b", "c", "d"]
    table = call("status", followed)[1]
    assert "what follows" in table
    assert "503 [busy]" in table
    assert all(unit in table for unit in ids.values())
    assert json.loads(call("status", ids["c"], "--json")[1])["kind"] == "unit"
    assert len(ledger.units_of(followed, 2)) == 2


def test_a_job_that_nothing_follows_has_no_such_table(call: Call, ledger: Ledger):
    """In JSON the list is empty."""
    (job,) = take_in(ledger, [generation()])
    assert "what follows" not in call("status", job)[1]
    assert json.loads(call("status", job, "--json")[1])["units"] == []


def test_who_follows_what_and_how_far_behind_is_told(call: Call, ledger: Ledger):
    """A row each, in words and as JSON; nobody is not told of."""
    assert "memories" not in call("status")[1]
    ledger.report_position("recall@host:1:abcdef01", "document", ledger.horizon())
    ledger.report_position("recall@host:1:abcdef01", "entry", ledger.horizon())
    ledger.of(KnowledgeBases).put(document())
    code, out, _ = call("status")
    assert code == 0
    rows = [line for line in out.splitlines() if "recall@host" in line]
    assert [("documents" in row, "answers" in row) for row in rows] == [(True, False), (False, True)]
    assert [row.split()[-1] == "–" or "–" in row for row in rows] == [False, True]
    told = json.loads(call("status", "--json")[1])["followers"]
    assert [(each["kind"], each["behind"]) for each in told] == [("document", 1), ("entry", 0)]


def test_the_whole_shows_what_people_would_say(call: Call, tmp_path, monkeypatch):
    """By tenant and criterion, with the interval; nothing where nobody labels."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv("HEADRACE_LEDGER", url)
    with sqlite_ledger(tmp_path) as ledger:
        assert "pass rate" not in call("status")[1]
        ledger.of(PassRates).put("shop", [PassRate("polite", "", 0.25, 0.125, 0.5, 0.95, 40, 900)])
    _, shown, _ = call("status")
    assert "0.250" in shown
    assert "0.125 to 0.500" in shown
    (rate,) = json.loads(call("status", "--json")[1])["pass_rates"]
    assert (rate["tenant"], rate["criterion"], rate["value"], rate["labels"]) == ("shop", "polite", 0.25, 40)


def test_the_whole_shows_what_was_judged_and_what_is_held(call: Call, ledger: Ledger):
    """By why there is no score, the most frequent first; by stage and what it waits for, with a reason."""
    assert not any(said in call("status")[1] for said in ("by why", "waits for"))
    (job_id,) = take_in(ledger, [evaluation()])
    with writing(ledger.engine) as tx:
        scored.add_scores(
            tx, {("rubric", "unanswered"): 1_203, ("rubric", "order"): 2, ("rubric", "too_long"): 40, ("f1", ""): 7}
        )
        values = {"state": "held", "held_at": 1, "ready_at": NEVER, "reason": "polite is 0.2"}
        tx.execute(update(STEPS).where(STEPS.c.job_id == job_id).values(values))
    shown = call("status")[1]
    assert "unanswered 1,203, too_long 40, order 2" in " ".join(shown.split())
    (held,) = [line for line in shown.splitlines() if "polite is" in line]
    assert "a person" in held
    told = json.loads(call("status", "--json")[1])
    assert {"criterion": "rubric", "not_judged": "too_long", "scores": 40} in told["scores"]
    (held,) = told["held_by"]
    assert (held["stage"], held["needs_person"], held["held"], told["held"]) == ("judge", True, 1, 1)

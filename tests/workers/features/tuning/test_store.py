"""Tuning runs in the ledger, on each database."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.workers.core.ledger.conftest import tables_of
from tests.workers.runtime.bridge.records import accept, record

from headrace_schemas import Category, GenerationJob, Topic, TuningJob
from headrace_schemas.codec import encode_value
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.dead_letters import refusal
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.features.tuning import store
from headrace_workers.features.tuning.store import Checkpoint, RunEvent, RunWrite, TuningRuns

JOB = TuningJob(model="base", training_file="file-1", suffix="tickets")


@pytest.fixture
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger."""
    for url in tables_of(request, tmp_path):
        ledger = Ledger.at(url)
        yield ledger
        ledger.close()


both = pytest.mark.parametrize("ledger", ["sqlite", "postgresql"], indirect=True)


def new(number: int = 1, tenant: str = "shop") -> NewJob:
    """A tuning job that is good."""
    sent = GenerationJob(model="echo", prompt="p", tenant=tenant, idempotency_key=str(number))
    accepted = accept(record(sent))
    assert isinstance(accepted, NewJob)
    job = JOB.model_copy(update={"tenant": tenant, "idempotency_key": str(number)})
    return replace(accepted, kind="tuning", payload=encode_value(job))


def taken(ledger: Ledger, number: int = 1, tenant: str = "shop") -> str:
    """Take a tuning job in; return its id."""
    job = new(number, tenant)
    ledger.ingest([job])
    return job.id


def write(ledger: Ledger, *rows: RunWrite) -> None:
    with writing(ledger.engine) as tx:
        for row in rows:
            row.write(tx)


@both
def test_a_run_begins_with_its_job_and_is_cancelled_with_it(ledger):
    job_id = taken(ledger)
    runs = ledger.of(TuningRuns)
    assert runs.run(job_id, "shop").state == "validating_files"
    assert TuningJob.model_validate_json(runs.run(job_id).job).suffix == "tickets"
    assert runs.run(job_id, "another") is None
    ledger.cancel(Cancellation(job_id, "shop", "enough"))
    run = runs.run(job_id)
    assert (run.state, run.error) == ("cancelled", None)
    assert run.finished_at >= run.created_at
    assert [event.message for event in runs.events(run.number)] == ["the run was cancelled"]


@both
@pytest.mark.parametrize("first", ["ingest", "gateway"])
def test_a_run_whose_job_is_not_taken_in_fails_whoever_writes_it_first(ledger, first):
    """A record may be refused before the gateway that sent it has written the run: the run would never end."""
    runs, job = ledger.of(TuningRuns), new()
    late = refusal(new(2).record, Category.INVALID, "its deadline has passed", refers_to=new(2).id, tenant="shop")

    def refuse() -> None:
        with writing(ledger.engine) as tx:
            store.end_refused(tx, [replace(late, topic=Topic.TUNING, value=new(2).payload, sound=True)], [job])

    def begin() -> None:
        for new_job in (job, new(2)):
            runs.begin(new_job.id, "shop", new_job.payload)

    for act in (refuse, begin) if first == "ingest" else (begin, refuse):
        act()
    messages = [json.loads(runs.run(new_job.id, "shop").error)["message"] for new_job in (job, new(2))]
    assert messages == ["its job was refused: a quota is used up", "its deadline has passed"]


@both
def test_the_end_of_a_job_says_what_became_of_its_run(ledger):
    done, failed = taken(ledger, 1), taken(ledger, 2)
    tuned = {"tuned": {"aliases": ["ft-base-tickets-1"], "usage": {"prompt_tokens": 70}}}
    dead = {"category": "invalid", "reason": "file-1, line 3: no messages"}
    with writing(ledger.engine) as tx:
        store.hold_runs(tx, (), [done, failed], ())
        store.end_runs(tx, {done: json.dumps(tuned).encode(), failed: json.dumps(dead).encode()})
    runs = ledger.of(TuningRuns)
    assert (runs.run(done).state, runs.run(done).trained_tokens) == ("succeeded", 70)
    assert json.loads(runs.run(done).aliases) == ["ft-base-tickets-1"]
    assert json.loads(runs.run(failed).error)["message"] == "file-1, line 3: no messages"
    write(ledger, RunWrite(done, "running"), RunWrite(failed, "running"))  # a replay of the one that failed
    assert (runs.run(done).state, runs.run(failed).state) == ("succeeded", "running")
    assert runs.run(failed).error is None


@both
def test_a_model_is_needed_until_the_run_that_makes_it_has_ended(ledger):
    job_id = taken(ledger)
    runs = ledger.of(TuningRuns)
    write(ledger, RunWrite(job_id, "queued", changes={"aliases": '["ft-base-1", "ft-base-1-float32"]'}))
    for alias in ("ft-base-1", "ft-base-1-float32"):
        assert runs.needs(alias) == f"the job {job_id} makes it: cancel it first, or wait for its end"
    assert runs.needs("ft-base") is None
    with writing(ledger.engine) as tx:
        store.end_runs(tx, {job_id: b'{"category":"poison","reason":"r"}'})
    assert runs.needs("ft-base-1") is None
    runs.forget_alias("ft-base-1", "shop")
    runs.forget_alias("ft-base-1-float32", "shop")
    assert runs.run(job_id).state == "failed"  # it can be replayed
    write(ledger, RunWrite(job_id, "running"))
    assert runs.needs("ft-base-1") is not None


@both
def test_runs_events_and_checkpoints_are_listed_newest_first_by_pages(ledger):
    first, second, other = taken(ledger, 1), taken(ledger, 2), taken(ledger, 3, "another")
    runs = ledger.of(TuningRuns)
    assert [run.job_id for run in runs.runs("shop", limit=1)] == [second]
    assert [run.job_id for run in runs.runs("shop", after=second)] == [first]
    assert [run.job_id for run in runs.runs()] == [other, second, first]
    checkpoint = Checkpoint(2, "file:///2", "b" * 64, {"loss": 0.5})
    write(
        ledger,
        RunWrite(first, "running", [RunEvent("one"), RunEvent("two", data={"step": 2})], changes={"trained_tokens": 9}),
        RunWrite(first, "running", checkpoints=[Checkpoint(2, "file:///x", "a" * 64)]),
        RunWrite(first, "running", checkpoints=[checkpoint, Checkpoint(4, "file:///4", "c" * 64)]),
    )
    number = runs.run(first).number
    assert runs.run(first).trained_tokens == 9
    assert [(event.number, event.message) for event in runs.events(number)] == [(2, "two"), (1, "one")]
    assert [event.number for event in runs.events(number, after=2)] == [1]
    assert [found.step for found in runs.checkpoints(number)] == [4, 2]
    assert [found.uri for found in runs.checkpoints(number, after=4)] == ["file:///2"]


@both
def test_runs_without_a_model_are_forgotten_with_old_jobs_and_others_stay(ledger):
    failed, done = taken(ledger, 1), taken(ledger, 2)
    tuned = {"tuned": {"aliases": ["a"], "usage": {"prompt_tokens": 1}}}
    with writing(ledger.engine) as tx:
        store.end_runs(tx, {failed: b'{"category":"poison","reason":"r"}', done: json.dumps(tuned).encode()})
        assert not store.forget_old(tx, 60_000)
        assert store.run_by_id(tx, failed) is not None
        store.forget_old(tx, -60_000)
    runs = ledger.of(TuningRuns)
    assert (runs.run(failed), runs.run(done).state) == (None, "succeeded")

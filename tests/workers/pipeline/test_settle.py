"""What becomes of one task."""

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.workers.bridge.records import evaluation, generation

from headrace_schemas import Answer, Category, ExactMatch, Output, Result, Rubric, Topic, Usage
from headrace_schemas.codec import decode_value, encode_value
from headrace_workers.identity import event_id
from headrace_workers.ledger.complete import Advanced, Postponed
from headrace_workers.ledger.dead import Burial
from headrace_workers.ledger.start import Started, StepRow
from headrace_workers.ledger.tables import NEVER
from headrace_workers.pipeline.outcome import Dead, Done, Retry
from headrace_workers.pipeline.settle import Conditions, backoff, failed, settle, task_of

JOB_ID = "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11"
NOW = 1_800_000_000_000


def row(**changes):
    """A claimed step of a generation job."""
    known = {
        "job_id": JOB_ID, "tenant": "shop", "kind": "generation",
        "job_payload": encode_value(generation(tenant="shop")),
        "traceparent": "00-trace", "correlationid": "corr", "replays": 0,
        "accepted_at": NOW - 2_000, "attempts": 1, "ready_at": NOW - 1_500,
        "event_type": "headrace.job.generation.v1", "payload": None, "lane": 1, "rank": 4, "deadline": NEVER,
        "turn": 77, "tokens": 12,
    }  # fmt: skip
    return StepRow(**(known | changes))


def settled(outcome, stage="generate", judge_model=None, max_attempts=3, **changes):
    """Settle one outcome of a group of one."""
    given_row = row(**changes)
    started = Started(1, "model.echo", stage, "g", False, 12, NOW, (given_row,))
    conditions = Conditions(max_attempts=max_attempts, judge_model=judge_model, random=random.Random(1), ran_ms=250.04)
    return settle(started, given_row, task_of(given_row), outcome, conditions)


def answer(text):
    """What a model wrote."""
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    return Answer(text=text, finish_reason="stop", model="echo", quantization="none", usage=usage)


def output(text="hello"):
    """What a generate step says."""
    return Output(job_id=JOB_ID, tenant="shop", answer=answer(text))


def result():
    """What the last step says."""
    return Result(job_id=JOB_ID, tenant="shop", status="completed", kind="generation", accepted_at=datetime.now(UTC))


def test_a_step_that_is_done_makes_the_next_ready():
    """The event is published, and is what the next step reads; lane, rank and place in the fair order stay."""
    done = settled(Done(output()), lane=1, rank=2, turn=77)
    assert isinstance(done, Advanced)
    (following,) = done.following
    assert (following.stage, following.queue, following.event_type) == ("moderate", "moderate", "headrace.output.v1")
    assert (following.lane, following.rank, following.turn, following.deadline) == (1, 2, 77, NEVER)
    assert following.payload == done.records[-1].value
    assert following.read_bytes == len(row().job_payload) + len(done.records[-1].value)
    assert (done.records[-1].topic, done.records[-1].key) == (Topic.OUTPUTS, JOB_ID)
    assert done.records[-1].headers["ce_traceparent"] == "00-trace"
    assert done.records[-1].headers["ce_correlationid"] == "corr"
    assert done.records[-1].headers["ce_dataschema"] == "urn:headrace:schema:headrace.output.v1"


def test_a_step_carries_all_of_what_came_before_it():
    """What the next one is ordered, grouped and bounded by; its event is of the time when the step ended."""
    done = settled(Done(output()), lane=0, rank=3, deadline=NOW + 10**6, turn=5, tokens=99)
    (following,) = done.following
    assert (following.job_id, following.lane, following.rank, following.deadline) == (JOB_ID, 0, 3, NOW + 10**6)
    assert (following.turn, following.tokens, following.group_key) == (5, 99, "moderate")
    assert done.job_id == JOB_ID
    assert done.records[-1].headers["ce_time"].startswith("2027-01-15T08:00:00.25")
    assert done.records[-1].headers["ce_subject"] == JOB_ID


def test_a_clock_that_was_set_back_gives_no_negative_times():
    """Nor is an attempt counted that nobody counted."""
    done = settled(Done(result()), stage="judge", ready_at=NOW + 5_000, accepted_at=NOW + 9_000, attempts=0)
    receipt = decode_value("headrace.result.v1", done.records[-1].value)
    (record,) = receipt.stages
    assert (record.waited_ms, record.attempt, receipt.total_ms) == (0, 1, 0.0)


def test_what_a_step_reads():
    """The job, and the event of the step before it where there is one."""
    assert settled_task().event == settled_task().job == generation(tenant="shop")
    later = settled_task(payload=encode_value(output()), event_type="headrace.output.v1", attempts=2)
    assert (later.event, later.job, later.attempt) == (output(), generation(tenant="shop"), 2)
    assert later.accepted_at == datetime.fromtimestamp((NOW - 2_000) / 1000, UTC)


def settled_task(**changes):
    """The task of a claimed step."""
    return task_of(row(**changes))


def test_the_record_of_a_stage_is_added_to_those_before():
    """A receipt accounts for every stage, with the attempt that counted and the times."""
    first = settled(Done(output()), attempts=2).records[-1].value
    event = decode_value("headrace.output.v1", first)
    (record,) = event.stages
    assert (record.stage, record.attempt, record.waited_ms, record.ran_ms, record.group_size) == (
        "generate", 2, 1_500, 250.0, 1,
    )  # fmt: skip
    last = settled(Done(result().model_copy(update={"stages": event.stages})), stage="judge")
    receipt = decode_value("headrace.result.v1", last.records[-1].value)
    assert [record.stage for record in receipt.stages] == ["generate", "judge"]
    assert (receipt.total_ms, last.following) == (2_250.0, ())


def test_an_events_id_is_the_same_however_often_it_is_made():
    """A repeat can be recognised; only a replay by hand begins a new series."""
    ids = [
        settled(Done(output(text=text)), attempts=n).records[-1].headers["ce_id"] for text, n in (("a", 1), ("b", 2))
    ]
    assert ids == [event_id(JOB_ID, "headrace.output.v1")] * 2
    assert settled(Done(output()), replays=1).records[-1].headers["ce_id"] not in ids


def test_the_judge_waits_where_its_model_is():
    """A rubric goes to the queue of the judge's model, anything else to any judge."""
    moderated_type = "headrace.output.v1"
    for job, judge, queue in (
        (generation(criteria=(ExactMatch(),), reference="r"), "big", "judge"),
        (generation(criteria=(Rubric(question="Kind?"),)), "big", "model.big"),
        (generation(criteria=(Rubric(question="Kind?"),)), None, "model.echo"),
        (generation(criteria=(Rubric(question="Kind?", model="own"),)), "big", "model.own"),
    ):
        moderated = _moderated()
        done = settled(Done(moderated), stage="moderate", judge_model=judge, job_payload=encode_value(job),
                       payload=encode_value(output()), event_type=moderated_type)  # fmt: skip
        assert done.following[0].queue == queue


def _moderated():
    from headrace_schemas import Moderated, ModerationVerdict

    fields = {name: value for name, value in output() if name != "stages"}
    return Moderated(**fields, moderation=ModerationVerdict(action="allow"))


def test_retry_waits_at_least_as_long_as_was_asked():
    """The step may ask for a delay; the ledger's own backoff comes where it is longer."""
    later = settled(Retry("busy", after=300.0))
    assert isinstance(later, Postponed)
    assert (later.job_id, later.delay_ms, later.reason) == (JOB_ID, 300_000, "busy")


def test_the_last_attempt_is_final():
    """A transient failure that comes again and again ends in `dead`, with the attempts and the last reason."""
    dead = settled(Retry("busy", category=Category.REROUTABLE), attempts=3)
    assert isinstance(dead, Burial)
    assert (dead.category, dead.attempts, dead.reason) == (Category.REROUTABLE, 3, "given up after 3 attempts: busy")


def test_a_retry_after_the_deadline_is_none():
    """Where the deadline leaves no time to try again, the job has expired now."""
    dead = settled(Retry("busy", after=60.0), deadline=NOW + 59_000)
    assert isinstance(dead, Burial)
    assert (dead.category, "busy" in dead.reason) == (Category.EXPIRED, True)
    assert isinstance(settled(Retry("busy", after=60.0), deadline=NOW + 120_000), Postponed)


@pytest.mark.parametrize(("left", "kind"), [(60_250, Burial), (60_251, Postponed)])
def test_a_deadline_is_counted_from_the_end_of_the_run(left, kind):
    """It ran for a quarter of a second, and is to wait for a minute: what would be due at the deadline is too late."""
    assert isinstance(settled(Retry("busy", after=60.0), deadline=NOW + left), kind)


def test_a_step_whose_worker_failed_around_it_is_tried_again():
    """As one that said so itself, without an answer for the end."""
    given = row(attempts=2)
    started = Started(1, "model.echo", "generate", "g", False, 12, NOW, (given,))
    conditions = Conditions(max_attempts=3, judge_model=None, random=Highest(), ran_ms=0.0)
    assert failed(started, given, "it broke", conditions) == Postponed(JOB_ID, 2_000, "it broke")
    dead = failed(started, row(attempts=3), "it broke", conditions)
    assert isinstance(dead, Burial)
    assert (dead.stage, dead.reason) == ("generate", "given up after 3 attempts: it broke")


@pytest.mark.parametrize(
    "end", [{"attempts": 3}, {"deadline": NOW + 59_000}], ids=["no attempt is left", "no time is left"]
)
def test_what_is_known_without_the_step_is_sent_in_the_end(end):
    """A step that said so ends in a receipt rather than in `dead`, with its own record in it; before, it is tried."""
    retry = Retry("busy", after=60.0, otherwise=result())
    assert isinstance(settled(retry, stage="judge", attempts=2), Postponed)
    last = settled(retry, stage="judge", **end)
    assert isinstance(last, Advanced)
    assert (last.records[-1].topic, last.following) == (Topic.RESULTS, ())
    receipt = decode_value("headrace.result.v1", last.records[-1].value)
    assert [(record.stage, record.attempt) for record in receipt.stages] == [("judge", end.get("attempts", 1))]
    assert receipt.total_ms == 2_250.0


@pytest.mark.parametrize("kind", ["generation", "evaluation"])
def test_dead_keeps_the_job_as_it_came(kind):
    """The dead letter holds what a replay needs: the original and its topic."""
    payload = encode_value(generation() if kind == "generation" else evaluation())
    dead = settled(Dead(Category.PERMANENT, "no"), stage="judge", kind=kind, job_payload=payload)
    assert isinstance(dead, Burial)
    assert (dead.id, dead.job_id, dead.stage) == (event_id(JOB_ID, "headrace.dead.v1"), JOB_ID, "judge")
    assert (dead.value, str(dead.topic), dead.tenant) == (payload, f"jobs.{kind}", "shop")
    assert (dead.category, dead.reason, dead.attempts) == (Category.PERMANENT, "no", 1)
    assert (dead.traceparent, dead.correlationid) == ("00-trace", "corr")
    assert (dead.origin.traceparent, dead.origin.correlationid) == ("00-trace", "corr")
    again = settled(Dead(Category.PERMANENT, "no"), replays=1)
    assert again.id == event_id(JOB_ID, "headrace.dead.v1", 1)


class Highest(random.Random):
    """Chance that always says the most."""

    def uniform(self, a, b):
        assert a == 0
        return b


def test_the_bound_of_a_delay_doubles_up_to_a_minute():
    """From a second."""
    assert [backoff(n, Highest()) for n in range(9)] == [1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


@given(attempts=st.integers(0, 10_000), seed=st.integers())
def test_backoff_is_full_jitter_within_bounds(attempts, seed):
    """Between nothing and a bound that doubles with each attempt, a minute at most."""
    assert 0 <= backoff(attempts, random.Random(seed)) <= min(60.0, 2.0 ** max(0, min(attempts, 20) - 1))


def test_backoff_spreads():
    """Jobs that failed together do not come back together, and later attempts wait longer on average."""
    chance = random.Random(3)
    means = [sum(backoff(attempt, chance) for _ in range(500)) / 500 for attempt in (1, 4, 12)]
    assert means == sorted(means)
    assert len({backoff(1, chance) for _ in range(50)}) == 50

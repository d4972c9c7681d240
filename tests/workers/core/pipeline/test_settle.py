import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import get_args

import pytest
from tests.workers.core.ledger.budget_deployment import Given
from tests.workers.core.pipeline.claimed import (
    BEHIND,
    GENERATE,
    JOB_ID,
    NOW,
    TWICE,
    moderated,
    output,
    result,
    row,
    settled,
    stub,
)
from tests.workers.runtime.bridge.records import generation

from headrace_schemas import Category, Message, StageRecord, Topic, Tuned, TuningJob, Usage
from headrace_schemas.codec import decode_value, encode_value
from headrace_schemas.errors import PromptTooLong, Unavailable
from headrace_schemas.events import JobKind
from headrace_schemas.examples import EXAMPLES
from headrace_schemas.limits import MAX_EVENT_BYTES
from headrace_workers.core.identity import end_id, said_id
from headrace_workers.core.ledger.charges import NextCall, Price, cost_of, not_made
from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.dead_letters import letter, letter_row
from headrace_workers.core.ledger.leases import Started
from headrace_workers.core.ledger.model_calls import WantedCall
from headrace_workers.core.ledger.outcome import Dead, Done, Dropped, Ended, Held, JobEnd, Retry, Row, Wait, outcome_of
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.settle import Conditions, failed, task_of
from headrace_workers.core.pipeline.stage import RetrySchedule, Stage
from headrace_workers.core.pipeline.task import pack
from headrace_workers.core.tables import INCIDENTS, NEVER
from headrace_workers.features.generation.stage import shared_prefix
from headrace_workers.models.engines.remote.failures import (
    ProviderRefuses,
    ProviderRejects,
    RemoteFailed,
    RequestRejected,
)

FREE = not_made("echo")


def test_a_step_that_is_done_makes_the_next_ready():
    done = settled(Done(output()), lane=1, rank=2, turn=77, batch=7)
    assert isinstance(done.outcome, Done)
    (following,) = done.following
    assert (following.stage, following.queue, following.event_type) == ("moderate", "moderate", "headrace.output.v1")
    assert (following.lane, following.rank, following.turn, following.deadline) == (1, 2, 0, NEVER)
    assert (following.tenant, following.flow) == ("shop", 7)
    assert following.payload == done.records[-1].value
    assert following.read_bytes == len(row().job_payload) + len(done.records[-1].value)
    assert (done.records[-1].topic, done.records[-1].key) == (Topic.OUTPUTS, JOB_ID)
    assert done.records[-1].headers["ce_traceparent"] == "00-trace"
    assert done.records[-1].headers["ce_correlationid"] == "corr"
    assert done.records[-1].headers["ce_dataschema"] == "urn:headrace:schema:headrace.output.v1"


def test_a_job_cannot_be_dropped():
    dead = settled(Dropped("nobody wants it"))
    assert isinstance(dead.outcome, Dead)
    assert "dropped a job, whose end somebody waits for" in dead.outcome.reason


def test_a_step_carries_all_of_what_came_before_it():
    done = settled(Done(output()), lane=0, rank=3, deadline=NOW + 10**6, due=NOW, tokens=99)
    (following,) = done.following
    assert (following.job_id, following.lane, following.rank, following.deadline) == (JOB_ID, 0, 3, NOW + 10**6)
    assert (following.due, following.tokens, following.group_key) == (NOW, 99, "moderate")
    assert done.job_id == JOB_ID
    assert done.records[-1].headers["ce_time"].startswith("2027-01-15T08:00:00.25")
    assert done.records[-1].headers["ce_subject"] == JOB_ID


def test_a_step_that_goes_on_to_a_model_knows_what_its_prompt_begins_with():
    turns = (Message(role="system", content="You answer for a shop. " * 40), Message(role="user", content="hello"))
    job = generation(prompt=None, messages=turns)
    (following,) = settled(Done(), stage="recall", job_payload=encode_value(job)).following
    assert (following.stage, following.prefix) == ("generate", shared_prefix(job))
    assert following.prefix is not None


def test_a_clock_that_was_set_back_gives_no_negative_times():
    done = settled(Ended(result()), stage="judge", ready_at=NOW + 5_000, accepted_at=NOW + 9_000, attempts=0)
    receipt = decode_value("headrace.result.v1", done.end.value)
    (record,) = receipt.stages
    assert (record.waited_ms, record.attempt, receipt.total_ms) == (0, 1, 0.0)


def test_what_a_step_reads():
    assert settled_task().event == settled_task().job == generation(tenant="shop")
    later = settled_task(payload=encode_value(output()), event_type="headrace.output.v1", attempts=2)
    assert (later.event, later.job, later.attempt) == (output(), generation(tenant="shop"), 2)
    assert later.accepted_at == datetime.fromtimestamp((NOW - 2_000) / 1000, UTC)


def settled_task(**changes):
    return task_of(row(**changes))


def test_the_record_of_a_stage_is_added_to_those_before():
    first = settled(Done(output()), attempts=2).records[-1].value
    event = decode_value("headrace.output.v1", first)
    (record,) = event.stages
    assert (record.stage, record.attempt, record.waited_ms, record.ran_ms, record.group_size) == (
        "generate", 2, 1_500, 250.0, 1,
    )  # fmt: skip
    last = settled(Ended(result()), stage="judge", payload=first, event_type="headrace.output.v1")
    receipt = decode_value("headrace.result.v1", last.end.value)
    assert [record.stage for record in receipt.stages] == ["generate", "judge"]
    assert (receipt.total_ms, last.following, last.records) == (2_250.0, (), ())


BOGUS = (StageRecord(stage="bogus", attempt=9, waited_ms=1, ran_ms=1, group_size=1),)


@pytest.mark.parametrize("said", [(), BOGUS], ids=["silent", "bogus"])
def test_no_step_tells_of_the_stages_before_it(said):
    first = settled(Done(output())).records[-1].value
    beside, passed, last = (event.model_copy(update={"stages": said}) for event in (output(), moderated(), result()))
    way = {"payload": first, "event_type": "headrace.output.v1"}
    done = settled(Done(passed, also=(beside,)), stage="moderate", **way)
    ended = settled(Ended(last, also=(beside,)), stage="judge", **way)
    for stage, records in (("moderate", done.records), ("judge", (*ended.records, ended.end))):
        told = [decode_value(record.headers["ce_type"], record.value).stages for record in records]
        assert [[record.stage for record in stages] for stages in told] == [["generate", stage]] * 2
    assert decode_value("headrace.moderated.v1", done.following[0].payload).stages[0].stage == "generate"


def test_an_events_id_is_the_same_however_often_it_is_made():
    ids = [
        settled(Done(output(text=text)), attempts=n).records[-1].headers["ce_id"] for text, n in (("a", 1), ("b", 2))
    ]
    assert ids == [said_id(JOB_ID, "generate", 0, 0)] * 2
    others = [
        settled(Done(output()), replays=1), settled(Done(output()), ordinal=1),
        settled(Done(output(), also=(output(),))), settled(Done(output()), stage="moderate", pipeline=Pipeline(TWICE)),
    ]  # fmt: skip
    assert len({*ids, *(other.records[-1].headers["ce_id"] for other in others)}) == 5


def test_retry_waits_at_least_as_long_as_was_asked():
    later = settled(Retry("busy", after=300.0))
    assert isinstance(later.outcome, Retry)
    assert (later.job_id, later.delay_ms, later.outcome.reason) == (JOB_ID, 300_000, "busy")


def test_the_last_attempt_is_final():
    dead = settled(Retry("busy", category=Category.REROUTABLE), attempts=3)
    assert isinstance(dead.outcome, Dead)
    assert (dead.burial.category, dead.burial.attempts, dead.burial.reason) == (
        Category.REROUTABLE,
        3,
        "given up after 3 attempts: busy",
    )


def test_a_retry_after_the_deadline_is_none():
    dead = settled(Retry("busy", after=60.0), deadline=NOW + 59_000)
    assert isinstance(dead.outcome, Dead)
    assert (dead.burial.category, "busy" in dead.burial.reason) == (Category.EXPIRED, True)
    assert isinstance(settled(Retry("busy", after=60.0), deadline=NOW + 120_000).outcome, Retry)


@pytest.mark.parametrize(("left", "kind"), [(60_250, Dead), (60_251, Retry)])
def test_a_deadline_is_counted_from_the_end_of_the_run(left, kind):
    """It ran for a quarter of a second, and is to wait for a minute: what would be due at the deadline is too late."""
    assert isinstance(settled(Retry("busy", after=60.0), deadline=NOW + left).outcome, kind)


def test_a_step_whose_worker_failed_around_it_is_tried_again():
    given = row(attempts=2)
    started = Started(1, "model.echo", "generate", "g", False, 12, NOW, (given,))
    conditions = Conditions(Pipeline(), max_attempts=3, random=Highest(), ran_ms=0.0)
    assert failed(started, given, "it broke", conditions) == StepResult(JOB_ID, Retry("it broke"), delay_ms=2_000)
    dead = failed(started, row(attempts=3), "it broke", conditions)
    assert isinstance(dead.outcome, Dead)
    assert (dead.burial.stage, dead.burial.reason) == ("generate", "given up after 3 attempts: it broke")


@pytest.mark.parametrize(
    "end", [{"attempts": 3}, {"deadline": NOW + 59_000}], ids=["no attempt is left", "no time is left"]
)
def test_what_is_known_without_the_step_is_sent_in_the_end(end):
    retry = Retry("busy", after=60.0, otherwise=Ended(result()))
    assert isinstance(settled(retry, stage="judge", attempts=2).outcome, Retry)
    last = settled(retry, stage="judge", **end)
    assert isinstance(last.outcome, Ended)
    assert (last.end.topic, last.following) == (Topic.RESULTS, ())
    receipt = decode_value("headrace.result.v1", last.end.value)
    assert [(record.stage, record.attempt) for record in receipt.stages] == [("judge", end.get("attempts", 1))]
    assert receipt.total_ms == 2_250.0


@pytest.mark.parametrize("kind", get_args(JobKind))
def test_dead_keeps_the_job_as_it_came(kind):
    payload = encode_value(EXAMPLES[f"headrace.job.{kind}.v1"])
    dead = settled(Dead(Category.PERMANENT, "no"), stage="judge", kind=kind, job_payload=payload).burial
    assert (dead.id, dead.job_id, dead.stage) == (end_id(JOB_ID, "headrace.dead.v1"), JOB_ID, "judge")
    assert (dead.value, str(dead.topic), dead.tenant) == (payload, f"jobs.{kind}", "shop")
    assert (dead.category, dead.reason, dead.attempts) == (Category.PERMANENT, "no", 1)
    assert (dead.trace, dead.traceparent, dead.correlationid) == ("00-trace", "00-trace", "corr")
    again = settled(Dead(Category.PERMANENT, "no"), replays=1).burial
    assert again.id == end_id(JOB_ID, "headrace.dead.v1", 1)


class Highest(random.Random):
    def uniform(self, a, b):
        assert a == 0
        return b


def test_what_is_not_published_goes_on_with_the_job():
    before = Stage(name="look", order=1, takes=(type(generation()),), step=stub)
    pipeline = Pipeline((before, *Pipeline().stages))
    done = settled(Done(context={"found": [1, "é"]}), stage="look", pipeline=pipeline, context=pack({"a": 1}, ()))
    assert done.records == ()
    (following,) = done.following
    assert (following.stage, following.payload, following.event_type) == (
        "generate", None, "headrace.job.generation.v1",
    )  # fmt: skip
    assert following.read_bytes == len(row().job_payload) + len(following.context)
    task = settled_task(context=following.context)
    assert (task.context, task.event) == ({"a": 1, "found": [1, "é"]}, task.job)
    assert [record.stage for record in task.stages] == ["look"]
    answer = settled(Done(output()), pipeline=pipeline, context=following.context)
    event = decode_value("headrace.output.v1", answer.records[-1].value)
    assert [record.stage for record in event.stages] == ["look", "generate"]
    assert settled_task(context=answer.following[0].context).context == {"a": 1, "found": [1, "é"]}
    assert settled_task(context=answer.following[0].context).stages == ()  # they are in the event now


def test_a_step_without_context_writes_none():
    """It would be read and copied with every step."""
    assert settled(Done(output())).following[0].context is None


def test_several_events_are_published_in_order():
    done = settled(Done(output(text="b"), also=(output(text="a"),)))
    assert [decode_value("headrace.output.v1", record.value).answer.text for record in done.records] == ["a", "b"]
    assert done.following[0].payload == done.records[-1].value
    ended = settled(Ended(result(), also=(moderated(),)), stage="judge")
    assert [record.topic for record in ended.records] == [Topic.MODERATED]
    assert (ended.end.topic, ended.following) == (Topic.RESULTS, ())


def test_a_job_that_is_sent_back_begins_a_new_round():
    back = settled(Done(to="generate"), stage="moderate", ordinal=1, payload=encode_value(output()),
                   event_type="headrace.output.v1")  # fmt: skip
    (following,) = back.following
    assert (following.stage, following.ordinal, following.queue) == ("generate", 2, "model.echo")
    assert settled(Done(output()), ordinal=2).following[0].ordinal == 2


def test_a_job_that_goes_round_in_a_circle_is_dead():
    """It would do so for ever."""
    assert isinstance(settled(Done(to="generate"), ordinal=99).outcome, Done)
    dead = settled(Done(to="generate"), ordinal=100)
    assert isinstance(dead.outcome, Dead)
    assert "back to 'generate' more than 100 times" in dead.burial.reason


def test_a_stage_says_how_often_a_job_may_come_back_to_it():
    pipeline = Pipeline((*TWICE, Stage(name="long", order=60, step=stub, most_rounds=10_000)))
    assert isinstance(settled(Done(to="long"), stage="long", pipeline=pipeline, ordinal=9_999).outcome, Done)
    dead = settled(Done(to="long"), stage="long", pipeline=pipeline, ordinal=10_000)
    assert "back to 'long' more than 10000 times" in dead.burial.reason


def test_a_stage_that_goes_on_with_its_own_work_has_one_record():
    """A run of thousands of rounds would not fit into its receipt."""
    before = (
        StageRecord(stage="recall", attempt=1, waited_ms=1, ran_ms=2, group_size=1),
        StageRecord(stage="generate", attempt=3, waited_ms=500, ran_ms=0.5, group_size=2),
    )
    (following,) = settled(Done(to="generate"), context=pack({}, before)).following
    recall, generate = settled_task(context=following.context).stages
    assert recall == before[0]
    assert generate == StageRecord(stage="generate", attempt=3, waited_ms=2_000, ran_ms=250.5, group_size=2)


def test_a_job_goes_on_to_another_model_of_the_same_stage():
    criteria = [{"criterion": "rubric", "question": "?", "model": name} for name in "ab"]
    asked = generation(criteria=criteria)
    onward = settled(
        Done(to="rubric", model="b", context={"judged": {}}), stage="rubric", job_payload=encode_value(asked),
        payload=encode_value(moderated()), event_type="headrace.moderated.v1",
    )  # fmt: skip
    (following,) = onward.following
    assert (following.stage, following.queue, following.group_key, following.ordinal) == (
        "rubric",
        "model.b",
        "rubric|b",
        1,
    )
    assert onward.records == ()


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Done(result()), "no stage that takes Result"),
        (Done(output(), to="cook"), "the unknown stage 'cook'"),
        (Ended(output()), "ended the job with Output"),
        (Done(context={"a": object()}, to="moderate"), "a context that is no JSON"),
        (Done(context={"a": float("nan")}, to="moderate"), "a context that is no JSON"),
        (Done(context={"a": "\ud800"}, to="moderate"), "a context that is no JSON"),
        (Done(context={"a": "x" * MAX_EVENT_BYTES}, to="moderate"), "more than the limit of 4194304"),
    ],
    ids=["no end", "nowhere", "no receipt", "an object", "no number", "no text", "too large"],
)
def test_what_cannot_be_done_is_the_end_of_the_job(outcome, words):
    dead = settled(outcome, stage="judge")
    assert isinstance(dead.outcome, Dead)
    assert (dead.burial.category, dead.burial.stage) == (Category.PERMANENT, "judge")
    assert words in dead.burial.reason


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PromptTooLong("900 tokens; the limit is 512"), "context_length_exceeded"),
        (RequestRejected("the provider answered 400"), "bad_request"),
        (ProviderRefuses("the provider refused to answer"), "content_policy"),
        (RemoteFailed("the provider answered 500"), "no_model_answered"),
        (ProviderRejects("the provider answered 301"), None),
        (Unavailable("the index is away"), None),
    ],
)
def test_a_dead_letter_says_what_its_sender_can_act_on(error, code):
    burial = settled(outcome_of(error), attempts=3).burial
    assert (letter(burial).code, letter_row(burial, NOW)["code"]) == (code, code)


def test_a_call_that_failed_unbilled_costs_nothing_though_its_job_goes_on():
    pinned = NextCall("echo", Price("USD", input=10), 100).pinned()
    retry = Retry("refused", category=Category.REROUTABLE, otherwise=Done(output()))
    assert cost_of(settled(retry, attempts=3, context=pack(pinned, ())).following[0].context) is None
    lost = settled(replace(retry, billed=True), attempts=3, context=pack(pinned, ()))
    cost = cost_of(lost.following[0].context)
    assert cost is not None
    assert (cost.models[0].calls, cost.bound) == (1, 1)


def test_a_step_may_wait_for_another_job_or_be_held():
    wait, held = Wait(JobEnd("other"), "it answers the same", at_most=1.5), Held("a person must look")
    assert settled(wait) == StepResult(JOB_ID, wait, delay_ms=1_500, charge=FREE)
    assert settled(held) == StepResult(JOB_ID, held, settled(held).records, charge=FREE)


def test_what_is_held_is_told_once():
    (record,) = settled(Held("a person must look"), stage="moderate").records
    event = decode_value("headrace.job.held.v1", record.value)
    assert (record.topic, record.key, event.job_id, event.stage) == (Topic.HELD, JOB_ID, JOB_ID, "moderate")
    assert (event.reason, event.needs_person) == ("a person must look", True)
    down = Held("a detector is down", needs_person=False)
    assert decode_value("headrace.job.held.v1", settled(down).records[0].value).needs_person is False
    assert settled(down, held_at=NOW - 1).records == ()


def test_what_needs_no_person_is_tried_again_ever_more_seldom():
    down = Held("a detector is down", needs_person=False)
    assert settled(Held("a person must look")).delay_ms is None
    assert 2_500 <= settled(down).delay_ms <= 5_000
    assert 15_000 <= settled(down, held_at=NOW - 60_000).delay_ms <= 30_000
    assert 60_000 <= settled(down, held_at=NOW - 86_400_000).delay_ms <= 120_000


def test_rows_are_written_with_what_they_belong_to():
    rows = (Row(INCIDENTS, {"holder": "a"}),)
    assert settled(Done(output(), rows=rows)).outcome.rows == rows
    assert settled(Ended(result(), rows=rows), stage="judge").outcome.rows == rows


def test_what_a_model_could_not_is_tried_elsewhere_at_once():
    own = replace(GENERATE, group=None, chain=lambda _job: ("echo", "big"))
    pipeline = Pipeline((own, *BEHIND))
    retry = Retry("too hard", after=9.0, category=Category.REROUTABLE)
    elsewhere = StepResult(
        JOB_ID, retry, delay_ms=0, queue="model.big", group_key="generate|big", tokens=12, charge=FREE
    )
    assert settled(retry, pipeline=pipeline) == elsewhere
    assert settled(retry, pipeline=pipeline, attempts=3) == elsewhere
    busy = Retry("busy", after=9.0)
    assert settled(busy, pipeline=pipeline) == StepResult(JOB_ID, busy, delay_ms=9_000, charge=FREE)
    assert settled(retry) == StepResult(JOB_ID, retry, delay_ms=9_000, charge=FREE)
    assert isinstance(settled(retry, attempts=3).outcome, Dead)


def test_a_stage_has_a_schedule_of_its_own():
    patient = Stage(
        name="generate", order=40, takes=(), step=stub, retry=RetrySchedule(first=3_600.0, longest=3_600.0, attempts=9)
    )
    later = settled(Retry("busy"), pipeline=Pipeline((patient,)), attempts=8)
    assert isinstance(later.outcome, Retry)
    assert isinstance(settled(Retry("busy"), pipeline=Pipeline((patient,)), attempts=9).outcome, Dead)


TUNING = {
    "kind": "tuning", "event_type": "headrace.job.tuning.v1",
    "job_payload": encode_value(TuningJob(tenant="shop", model="tiny", training_file="file-1")),
}  # fmt: skip


def trains(outcome, stage, **changes):
    """Settle a step of a tuning job whose tokens cost a third of a micro-unit."""
    pipeline = Pipeline(prices=Given(tiny=Price("USD", input=333_333)))
    return settled(outcome, stage, pipeline, **TUNING, **changes)


def left(tokens, trained=0, **changes):
    """What a step says of training for which so many tokens are left."""
    return Done(to="train", model="tiny", to_train=tokens, trained=trained, **changes)


def test_parts_of_training_cost_together_what_was_reserved_for_the_whole():
    step = trains(left(10), "prepare")
    assert (step.call, step.charge) == (WantedCall("tiny", 0, 4, to_train=10), None)
    paid, before = [], 10
    for tokens in (9, 8, 5, 1):
        step = trains(left(tokens, before - tokens), "train", context=step.following[0].context)
        before = tokens
        paid.append(step.charge.amount)
        wanted = WantedCall("tiny", sum(paid), 4 - sum(paid), goes_on=True, trained=10 - tokens, to_train=tokens)
        assert step.call == wanted
    end = trains(Done(to_train=0, trained=1), "train", context=step.following[0].context)
    assert (sum(paid) + end.charge.amount, end.call) == (4, None)
    cost = cost_of(end.following[0].context)
    assert (cost.amount, cost.models[0].trained_tokens) == (4, 10)


@pytest.mark.parametrize("outcome", [Retry("killed", billed=True), Dead(Category.PERMANENT, "no"), left(10)])
def test_training_that_keeps_nothing_new_costs_nothing(outcome):
    """It failed, or went on from an older checkpoint: what it trains again was charged before."""
    context = trains(left(10), "prepare").following[0].context
    assert trains(outcome, "train", context=context).charge is None


def test_training_without_a_price_has_a_cost_that_nobody_knows():
    tuned = Tuned(model="small", aliases=("ft-small",), usage=Usage(prompt_tokens=7, completion_tokens=0))
    end = trains(Ended(result().model_copy(update={"tuned": tuned, "kind": "tuning"})), "publish")
    cost = decode_value("headrace.result.v1", end.end.value).cost
    assert (cost.amount, cost.unknown) == (0, True)

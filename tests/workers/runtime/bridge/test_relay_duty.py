"""Which bridge publishes, and when one gives way to another: with a clock and a publisher of the test's own."""

import logging
from datetime import UTC, datetime

import pytest
from kafka.errors import InvalidTimestampError, KafkaError
from tests.workers.features.webhooks.office import Office
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import RULES, accept, evaluation, record
from tests.workers.runtime.bridge.test_relay import left, say
from tests.workers.tasks_in_memory import Tasks

from headrace_schemas import Result, Topic
from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.event_units import Following
from headrace_workers.core.ledger.outbox import outgoing
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.outage import KafkaUnavailable
from headrace_workers.core.progress import Awaited
from headrace_workers.runtime.bridge.destinations import Destination
from headrace_workers.runtime.bridge.duty import IncidentReporter
from headrace_workers.runtime.bridge.event_publisher import Published
from headrace_workers.runtime.bridge.relay import Relay
from headrace_workers.runtime.wire.assignment import Assigner, FollowUp


class Time:
    def __init__(self):
        self.ours = 100.0

    def monotonic(self):
        return self.ours


class Plan:
    """A publisher that does what the test says: by default it confirms all."""

    def __init__(self):
        self.calls, self.closed, self.refused, self.errors = [], [], {}, []

    def publish(self, rows, *, timestamp, seconds):
        self.calls.append((len(rows), timestamp, seconds))
        if self.errors:
            return Published([], {}, self.errors.pop())
        refused = {row.id: self.refused[row.record.value] for row in rows if row.record.value in self.refused}
        return Published([row.id for row in rows if row.id not in refused], refused, None)

    def close(self, seconds):
        self.closed.append(seconds)


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def asked(ledger, monkeypatch):
    hold, seen = ledger.hold, []

    def count(duty, holder, lease_ms):
        seen.append((duty, holder, lease_ms))
        return hold(duty, holder, lease_ms)

    monkeypatch.setattr(ledger, "hold", count)
    return seen


def relay_of(ledger, time, name="a", following=None, tasks=None):
    plan = Plan()
    made = Relay(
        publisher=plan,
        ledger=ledger,
        bridge=name,
        clock=time,
        incidents=IncidentReporter(ledger, name, time),
        follow_up=FollowUp(
            ledger=ledger,
            units=(following or Following()).units,
            assigner=Assigner(ledger=ledger, tasks=tasks or Tasks(waiting=99), sender=name, depth=2, lease_ms=60_000),
        ),
    )
    return made, plan


def test_the_duty_is_asked_for_when_half_of_its_lease_is_gone(ledger, time, asked):
    relay, _ = relay_of(ledger, time)
    for seconds, times in ((0, 1), (2.4, 1), (0.1, 2), (2.4, 2), (5, 3)):
        time.ours += seconds
        relay.once()
        assert len(asked) == times, seconds
    assert set(asked) == {("relay", "a", 5_000)}


def test_who_has_not_the_duty_asks_each_time_and_publishes_nothing(ledger, time, asked):
    """So that it takes over at once; it says nothing of what it cannot do."""
    say(ledger, 3)
    ledger.hold("relay", "another", 60_000)
    relay, plan = relay_of(ledger, time)
    assert [relay.once(), relay.once()] == [0, 0]
    assert (len(asked), plan.calls, relay.waits) == (3, [], None)
    ledger.lay_down("another")
    assert (relay.once(), left(ledger)) == (3, 0)


def test_what_is_published_and_how(ledger, time):
    say(ledger, 1_001)
    relay, plan = relay_of(ledger, time)
    assert [relay.once() for _ in range(3)] == [1_000, 1, 0]
    assert [(count, seconds) for count, _, seconds in plan.calls] == [(1_000, 30.0), (1, 30.0)]
    assert abs(plan.calls[0][1] - ledger.now()) < 60_000
    relay.close()
    assert plan.closed == [5.0]


def test_who_cannot_publish_gives_way_for_a_while_and_says_why(ledger, time, asked):
    say(ledger, 3)
    relay, plan = relay_of(ledger, time)
    error = KafkaError("no answer")
    plan.errors = [error]
    with pytest.raises(KafkaUnavailable, match="events cannot be published from here: KafkaError: no answer") as caught:
        relay.once()
    assert caught.value.__cause__ is error
    assert relay.waits == Awaited("Kafka", "events cannot be published from here: KafkaError: no answer")
    ((told),) = ledger.open_incidents()
    assert (told.holder, told.subject) == ("a", "relay")
    assert told.reason == "events cannot be published from here: KafkaError: no answer"
    assert left(ledger) == 3
    other, _ = relay_of(ledger, time, "b")
    assert other._on_duty()
    ledger.lay_down("b")
    time.ours += 1.9
    assert (relay.once(), relay.waits is None, len(plan.calls)) == (0, False, 1)
    time.ours += 0.1
    assert (relay.once(), relay.waits, ledger.open_incidents()) == (3, None, [])
    assert [holder for _, holder, _ in asked] == ["a", "b", "a"]


def test_only_the_duty_to_publish_is_given_up(ledger, time):
    """What else this bridge does has nothing to do with it."""
    say(ledger, 1)
    ledger.hold("ingest", "a", 60_000)
    relay, plan = relay_of(ledger, time)
    plan.errors = [KafkaError("no answer")]
    with pytest.raises(KafkaUnavailable):
        relay.once()
    assert not ledger.hold("ingest", "b", 60_000)
    assert ledger.hold("relay", "b", 60_000)


def test_a_time_that_the_broker_refuses_is_asked_for_anew(ledger, time, monkeypatch):
    say(ledger, 1)
    relay, plan = relay_of(ledger, time)
    plan.errors = [InvalidTimestampError()]
    with pytest.raises(KafkaUnavailable, match="the ledger's clock is wrong by an hour or more: compare both machines"):
        relay.once()
    monkeypatch.setattr(ledger, "now", lambda: 7)
    monkeypatch.setattr(relay, "_gives_way_until", 0.0)
    relay.once()
    assert plan.calls[-1][1] == 7


def test_a_trouble_is_over_when_there_is_nothing_to_publish(ledger, time):
    for other_does_it in (False, True):
        say(ledger, 1)
        relay, plan = relay_of(ledger, time)
        plan.errors = [KafkaError("no answer")]
        with pytest.raises(KafkaUnavailable):
            relay.once()
        ledger.published([row.id for row in ledger.outbox(9)])
        time.ours += 2.0
        if other_does_it:
            ledger.hold("relay", "b", 60_000)
        assert relay.once() == 0
        assert (relay.waits, ledger.open_incidents()) == (None, [])


def test_what_kafka_refuses_is_set_aside_and_counted(ledger, time, caplog):
    say(ledger, 7, jobs=7)
    relay, plan = relay_of(ledger, time)
    plan.refused = {b"2": "too large", b"4": "odd"}
    with caplog.at_level(logging.ERROR):
        assert relay.once() == 7
    assert {aside.key: aside.reason for aside in ledger.aside()} == {"job2": "too large", "job4": "odd"}
    assert left(ledger) == 2
    assert sorted(record.fields["job"] for record in caplog.records) == ["job2", "job4"]
    assert relay.once() == 0


@pytest.mark.parametrize("lie", [None, b"headrace.result.v1", b"headrace.dead.v1"])
def test_nothing_follows_from_a_refused_record_that_is_replayed(ledger, time, lie):
    office = Office(ledger)
    office.register("http://127.0.0.1:1/")
    (job,) = take_in(ledger, [evaluation()])
    end = outgoing(
        Result(job_id=job, tenant="default", status="completed", kind="evaluation", accepted_at=datetime.now(UTC)),
        event_id="e", job_id=job, traceparent=None, correlationid=None, at_ms=1,
    )  # fmt: skip
    headers = [(name, text.encode()) for name, text in end.headers.items() if name != "ce_type"]
    forged = record(headers=(*headers, *([("ce_type", lie)] if lie else [])), value=end.value, key=job.encode())
    ledger.ingest([], [accept(forged, RULES)])
    relay, plan = relay_of(ledger, time, following=office.following)
    assert relay.once() == 1  # the letter about it
    assert ledger.replay(DeadFilter()) == (1, 0)
    assert (relay.once(), left(ledger), len(plan.calls)) == (1, 0, 2)
    assert office.states() == []


def test_what_was_done_before_an_error_is_done_with(ledger, time, monkeypatch):
    say(ledger, 4, jobs=4)
    rows = ledger.outbox(9)
    relay, plan = relay_of(ledger, time)
    done = Published([rows[0].id], {rows[1].id: "too large"}, KafkaError("gone"))
    monkeypatch.setattr(plan, "publish", lambda *_, **__: done)
    with pytest.raises(KafkaUnavailable):
        relay.once()
    assert [row.id for row in ledger.outbox(9)] == [rows[2].id, rows[3].id]
    assert [aside.id for aside in ledger.aside()] == [rows[1].id]


def test_what_is_shut_is_tried_again_after_ten_seconds(ledger, time, monkeypatch):
    say(ledger, 3)
    relay, plan = relay_of(ledger, time)
    tried = []

    def publish(rows, **_):
        tried.append(len(rows))
        time.ours += 3
        return Published(shut={Destination(Topic.OUTPUTS): "it is not there"})

    monkeypatch.setattr(plan, "publish", publish)
    assert relay.once() == 3
    assert (relay.once(), tried) == (0, [3])
    time.ours += 6.9
    assert (relay.once(), tried) == (0, [3])
    time.ours += 0.2
    assert (relay.once(), tried) == (3, [3, 3])
    assert relay.waits == Awaited("the topic outputs", "it is not there")


@pytest.mark.parametrize(("waiting", "sent"), [(0, 1), (99, 0)])
def test_a_webhook_goes_to_its_worker_with_its_making_where_there_is_room(ledger, time, waiting, sent):
    """Else it is new work for a bridge."""
    office, tasks = Office(ledger), Tasks(waiting=waiting)
    office.register("http://127.0.0.1:9/hooks", events=("job.completed",))
    take_in(ledger, [evaluation(input="a")])
    office.settle()
    relay, _ = relay_of(ledger, time, following=office.following, tasks=tasks)
    relay.once()
    assert [claim.stage for claim in tasks.sent] == ["deliver"] * sent
    assert relay.followed is not bool(sent)
    assert len(office.claims()) == 1 - sent


def told_of_an_end(ledger, time):
    """A relay that has a job's end before it, of which a webhook is told; its publisher, and what workers are sent."""
    office, tasks = Office(ledger), Tasks(waiting=0)
    office.register("http://127.0.0.1:9/hooks", events=("job.completed",))
    take_in(ledger, [evaluation(input="a")])
    office.settle()
    return *relay_of(ledger, time, following=office.following, tasks=tasks), tasks


def test_a_webhook_does_not_wait_for_kafka(ledger, time, monkeypatch):
    """It goes out though nothing can be published; what is published later makes no second one."""
    relay, plan, tasks = told_of_an_end(ledger, time)
    with monkeypatch.context() as away:
        away.setattr(plan, "publish", lambda *_, **__: Published(error=KafkaError("gone")))
        with pytest.raises(KafkaUnavailable):
            relay.once()
    assert [claim.stage for claim in tasks.sent] == ["deliver"]
    time.ours += 9
    assert relay.once() == 1
    assert (left(ledger), len(tasks.sent), relay.followed) == (0, 1, False)


def test_what_cannot_be_followed_is_not_forgotten(ledger, time, monkeypatch):
    relay, _, tasks = told_of_an_end(ledger, time)

    def away(*_):
        raise Unavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "make_units", away)
        with pytest.raises(Unavailable):
            relay.once()
    assert tasks.sent == []
    relay.once()
    assert (left(ledger), len(tasks.sent)) == (0, 1)

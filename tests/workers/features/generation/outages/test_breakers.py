"""Breakers in the ledger: workers share them, one of them probes, and routing and dispatch know them."""

import threading
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import select, update
from tests.workers.core.ledger.conftest import ledger  # noqa: F401 - a fixture
from tests.workers.core.ledger.test_work import settings
from tests.workers.core.pipeline.claimed import outcome_settled
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture
from tests.workers.ledger_jobs import claim_one, dispatch, take_in
from tests.workers.runtime.bridge.records import RULES, generation
from tests.workers.tasks_in_memory import Tasks

from headrace_schemas import Message, Sampling, Topic
from headrace_schemas.codec import decode_value
from headrace_schemas.errors import Unavailable, Unparsable
from headrace_schemas.job import Lane
from headrace_schemas.model_events import BreakerClosed
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.outcome import Done, ProviderBusy, Retry, Unanswered, Wait
from headrace_workers.core.pipeline.chain import OWN, tried_in
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.settle import task_of
from headrace_workers.core.pipeline.task import unpack
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import STEPS
from headrace_workers.features.generation.model_health import (
    BreakerIsOpen,
    KnownBreakers,
    ModelHealth,
    MonitoredGenerator,
    Permit,
)
from headrace_workers.features.generation.rerouting import Rerouting
from headrace_workers.features.generation.stage import generate
from headrace_workers.features.generation.store import breakers
from headrace_workers.features.generation.store import breakers as store
from headrace_workers.features.generation.store.breakers import FIRST_MS, PATIENCE, Breaker, Breakers, Calls, signal_of
from headrace_workers.features.generation.tables import BREAKERS, MODEL_CALLS
from headrace_workers.models.engines.echo import EchoGenerator
from headrace_workers.models.engines.remote.failures import CutByDeadline, RemoteFailed, ServerFailed
from headrace_workers.models.generator import (
    Abstained,
    Completion,
    LabelRequest,
    NotAsked,
    RemoteSource,
    Request,
)
from headrace_workers.runtime.worker.work import Work

DOWN = RemoteFailed("it could not be reached")
ANSWER = Completion("hello", "stop", 3, 1)
CHAIN = partial(generation, model=("echo", "other"))


class Down(EchoGenerator):
    """A generator whose provider is away. It counts its calls."""

    def __init__(self, error=DOWN):
        super().__init__()
        self.error, self.calls = error, 0

    def generate(self, requests):
        self.calls += len(requests)
        return [self.error for _ in requests]


def open_now(ledger, model="echo", **values):  # noqa: F811
    ledger.of(Breakers).follow(model, lambda _, now: Breaker(
        **({"failures": 5, "openings": 1, "opened_at": now, "open_until": now + 60_000, "reason": "away"} | values)
    ))  # fmt: skip


def half_open(ledger, model="echo", open_until=1):  # noqa: F811
    with writing(ledger.engine) as tx:
        tx.execute(update(BREAKERS).where(BREAKERS.c.model == model).values(open_until=open_until, probed_until=None))


def asked_by(tenant):
    return Request((Message(role="user", content="hi"),), Sampling(), tenant)


def breaker_of(ledger, model="echo"):  # noqa: F811
    found = ledger.of(Breakers).all().get(model)
    return found.breaker if found else Breaker()


def is_due_in(ledger, job_id, ms):  # noqa: F811
    now = ledger.now()
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).where(STEPS.c.job_id == job_id).values(deadline=now + ms))


def task(ledger, job, due_in=None):  # noqa: F811
    (job_id,) = take_in(ledger, [job])
    if due_in is not None:
        is_due_in(ledger, job_id, due_in)
    started = ledger.start(
        claim_one(ledger, lane=0 if job.lane is Lane.INTERACTIVE else 1).id, worker="w", lease_ms=9_000
    )
    return task_of(started.steps[-1], started.now)


def test_a_worker_that_fails_opens_the_breaker_for_all(ledger):  # noqa: F811
    one, other = ModelHealth(ledger, "echo"), ModelHealth(ledger, "echo")
    assert other.permit() == Permit()
    before = ledger.now()
    one.note([DOWN] * PATIENCE, 5, probed=False)
    assert before + FIRST_MS / 2 <= breaker_of(ledger).open_until <= ledger.now() + FIRST_MS
    assert 0 < one.permit().wait <= FIRST_MS / 1000
    third = ModelHealth(ledger, "echo").permit()
    assert (third.wait > 0, third.reason) == (True, "it could not be reached")


def test_one_of_many_workers_probes_a_half_open_breaker(ledger):  # noqa: F811
    open_now(ledger)
    half_open(ledger)
    permits, ready = [], threading.Barrier(8)

    def ask():
        health = ModelHealth(ledger, "echo")
        ready.wait()
        permits.append(health.permit(5.0))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((permit.probes, permit.wait > 0) for permit in permits) == [(False, True)] * 7 + [(True, False)]


def test_a_tenant_whose_probe_failed_does_not_take_the_next_one(ledger, monkeypatch):  # noqa: F811
    for module in (breakers, store):
        monkeypatch.setattr(module, "OTHERS_FIRST_MS", 600_000)
    open_now(ledger)
    for tenant, probes in (("a", True), ("a", False), ("b", True), ("b", False), ("a", True)):
        half_open(ledger, open_until=ledger.now())
        model = MonitoredGenerator(Down(), ModelHealth(ledger, "echo"))
        assert isinstance(model.generate([asked_by(tenant)])[0], RemoteFailed) == probes
    half_open(ledger, open_until=ledger.now())
    assert not ledger.of(Breakers).take_probe("echo", 500, "a")
    half_open(ledger)
    assert ledger.of(Breakers).take_probe("echo", 500, "a")


def test_a_probe_that_is_answered_closes_the_breaker(ledger, monkeypatch):  # noqa: F811
    open_now(ledger)
    half_open(ledger)
    health = ModelHealth(ledger, "echo")
    assert health.permit().probes
    health.note([DOWN], 5, probed=True)
    again = breaker_of(ledger)
    assert (again.openings, again.probed_until) == (2, None)
    half_open(ledger)
    health = ModelHealth(ledger, "echo")
    assert health.permit().probes
    monkeypatch.setattr(store, "OTHERS_FIRST_MS", 600_000)
    health.note([Unavailable("the job was let go of")], 5, probed=True)
    assert breaker_of(ledger).probed_until is None
    assert not ledger.of(Breakers).take_probe("echo", 500, "")
    assert ModelHealth(ledger, "echo").permit(tenant="b").probes
    health.note([ANSWER], 5, probed=True)
    assert breaker_of(ledger) == Breaker()


def test_a_probe_that_is_answered_500_is_not_made_once_more(ledger):  # noqa: F811
    model = Down(ServerFailed("500"))
    open_now(ledger)
    half_open(ledger)
    (probe,) = generate([task(ledger, CHAIN())], generator=MonitoredGenerator(model, ModelHealth(ledger, "echo")))
    assert (probe.again, breaker_of(ledger).openings) == (False, 2)
    ledger.of(Breakers).follow("echo", lambda *_: Breaker())
    (usual,) = generate([task(ledger, CHAIN())], generator=MonitoredGenerator(model, ModelHealth(ledger, "echo")))
    assert (usual.again, breaker_of(ledger).failures) == (True, 1)


def test_a_hard_limit_opens_the_breaker_until_the_time_that_it_names(ledger):  # noqa: F811
    health = ModelHealth(ledger, "echo")
    health.note([ProviderBusy("429", after=2)] * 9, 5, probed=False)
    assert breaker_of(ledger) == Breaker()
    health.note([NotAsked("at its rate", after=600)] * 9, 5, probed=False)
    assert breaker_of(ledger) == Breaker()
    health.note([ProviderBusy("quota", after=4 * 3_600)], 5, probed=False)
    assert health.permit().wait == pytest.approx(3_600, abs=30)


def test_a_provider_that_counts_too_many_tokens_is_named(ledger):  # noqa: F811
    """Its jobs are charged with the most: people must know why."""
    source = RemoteSource(provider="p", model="m", has_usage=False, disbelieved=10**12)
    ModelHealth(ledger, "echo").note([replace(ANSWER, remote=source)], 5, probed=False)
    (incident,) = ledger.overview().incidents
    assert incident.subject == "model echo: usage"
    assert "counted 1,000,000,000,000 tokens" in incident.reason


def test_a_provider_that_names_no_time_is_away(ledger):  # noqa: F811
    """Nobody knows when it takes calls again: its refusals count as failures, and not as the times that we guess."""
    health, before = ModelHealth(ledger, "echo"), ledger.now()
    health.note([ProviderBusy("503", after=1.0, is_sure=False)] * PATIENCE, 5, probed=False)
    assert before + FIRST_MS / 2 <= breaker_of(ledger).open_until <= ledger.now() + FIRST_MS


def test_a_call_that_waited_for_its_turn_looks_at_the_breaker_again(ledger):  # noqa: F811
    asked = []

    class Asks(EchoGenerator):
        provider = OWN

        def generate(self, requests):
            asked.extend(request.barred() for request in requests)
            ModelHealth(ledger, "echo").note([DOWN] * PATIENCE, 5, probed=False)
            health._known.forget()
            asked.extend(request.barred() for request in requests)
            return [NotAsked("the breaker opened", after=1.0) for _ in requests]

    health = ModelHealth(ledger, "echo")
    generate([task(ledger, generation())], generator=MonitoredGenerator(Asks(), health))
    before, after = asked
    assert before == 0 < after <= FIRST_MS / 1000
    half_open(ledger)
    health._known.forget()
    assert health.barred() == 1.0
    asked.clear()
    generate([task(ledger, generation())], generator=MonitoredGenerator(Asks(), health))
    assert asked == [0.0, 0.0]


@pytest.mark.parametrize("asks", ["generate", "label_probabilities"])
def test_every_call_of_a_model_follows_its_breaker(ledger, asks):  # noqa: F811
    def ask():
        model = MonitoredGenerator(EchoGenerator(), ModelHealth(ledger, "echo"))
        message = Message(role="user", content="yes or no")
        if asks == "generate":
            return model.generate([Request((message,), Sampling())])[0]
        return model.label_probabilities([LabelRequest((message,), ("yes", "no"))])[0]

    open_now(ledger)
    assert isinstance(ask(), BreakerIsOpen)
    half_open(ledger)
    assert not isinstance(ask(), Exception)
    assert breaker_of(ledger) == Breaker()
    ledger.of(Breakers).drill("echo", "down", 60_000)
    assert isinstance(ask(), RemoteFailed)
    assert breaker_of(ledger).failures == 1


def test_a_model_with_an_open_breaker_is_not_asked(ledger):  # noqa: F811
    open_now(ledger)
    model, health = Down(), ModelHealth(ledger, "echo")

    def outcome(asked):
        (unanswered,) = generate([asked], generator=MonitoredGenerator(model, health))
        return outcome_settled(unanswered, asked)

    moved = outcome(task(ledger, CHAIN()))
    assert isinstance(moved, Retry)
    assert moved.reason == "echo was not asked: its breaker is open after away"
    assert [(attempt.model, attempt.ms) for attempt in tried_in(moved.context)] == [("echo", 0.0)]
    for job in (generation(), CHAIN(lane=Lane.BATCH)):
        waits = outcome(task(ledger, job))
        assert isinstance(waits, Wait)
        assert waits.until.key == signal_of("echo")
        assert 0 < waits.at_most <= 60
    assert isinstance(outcome(task(ledger, CHAIN(lane=Lane.BATCH), 300_000)), Retry)
    assert model.calls == 0


def test_a_dead_model_is_asked_no_more_than_until_its_breaker_opens(ledger):  # noqa: F811
    model, health = Down(), ModelHealth(ledger, "echo")
    for _ in range(20):
        generate([task(ledger, generation())], generator=MonitoredGenerator(model, health))
    assert model.calls == PATIENCE


@pytest.mark.parametrize(
    "outcome", [Abstained("not sure"), Unavailable("later"), Unparsable("it is no tree"), CutByDeadline("in 1.2 s")]
)
def test_what_a_job_alone_causes_says_nothing_about_its_model(ledger, outcome):  # noqa: F811
    health = ModelHealth(ledger, "echo")
    health.note([outcome] * 9, 5, probed=False)
    assert breaker_of(ledger) == Breaker()
    open_now(ledger, probed_until=2**62)
    health.note([CutByDeadline("it took longer than 1.2 s")], 5, probed=True)
    assert (breaker_of(ledger).openings, breaker_of(ledger).probed_until) == (1, None)


def test_opening_and_closing_are_events(ledger):  # noqa: F811
    health = ModelHealth(ledger, "echo")
    health.note([DOWN] * 9, 5, probed=False)
    half_open(ledger)
    health.note([DOWN], 5, probed=True)
    half_open(ledger)
    health.note([ANSWER], 5, probed=True)
    records = [item.record for item in ledger.outbox(9)]
    assert {(record.topic, record.key) for record in records} == {(Topic.MODELS, "echo")}
    opened, closed = (decode_value(record.headers["ce_type"], record.value) for record in records)
    assert (opened.model, opened.reason) == ("echo", "it could not be reached")
    assert closed == BreakerClosed(model="echo", opened_at=closed.opened_at)


def test_a_breaker_tells_others_no_word_of_the_provider(ledger, caplog):  # noqa: F811
    """The provider may have quoted the prompt of the job that failed, which is told all of it."""
    error = RemoteFailed("the provider answered 401: cannot read 'my diagnosis'")
    error.shared = "the provider answered 401"
    failing = MonitoredGenerator(Down(error), ModelHealth(ledger, "echo"))
    failed = [generate([task(ledger, generation())], generator=failing)[0] for _ in range(PATIENCE)]
    assert all("my diagnosis" in str(outcome.error) for outcome in failed)
    (shut,) = generate([task(ledger, generation())], generator=MonitoredGenerator(Down(), ModelHealth(ledger, "echo")))
    told = [
        str(shut.error),
        breaker_of(ledger).reason,
        *(incident.reason for incident in ledger.overview().incidents),
        *(str(item.record.value) for item in ledger.outbox(9) if item.record.topic is Topic.MODELS),
        *(record.getMessage() for record in caplog.records if "breaker" in record.getMessage()),
    ]
    assert len(told) == 5
    assert all("answered 401" in item and "diagnosis" not in item for item in told)


def test_steps_that_wait_for_a_model_are_ready_when_it_answers_again(ledger):  # noqa: F811
    open_now(ledger)
    take_in(ledger, [generation()])
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(state="parked", waits_for=signal_of("echo"), ready_at=2**62))
    ModelHealth(ledger, "echo").note([ANSWER], 5, probed=True)
    assert [row.state for row in ledger.read(select(STEPS.c.state))] == ["ready"]


def test_calls_are_counted_by_the_minute(ledger):  # noqa: F811
    now = [0.0]
    for _ in range(2):
        health = ModelHealth(ledger, "echo", lambda: now[0])
        health.note([ANSWER, DOWN], 10, probed=False)
        now[0] += 10
        health.note([ANSWER], 30, probed=False)
    calls = ledger.of(Breakers).calls(5)
    assert calls == {"echo": Calls(6, 2, 80, 30)}
    assert ledger.read(select(MODEL_CALLS.c.model)) != []


def test_nothing_is_sent_to_a_model_whose_breaker_is_open(ledger):  # noqa: F811
    take_in(ledger, [generation() for _ in range(9)])
    sender = dispatch(ledger, Tasks(), limits=lambda: KnownBreakers(ledger).groups())
    open_now(ledger)
    assert sender.once() == 0
    half_open(ledger)
    assert sender.once() == 1
    ledger.of(Breakers).follow("echo", lambda *_: Breaker())
    assert sender.once() >= 1


def test_a_process_looks_more_often_while_a_breaker_is_not_closed(ledger):  # noqa: F811
    now = [0.0]
    known = KnownBreakers(ledger, lambda: now[0])
    assert known.avoided("a") == frozenset()
    open_now(ledger)
    now[0] += 0.2
    assert known.avoided("a") == frozenset()
    now[0] += 0.4
    assert known.avoided("a") == {"echo"}
    ledger.of(Breakers).follow("echo", lambda *_: Breaker())
    now[0] += 0.2
    assert known.avoided("a") == frozenset()


def rerouting(ledger, live=("model.echo", "model.other")):  # noqa: F811
    known = KnownBreakers(ledger)
    return Rerouting(
        ledger=ledger, pipeline=Pipeline(avoided=known.avoided), breakers=known, models=lambda: ["echo", "other"],
        live=lambda queues: frozenset(queues) & set(live), clock=SystemClock(),
    )  # fmt: skip


def places(ledger):  # noqa: F811
    return sorted(tuple(row) for row in ledger.read(select(STEPS.c.queue, STEPS.c.lane)))


def test_steps_that_wait_for_an_open_breaker_go_to_the_next_model(ledger):  # noqa: F811
    """Interactive ones, and batch work whose deadline is near; others wait, and what waits for nothing else says so."""
    ids = take_in(ledger, [CHAIN(), CHAIN(lane=Lane.BATCH), CHAIN(lane=Lane.BATCH), generation()], RULES)
    is_due_in(ledger, ids[2], 300_000)
    open_now(ledger)
    assert rerouting(ledger).once() == 2
    found = {row.job_id: row for row in ledger.read(select(STEPS))}
    assert [found[text].queue for text in ids] == ["model.other", "model.echo", "model.other", "model.echo"]
    moved = found[ids[0]]
    assert (moved.tokens, moved.group_key.split("|")[1]) == (1_000 + 256, "other")
    (attempt,) = tried_in(unpack(moved.context)[0])
    assert (attempt.model, attempt.reason) == ("echo", "echo was not asked: its breaker is open")
    assert found[ids[3]].reason == "echo was not asked: its breaker is open"
    assert rerouting(ledger).once() == 0


def test_steps_whose_model_has_no_worker_go_to_the_next_model(ledger):  # noqa: F811
    """After a while; where nobody knows who has a worker, nothing moves."""
    take_in(ledger, [CHAIN()])
    assert rerouting(ledger, live=["model.other"]).once() == 0
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(ready_at=STEPS.c.ready_at - 9_000))
    blind = rerouting(ledger)
    blind._live = lambda _queues: None
    assert blind.once() == 0
    assert rerouting(ledger).once() == 0
    assert rerouting(ledger, live=["model.other"]).once() == 1
    assert places(ledger) == [("model.other", 0)]


def test_a_busy_model_does_not_hold_interactive_jobs_without_bound(ledger):  # noqa: F811
    """The ledger knows since when a step waits for its model, and forgets it for the next one."""
    (job_id,) = take_in(ledger, [CHAIN()])
    step = partial(generate, generator=Down(ProviderBusy("429", after=1)))
    work = Work(Pipeline(), {("model.echo", "generate"): step}, settings(), SystemClock())

    def asked():
        started = ledger.start(claim_one(ledger, "model.echo").id, worker="w", lease_ms=9_000)
        assert ledger.complete(started.claim_id, work.do(started), ran_ms=1, quantum_ms=5_000) is not None
        return ledger.read(select(STEPS).where(STEPS.c.job_id == job_id))[0]

    def began_to_wait(since):
        with writing(ledger.engine) as tx:
            tx.execute(update(STEPS).values(ready_at=1, waited_since=since))
        ledger.reap(3)
        return since

    first = asked()
    assert (first.state, first.queue) == ("parked", "model.echo")
    assert first.waited_since <= ledger.now()
    since = began_to_wait(ledger.now())
    second = asked()
    assert (second.state, second.queue, second.waited_since) == ("parked", "model.echo", since)
    began_to_wait(ledger.now() - 9_500)
    third = asked()
    assert (third.state, third.queue, third.waited_since) == ("ready", "model.other", None)


def test_no_provider_saw_the_text_of_a_job_in_a_drill(ledger):  # noqa: F811
    far = MonitoredGenerator(Far(), ModelHealth(ledger, "echo", lambda: 0.0))
    ledger.of(Breakers).drill("echo", "down", 60_000)
    (down,) = generate([task(ledger, CHAIN())], generator=far)
    assert isinstance(down, Unanswered)
    assert (down.attempt.model, down.attempt.provider) == ("echo", None)


class Far(EchoGenerator):
    provider = "acme"


def test_a_drill_is_felt_until_its_time_is_over(ledger):  # noqa: F811
    answers, health = EchoGenerator(), ModelHealth(ledger, "echo", lambda: 0.0)
    ledger.of(Breakers).drill("echo", "down", 60_000)
    (down,) = generate([task(ledger, CHAIN())], generator=MonitoredGenerator(answers, health))
    assert isinstance(down, Unanswered)
    assert str(down.error) == "drill: it could not be reached"
    ledger.of(Breakers).drill("echo", None, 0)
    (done,) = generate([task(ledger, CHAIN())], generator=MonitoredGenerator(answers, ModelHealth(ledger, "echo")))
    assert isinstance(done, Done)


class Poisoned(EchoGenerator):
    """A generator that fails for the prompts of one tenant. It counts the calls of each tenant."""

    def __init__(self):
        super().__init__()
        self.is_down, self.calls = False, Counter()

    def generate(self, requests):
        self.calls.update(request.tenant for request in requests)
        return [ServerFailed("500") if self.is_down or request.tenant == "attacker" else ANSWER for request in requests]


def workers_of(ledger, model):  # noqa: F811
    """Two workers that hold this model, which know what the ledger has."""

    def ask(*tenants):
        made = [MonitoredGenerator(model, ModelHealth(ledger, "echo")) for _ in range(2)]
        return [made[number % 2].generate([asked_by(tenant)])[0] for number, tenant in enumerate(tenants)]

    return ask


def owns_open_until(ledger, open_until):  # noqa: F811
    def change(breaker, _now):
        own = {
            name: replace(tenant, open_until=open_until)
            for name, tenant in breaker.tenants.items()
            if tenant.open_until
        }
        return replace(breaker, tenants=own)

    ledger.of(Breakers).follow("echo", change)


def test_a_tenant_whose_prompts_fail_is_stopped_and_others_keep_their_model(ledger):  # noqa: F811
    model = Poisoned()
    ask = workers_of(ledger, model)
    ask("victim")
    for _ in range(9):
        ask(*["attacker"] * 3)
        assert ask("victim") == [ANSWER]
    assert model.calls["victim"] == 10
    assert PATIENCE <= model.calls["attacker"] <= PATIENCE + 1  # a worker knows for a moment what it read last
    known = KnownBreakers(ledger)
    assert (known.avoided("attacker"), known.avoided("victim"), known.groups()) == ({"echo"}, set(), {})
    assert [row for row in ledger.outbox(9) if row.record.topic is Topic.MODELS] == []
    (incident,) = ledger.overview().incidents
    assert incident.subject == "model echo, tenant attacker"
    assert incident.reason == "its breaker is open, for this tenant alone: 500"


def test_a_group_of_several_tenants_is_asked_without_the_one_that_is_stopped(ledger):  # noqa: F811
    model = Poisoned()
    ask = workers_of(ledger, model)
    ask("victim", *["attacker"] * PATIENCE)
    of_many = MonitoredGenerator(model, ModelHealth(ledger, "echo"))
    found = of_many.generate([asked_by(name) for name in ("victim", "attacker", "other")])
    assert [isinstance(completion, BreakerIsOpen) for completion in found] == [False, True, False]


def test_steps_of_a_tenant_that_is_stopped_go_to_the_next_model_and_others_stay(ledger):  # noqa: F811
    ids = take_in(ledger, [CHAIN(tenant="victim"), CHAIN(tenant="attacker")], RULES)
    workers_of(ledger, Poisoned())("victim", *["attacker"] * PATIENCE)
    assert rerouting(ledger).once() == 1
    found = {row.job_id: row.queue for row in ledger.read(select(STEPS))}
    assert [found[text] for text in ids] == ["model.echo", "model.other"]


def test_steps_of_a_tenant_that_is_stopped_are_sent_by_ones_until_somebody_is_answered(ledger):  # noqa: F811
    ask = workers_of(ledger, Poisoned())
    ask("victim", *["attacker"] * PATIENCE)
    assert KnownBreakers(ledger).groups() == {"echo": 1}
    ask("victim")
    assert KnownBreakers(ledger).groups() == {}


def test_steps_that_wait_are_ready_when_the_model_answers_their_tenant_again(ledger):  # noqa: F811
    model = Poisoned()
    workers_of(ledger, model)("victim", *["attacker"] * PATIENCE)
    take_in(ledger, [generation()])
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(state="parked", waits_for=signal_of("echo"), ready_at=2**62))
    owns_open_until(ledger, 1)
    ModelHealth(ledger, "echo").note([ANSWER], 5, probed=True, tenants=["attacker"])
    assert [row.state for row in ledger.read(select(STEPS.c.state))] == ["ready"]

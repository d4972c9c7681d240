import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from ipaddress import ip_network
from pathlib import Path

import pytest
from sqlalchemy import select, update
from standardwebhooks import Webhook
from tests.services.eventually import eventually
from tests.workers.core.ledger.test_work import settings
from tests.workers.features.webhooks.office import HERE, ORIGINS, Office
from tests.workers.features.webhooks.receiver import hangs, receiving, says
from tests.workers.ledger_jobs import claim_one, sqlite_ledger, take_in
from tests.workers.runtime.bridge.records import evaluation, rules_of

from headrace_schemas import Category, Tuned, TuningJob, Usage
from headrace_schemas.callback import TUNING_EVENTS, Callback
from headrace_schemas.errors import Unavailable
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.outcome import Dead, Ended, Wait
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.pipeline.receipt import receipt
from headrace_workers.core.pipeline.task import Unit
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import CLAIMS, STEPS
from headrace_workers.features.webhooks import registering
from headrace_workers.features.webhooks.sender import Sender
from headrace_workers.features.webhooks.signing import Sealer
from headrace_workers.features.webhooks.stage import deliver
from headrace_workers.features.webhooks.store.deliveries import Range
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.features.webhooks.tables import DELIVERIES, ENDPOINTS
from headrace_workers.runtime.worker.work import Work


@pytest.fixture
def ledger(tmp_path):
    with sqlite_ledger(tmp_path) as made:
        yield made


def jobs(ledger, count, **fields):
    """So many jobs, whose callbacks may go to this machine, and when they were taken in also to its network's own."""
    wanted = [evaluation(input=str(n), **fields) for n in range(count)]
    return take_in(ledger, wanted, rules_of(ledger, replace(HERE, networks=(ip_network("169.254.0.0/16"),))))


def rows(ledger):
    return ledger.of(Webhooks).deliveries(Range(), 1_000)[::-1]


def test_what_is_taken_is_done(ledger):
    office = Office(ledger)
    with receiving(says(202, b"thanks")) as receiver:
        _, secret = office.register(receiver.url)
        (job,) = jobs(ledger, 1)
        office.end(job)
        assert office.deliver() == 1
        (heard,) = receiver.heard
    (row,) = rows(ledger)
    assert (row.state, row.attempts, row.status, row.answer, row.error) == ("delivered", 1, 202, "thanks", None)
    assert heard.headers["webhook-id"] == row.id
    assert Webhook(secret).verify(heard.body, heard.headers)["data"]["id"] == job


def test_the_end_of_a_tuning_job_is_told_by_openai_s_name_and_signed(ledger):
    usage = Usage(prompt_tokens=9, completion_tokens=0)
    office, tuned = Office(ledger), Tuned(model="echo", aliases=("ft-echo-1",), usage=usage)

    def end(task):
        good = task.job.idempotency_key == "good"
        return Ended(receipt(task, tuned=tuned)) if good else Dead(Category.INVALID, "line 3")

    sent = [TuningJob(model="echo", training_file="file-1", idempotency_key=key) for key in ("good", "bad")]
    work = Work(office.pipeline, {("tune", "prepare"): lambda tasks: list(map(end, tasks))}, settings(), SystemClock())
    with receiving() as receiver:
        _, secret = office.register(receiver.url, events=TUNING_EVENTS)
        ids = take_in(ledger, sent)
        while (claim := claim_one(ledger, "tune")) is not None:
            started = ledger.start(claim.id, worker="w", lease_ms=60_000)
            assert ledger.complete(claim.id, work.do(started), ran_ms=1, quantum_ms=1)
        office.relay()
        office.deliver()
        told = [Webhook(secret).verify(heard.body, heard.headers) for heard in receiver.heard]
    assert sorted((item["type"], item["data"]["id"]) for item in told) == [
        ("fine_tuning.job.failed", f"ftjob-{ids[1]}"), ("fine_tuning.job.succeeded", f"ftjob-{ids[0]}"),
    ]  # fmt: skip


def test_a_failure_is_tried_again_under_the_same_id(ledger):
    office = Office(ledger)
    with receiving(says(500)) as receiver:
        _, secret = office.register(receiver.url)
        office.end(*jobs(ledger, 1))
        began = ledger.now()
        office.deliver()
        (row,) = rows(ledger)
        assert (row.state, row.attempts, row.status, row.error) == ("pending", 1, 500, "it answered 500")
        assert began + 4_000 < row.next_at < ledger.now() + 6_000
        receiver.answer = says()
        office.let_time_pass()
        office.deliver()
        first, second = receiver.heard
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert Webhook(secret).verify(second.body, second.headers)
    assert [(row.state, row.attempts, row.status) for row in rows(ledger)] == [("delivered", 2, 200)]


def test_ten_attempts_and_then_it_is_dead(ledger):
    office, waited = Office(ledger), []
    with receiving(says(500)) as receiver:
        office.register(receiver.url)
        office.end(*jobs(ledger, 1))
        for _ in range(10):
            began = ledger.now()
            office.deliver()
            (row,) = rows(ledger)
            waited.append([0 if row.next_at is None else row.next_at - at for at in (began, ledger.now())])
            office.let_time_pass()
        assert office.deliver() == 0
        assert len(receiver.heard) == 10
    usual = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]
    for (since_before, since_after), want in zip(waited[:9], usual, strict=True):
        assert since_before >= 890 * want, waited
        assert since_after <= 1_110 * want, waited
    (row,) = rows(ledger)
    assert (row.state, row.attempts) == ("failed", 10)
    (letter,) = ledger.dead(DeadFilter())
    assert (letter.stage, letter.reason) == ("deliver", "given up after 10 attempts: it answered 500")


def test_an_hour_of_errors_loses_nothing(ledger):
    office = Office(ledger)
    with receiving(says(500)) as receiver:
        endpoint, _ = office.register(receiver.url)
        office.end(*jobs(ledger, 60))
        office.deliver()
        assert 5 <= len(receiver.heard) <= 5 + 8
        assert ledger.of(Webhooks).endpoint(endpoint).paused_until > ledger.now()
        for _ in range(12):  # an hour of probes
            office.let_time_pass()
            before = len(receiver.heard)
            office.deliver()
            assert len(receiver.heard) - before == 1
        receiver.answer = says()
        office.let_time_pass()
        office.deliver()
        office.let_time_pass()
        office.deliver()
        ids = [heard.headers["webhook-id"] for heard in receiver.heard[-60:]]
    assert len(set(ids)) == 60
    assert {row.state for row in rows(ledger)} == {"delivered"}
    assert max(row.attempts for row in rows(ledger)) < 10
    stands = ledger.of(Webhooks).endpoint(endpoint)
    assert (stands.failures, stands.failing_since, stands.paused_until) == (0, None, None)


def test_one_that_is_well_again_gets_what_waited_for_it_at_once(ledger):
    office = Office(ledger)
    with receiving(says(500)) as receiver:
        office.register(receiver.url)
        office.end(*jobs(ledger, 30))
        office.deliver()
        receiver.answer = says()
        with writing(ledger.engine) as tx:
            tx.execute(update(ENDPOINTS).values(paused_until=1))
            (one,) = tx.execute(select(STEPS.c.job_id).where(STEPS.c.state == "parked").limit(1)).scalars()
            tx.execute(update(STEPS).where(STEPS.c.job_id == one).values(state="ready", waits_for=None))
        office.deliver()
        states = [row.state for row in rows(ledger)]
        assert states.count("delivered") >= 30 - 13  # what was tried waits for its own time
        assert not ledger.read(select(STEPS.c.job_id).where(STEPS.c.state == "parked"))


def test_410_disables_the_endpoint(ledger):
    """What waits for it is dropped, nothing more is made for it, and the tenant's other endpoint hears of it."""
    office = Office(ledger)
    with receiving(says(410)) as gone, receiving() as other:
        endpoint, _ = office.register(gone.url)
        office.register(other.url, events=("endpoint.disabled",))
        office.end(*jobs(ledger, 20))
        office.deliver()
        assert len(gone.heard) <= 8
        (heard,) = other.heard
        assert b'"type":"endpoint.disabled"' in heard.body
        assert endpoint.encode() in heard.body
        mine = ledger.of(Webhooks).deliveries(Range(endpoint_id=endpoint), 100)
        assert {row.state for row in mine} == {"dropped"}
        assert ledger.dead(DeadFilter(), 100) == []
        assert office.end(*jobs(ledger, 1, metadata={"later": "yes"})) == 0
        gone.answer = says()
        ledger.of(Webhooks).enable(endpoint)
        assert ledger.of(Webhooks).replay(Range(endpoint_id=endpoint), delivered=False) == 20
        office.deliver()
        assert ledger.of(Webhooks).preview(Range(endpoint_id=endpoint), delivered=False).failed == 0


def test_what_was_for_a_deleted_endpoint_is_dropped(ledger):
    office = Office(ledger)
    with receiving() as receiver:
        endpoint, _ = office.register(receiver.url)
        office.end(*jobs(ledger, 20))
        ledger.of(Webhooks).remove(endpoint)
        office.deliver()
        assert receiver.heard == []
    assert {(row.state, row.error) for row in rows(ledger)} == {("dropped", f"the tenant has no endpoint {endpoint}")}
    assert [len(ledger.of(Webhooks).deliveries(Range(), 100, state)) for state in ("dropped", "failed", "pending")] == [
        20, 0, 0,
    ]  # fmt: skip
    assert ledger.dead(DeadFilter(), 100) == []
    assert ledger.of(Webhooks).preview(Range(tenant="default"), delivered=True).failed == 0
    assert ledger.of(Webhooks).replay(Range(tenant="default"), delivered=True) == 0


def test_what_was_for_a_disabled_endpoint_is_dropped_until_it_is_sent_again(ledger):
    office = Office(ledger)
    with receiving() as receiver:
        endpoint, _ = office.register(receiver.url)
        office.end(*jobs(ledger, 20))
        ledger.of(Webhooks).disable(endpoint, "it is moved")
        office.deliver()
        assert {row.state for row in rows(ledger)} == {"dropped"}
        assert all("its endpoint is disabled: it is moved" in row.error for row in rows(ledger))
        assert ledger.dead(DeadFilter(), 100) == []
        ledger.of(Webhooks).enable(endpoint)
        assert ledger.of(Webhooks).preview(Range(endpoint_id=endpoint), delivered=False).failed == 20
        assert ledger.of(Webhooks).replay(Range(endpoint_id=endpoint), delivered=False) == 20
        office.deliver()
        assert len(receiver.heard) == 20
    assert {row.state for row in rows(ledger)} == {"delivered"}


def test_a_receivers_wish_to_wait_holds_for_all(ledger):
    office = Office(ledger)
    with receiving(says(503, retry_after="600")) as receiver:
        office.register(receiver.url)
        office.end(*jobs(ledger, 20))
        office.deliver()
        tried = len(receiver.heard)
        assert tried <= 8
        with writing(ledger.engine) as tx:  # what comes before the time is over waits with the others
            tx.execute(update(STEPS).where(STEPS.c.state == "parked").values(state="ready", waits_for=None))
        office.deliver()
        assert len(receiver.heard) == tried
    waits = [row.next_at - ledger.now() for row in rows(ledger)]
    assert min(waits) > 590_000


def test_a_dead_endpoint_delays_no_living_one(ledger):
    """Each claim is of one endpoint; what hangs is another's."""
    office = Office(ledger)
    with receiving(hangs) as dead, receiving() as one, receiving() as two:
        for receiver in (dead, one, two):
            office.register(receiver.url)
        office.end(*jobs(ledger, 10))
        claims = office.claims()
        assert len(claims) == 3
        running = [threading.Thread(target=office.run, args=(claim,)) for claim in claims]
        for thread in running:
            thread.start()
        eventually(lambda: (len(one.heard), len(two.heard)) == (10, 10))
        assert len(dead.heard) <= 8  # those that it may be told at once: it has answered none
        assert sum(thread.is_alive() for thread in running) >= 1
        dead.over.set()
        for thread in running:
            thread.join(60)


def test_what_is_kept_off_costs_no_attempt_and_goes_with_the_next_answer(ledger):
    office = Office(ledger, Sender(HERE, seconds=600))

    def answers_at_last(receiver, handler, heard):
        receiver.over.wait(600)
        says()(receiver, handler, heard)

    with receiving(answers_at_last) as receiver:
        office.register(receiver.url)
        office.end(*jobs(ledger, 1))
        (claim,) = office.claims()
        first = threading.Thread(target=office.run, args=(claim,))
        first.start()
        eventually(lambda: receiver.heard)
        office.end(*jobs(ledger, 2, metadata={"n": "2"}))
        office.deliver()
        assert [(row.state, row.attempts) for row in rows(ledger)[1:]] == [("pending", 0)] * 2
        assert ledger.read(select(STEPS.c.state).where(STEPS.c.reason.like("%has not answered%"))) == [("parked",)] * 2
        assert len(receiver.heard) == 1
        receiver.over.set()
        first.join(120)
        office.deliver()
    assert [(row.state, row.attempts) for row in rows(ledger)] == [("delivered", 1)] * 3


def test_two_tenants_hear_of_their_own(ledger):
    office = Office(ledger)
    with receiving() as first, receiving() as second:
        _, one = office.register(first.url, tenant="one")
        _, two = office.register(second.url, tenant="two")
        mine = take_in(ledger, [evaluation(tenant="one"), evaluation(tenant="two", input="b")])
        office.end(*mine)
        office.deliver()
        for receiver, secret, job in ((first, one, mine[0]), (second, two, mine[1])):
            (heard,) = receiver.heard
            assert Webhook(secret).verify(heard.body, heard.headers)["data"]["id"] == job


def test_callbacks_are_signed_with_the_tenants_own_secret(ledger):
    from headrace_workers.features.webhooks.registering import callbacks_of

    office = Office(ledger, sealer=Sealer([os.urandom(32)]))
    with receiving() as receiver:
        base = receiver.url.split("?")[0]
        office.end(*[jobs(ledger, 1, callback=Callback(url=f"{base}?order={n}"), metadata={"n": str(n)})[0]
                     for n in range(3)])  # fmt: skip
        office.deliver()
        own = callbacks_of("default", ledger.of(Webhooks), office.sealer)
        assert "whsec" not in own.secret
        secret = office.sealer.open(own.secret, own.id)
        assert sorted(heard.path for heard in receiver.heard) == [f"/hooks?order={n}" for n in range(3)]
        for heard in receiver.heard:
            assert Webhook(secret).verify(heard.body, heard.headers)
    assert ledger.of(Webhooks).endpoints() == [own]


def test_a_callback_to_a_wrong_url_is_dead_at_once(ledger):
    office = Office(ledger)
    office.end(*jobs(ledger, 1, callback=Callback(url="https://169.254.169.254/latest")))
    office.deliver()
    (row,) = rows(ledger)
    assert (row.state, row.status) == ("failed", None)
    assert "not a public address" in row.error
    assert ledger.of(Webhooks).endpoints(origins=ORIGINS)[0].failures == 0


def test_a_secret_that_nobody_can_open_waits_for_a_person(ledger):
    office = Office(ledger, sealer=Sealer([os.urandom(32)]))
    with receiving() as receiver:
        office.register(receiver.url)
        office.end(*jobs(ledger, 1))
        Office(ledger, sealer=Sealer([os.urandom(32)])).deliver()
        assert receiver.heard == []
        (row,) = rows(ledger)
        assert (row.state, row.attempts) == ("pending", 0)
        assert "HEADRACE_WEBHOOK_KEY" in row.error
        office.let_time_pass()
        office.deliver()
        assert len(receiver.heard) == 1


def test_a_ledger_that_is_away_costs_no_attempt():
    class Away:
        def due(self, *_):
            raise Unavailable("away")

    unit = Unit("u", "s", "t", "we_1", None, b"")
    (outcome,) = deliver([unit], webhooks=Away(), sender=None, sealer=Sealer())
    assert isinstance(outcome, Wait)
    assert outcome.at_most == 1.0


def test_a_deliverer_that_is_killed_between_sending_and_writing_sends_again_under_the_same_id(ledger, tmp_path):
    office = Office(ledger)
    root = Path(__file__).parents[4]
    running = []

    def kill(receiver, handler, heard):
        running[0].send_signal(signal.SIGKILL)
        running[0].wait(120)
        says()(receiver, handler, heard)

    with receiving(kill) as receiver:
        office.register(receiver.url)
        office.end(*jobs(ledger, 1))
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", _DELIVERER, str(ledger.engine.url)],
                cwd=root,
                env={**os.environ, "PYTHONPATH": str(root)},
            )
        )
        assert running[0].wait(120) == -signal.SIGKILL
        with writing(ledger.engine) as tx:
            tx.execute(update(CLAIMS).values(lease_until=1, renewed_at=0))
        assert ledger.reap(3).crashed == 1
        receiver.answer = says()
        office.deliver()
        first, second = receiver.heard
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    (row,) = rows(ledger)
    assert (row.state, row.attempts) == ("delivered", 1)  # the other one, nobody could write down


_DELIVERER = """
import sys
import headrace_workers.wiring
from tests.workers.features.webhooks.office import Office
from headrace_workers.core.ledger.ledger import Ledger

Office(Ledger.at(sys.argv[1])).deliver()
"""


def test_what_was_forgotten_is_done(ledger):
    office = Office(ledger)
    with receiving() as receiver:
        office.register(receiver.url)
        office.end(*jobs(ledger, 1))
        with writing(ledger.engine) as tx:
            tx.execute(DELIVERIES.delete())
        assert office.deliver() == 1
        assert receiver.heard == []
    assert ledger.read(select(STEPS.c.state).where(STEPS.c.stage == "deliver")) == [("done",)]


def test_secrets_are_in_no_repr():
    made = registering.WithSecret(None, "whsec_abc")
    wanted = registering.Wanted(tenant="t", url="https://a.example", events=(), secret="whsec_abc")
    assert "whsec" not in repr(made) + repr(wanted) + repr(partial(registering.register, wanted=wanted))

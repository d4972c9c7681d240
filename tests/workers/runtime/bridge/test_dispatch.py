import time

import pytest
import redis
from sqlalchemy import select
from tests.workers.ledger_jobs import dispatch, take_in
from tests.workers.runtime.bridge.records import embedding, generation
from tests.workers.tasks_in_memory import Tasks

from headrace_schemas.job import Lane
from headrace_workers.core.ledger.claims import Claim, Claimed
from headrace_workers.core.ledger.steps import BATCH, INTERACTIVE
from headrace_workers.core.pipeline.routing import ServedModel
from headrace_workers.core.redis import PRIORITIES, RedisNames
from headrace_workers.core.tables import CLAIMS, STEPS
from headrace_workers.runtime.wire.taskqueue import TaskQueue

QUEUE = "model.echo"
NAMES = RedisNames("test.")


@pytest.fixture
def client(redis_server):
    client = redis.Redis.from_url(redis_server.url)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def tasks(redis_server, client):
    return TaskQueue(client, NAMES, "a ledger")


def jobs(count, lane=Lane.INTERACTIVE):
    return [generation(lane=lane) for _ in range(count)]


def waiting(client, line):
    """How many messages wait in a line of the model's queue."""
    return client.llen(NAMES.line(QUEUE, line))


def take(client):
    """Where a worker would take its next message from."""
    for line in PRIORITIES:
        if client.rpop(NAMES.line(QUEUE, line)):
            return line
    return None


def leased(ledger):
    return [row.lane for row in ledger.read(select(CLAIMS.c.lane).order_by(CLAIMS.c.id))]


def test_never_more_than_depth_waits_in_a_lane(ledger, tasks, client):
    take_in(ledger, jobs(9) + jobs(9, Lane.BATCH))
    sender = dispatch(ledger, tasks)
    assert [sender.once() for _ in range(3)] == [4, 0, 0]
    assert (waiting(client, "interactive"), waiting(client, "batch")) == (2, 2)
    take(client)
    assert sender.once() == 1
    assert len(leased(ledger)) == 5


def test_a_group_is_as_large_as_it_may_be(ledger, tasks):
    take_in(ledger, jobs(10))
    assert dispatch(ledger, tasks, group_size=8).once() == 2
    assert sorted(row.size for row in ledger.read(select(CLAIMS.c.size))) == [2, 8]


def test_interactive_work_goes_ahead_of_batch_work_that_came_first(ledger, tasks, client):
    take_in(ledger, jobs(3, Lane.BATCH))
    sender = dispatch(ledger, tasks)
    sender.once()
    take_in(ledger, jobs(1))
    sender.once()
    assert [take(client) for _ in range(4)] == ["interactive", "batch", "batch", None]


def test_batch_work_has_a_floor(ledger, tasks, client):
    take_in(ledger, jobs(60) + jobs(60, Lane.BATCH))
    sender = dispatch(ledger, tasks, depth=1)
    taken = []
    for _ in range(40):
        sender.once()
        assert waiting(client, "ahead") <= 1
        taken.append(take(client))
    assert set(taken) == {"interactive", "ahead"}  # the worker is never idle, and the batch lane is never reached
    assert 3 <= taken.count("ahead") <= 5


def test_claims_that_redis_did_not_take_are_given_back(ledger, tasks, client, monkeypatch):
    take_in(ledger, jobs(4))
    send, sent = tasks.send, []

    def flaky(claim, **how):
        if len(sent) == 1:
            raise redis.ConnectionError("gone")
        sent.append(claim.id)
        send(claim, **how)

    monkeypatch.setattr(tasks, "send", flaky)
    with pytest.raises(redis.ConnectionError):
        dispatch(ledger, tasks).once()
    assert [row.id for row in ledger.read(select(CLAIMS.c.id))] == sent
    attempts = ledger.read(select(STEPS.c.attempts).where(STEPS.c.state == "ready"))
    assert [row.attempts for row in attempts] == [0, 0, 0]


def test_work_for_a_model_that_is_not_here_waits(ledger, tasks):
    take_in(ledger, [generation(model="other")])
    assert dispatch(ledger, tasks).once() == 0
    assert dispatch(ledger, tasks, models=lambda: [ServedModel("echo"), ServedModel("other")]).once() == 1


CLAIM = Claim(1, QUEUE, "generate", 1, 1)


@pytest.mark.parametrize(
    ("found", "full", "rest"),
    [
        (Claimed(), 0, 1.0),
        (Claimed((CLAIM,)), 0, 0.25),
        (Claimed(), 1, 0.25),
        (Claimed(), 99, 0.25),
        (Claimed(lingers_ms=120), 0, 0.12),
        (Claimed(lingers_ms=60_000), 0, 1.0),
        (Claimed((CLAIM,), lingers_ms=120), 0, 0.12),
    ],
    ids=["nothing", "sent", "a lane is full", "all are", "lingers", "lingers long", "sent and lingers"],
)
def test_when_it_looks_again(found, full, rest):
    class Found:
        def claim(self, *_wanted, **_how):
            return found

    class Full(Tasks):
        def waiting(self, queues):
            return {place: 16 if number < full else 0 for number, place in enumerate(queues)}

    sender = dispatch(Found(), Full())
    sender.once()
    assert sender.rest == rest


def test_a_group_that_waits_for_company_goes_when_it_has_waited(ledger, tasks, client):
    sender = dispatch(ledger, tasks, linger_ms=300, group_size=8)
    take_in(ledger, jobs(1, Lane.BATCH))
    if not sender.once():  # a busy machine may be late
        time.sleep(sender.rest)
        assert sender.once() == 1
    assert waiting(client, "batch") == 1


def test_batch_work_that_needs_no_model_waits_for_company_for_a_moment():
    seen = {}

    class Asked:
        def claim(self, wanted, **_):
            seen.update({(item.queue, item.lane): item.linger_ms for item in wanted})
            return Claimed()

    dispatch(Asked(), Tasks(), linger_ms=300).once()
    assert (seen["moderate", BATCH], seen["moderate", INTERACTIVE]) == (50, 0)


def test_a_group_of_texts_to_embed_is_of_like_length(ledger, tasks):
    words = [n * 7 % 64 + 1 for n in range(64)]
    take_in(ledger, [embedding(input="word " * count, lane=Lane.BATCH) for count in words])
    take_in(ledger, [embedding(input="word " * 60), embedding(input="word")])
    sender = dispatch(ledger, tasks, group_size=16, depth=1)
    assert sender.once() == 2
    found = ledger.read(
        select(STEPS.c.tokens, CLAIMS.c.lane).join(CLAIMS, CLAIMS.c.id == STEPS.c.claim_id).order_by(STEPS.c.tokens)
    )
    batch = [row.tokens for row in found if row.lane == BATCH]
    assert batch == list(range(batch[0], batch[0] + 16))
    assert [row.tokens for row in found if row.lane == INTERACTIVE] == [2, 61]

import pytest
from sqlalchemy import update
from tests.services.eventually import eventually
from tests.workers.cli.conftest import Call
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import RULES, accept, evaluation, generation, record

from headrace_schemas import Topic
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outbox import Outgoing, put
from headrace_workers.core.redis import RedisNames, redis_client
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import STEPS
from headrace_workers.runtime.wire.hints import Hint

JOB = evaluation(idempotency_key="held").job_id("")


@pytest.fixture
def made(ledger: Ledger) -> int:
    """A dead letter, an event that Kafka refused (its number is told), and a job that is held."""
    take_in(ledger, [evaluation(idempotency_key="held")])
    ledger.ingest([], [accept(record(generation(model="gone")), RULES)])
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(state="held"))
        put(tx, [Outgoing(Topic.OUTPUTS, "k", {}, b"x")])
    number = ledger.outbox(9)[-1].id
    ledger.set_aside({number: "too large"})
    return number


@pytest.mark.parametrize(
    "command",
    [("dead", "replay", "--all"), ("dead", "replay", "--events"), ("dead", "drop", "--yes"),
     ("review", "held", JOB, "--release"), ("review", "held", JOB, "--withhold", "no")],
    ids=" ".join,
)  # fmt: skip
def test_bridges_are_told(call: Call, made: int, redis_server, monkeypatch, command):
    monkeypatch.setenv("HEADRACE_REDIS", redis_server.url)
    with redis_client(redis_server.url) as client, client.pubsub(ignore_subscribe_messages=True) as bell:
        bell.subscribe(RedisNames("headrace.").hints)
        eventually(lambda: client.pubsub_numsub(RedisNames("headrace.").hints)[0][1] == 1)
        code, _, err = call(*command, *([str(made)] if "--events" in command or "drop" in command else []))
        assert code == 0, err
        assert eventually(bell.get_message)["data"].decode().split() == list(Hint)


@pytest.mark.integration
@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "no url"])
def test_a_redis_that_does_not_answer_is_no_error(call: Call, made: int, monkeypatch, url):
    monkeypatch.setenv("HEADRACE_REDIS", url)
    assert call("dead", "replay", "--all")[0] == 0

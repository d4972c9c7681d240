"""The commands of docker-compose.yml, word for word, against Apache Kafka, Redis and PostgreSQL."""

import itertools

import pytest
from sqlalchemy import select
from tests.acceptance.conftest import Shell, end
from tests.commands import COMMANDS
from tests.services.eventually import eventually
from tests.services.models import SMOLLM2

from headrace_producers import KafkaSettings, Producer, ResultReader
from headrace_producers.kafka import KafkaSink
from headrace_schemas import Result
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.redis import RedisNames, live_queues, redis_client
from headrace_workers.core.tables import CLAIMS, PROCESS_STARTS

pytestmark = pytest.mark.acceptance
_numbers = itertools.count()


@pytest.fixture
def production(tmp_path, smollm2_home, apache_kafka, redis_server, postgres):
    """A folder whose commands find production's services."""
    name = f"acceptance{next(_numbers)}"
    ledger = postgres.create_database(name)
    return Shell(
        tmp_path,
        {
            "HEADRACE_HOME": str(smollm2_home),
            "HEADRACE_KAFKA": apache_kafka.address,
            "HEADRACE_TOPIC_PREFIX": f"{name}.",
            "HEADRACE_REDIS": redis_server.url,
            "HEADRACE_LEDGER": ledger,
            "HEADRACE_LEDGER_PASSWORD": "not asked for on loopback",
            "TMPDIR": str(tmp_path),  # where processes show that they live: of this deployment alone
        },
    )


def test_a_deployment_as_compose_runs_it(production):
    production.run(*COMMANDS["init"])
    production.run(*COMMANDS["health-bridge"], code=1)
    names = ("bridge", "worker-generate", "worker-recall", "worker-moderate", "worker-judge", "worker-deliver")
    processes = {name: production.start(*COMMANDS[name]) for name in names}
    try:
        settings = KafkaSettings.at(production.env["HEADRACE_KAFKA"], production.env["HEADRACE_TOPIC_PREFIX"])
        with ResultReader(settings) as reader, Producer(KafkaSink(settings)) as producer:
            reader.open()
            job_id = producer.generate(model=SMOLLM2, prompt="Name a river.", max_tokens=8)
            producer.flush()
            (received,) = list(reader.read(job_ids=[job_id], timeout=300))
        assert isinstance(received.event, Result), received.event
        assert received.event.status == "completed"
        assert received.event.answer.usage.completion_tokens > 0
        with redis_client(production.env["HEADRACE_REDIS"]) as client:  # the job has not waited for these two
            others, keys = {"recall", "deliver"}, RedisNames(settings.prefix)
            eventually(lambda: live_queues(client, keys, sorted(others)) == others)
        for name in ("health-bridge", "health-worker"):
            production.run(*COMMANDS[name])
        ledger = Ledger.at(production.env["HEADRACE_LEDGER"])
        noted = set(ledger.read(select(PROCESS_STARTS.c.what)))
        assert noted == {(" ".join(COMMANDS[name]),) for name in names}
    finally:
        codes = {name: end(process) for name, process in processes.items()}
    assert codes == dict.fromkeys(names, 0)
    eventually(lambda: ledger.outbox(1) == [])
    assert ledger.read(select(CLAIMS.c.id)) == ledger.read(select(PROCESS_STARTS.c.name)) == []
    ledger.close()

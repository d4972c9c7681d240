"""Gateways over real services: one of a whole deployment for all tests, and some that stand alone.

`gateway` is what most tests want: echo answers come by themselves. `alone` has Kafka, Redis and a ledger of its own and
nothing that takes jobs in, so that a test sees what happens before, and plays the rest itself (`bridge`, `answer`).
"""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from tests.chaos.deployment import ROLES, Deployment, over
from tests.services.kafka import KafkaServer, find_tansu
from tests.services.need import need
from tests.services.postgres import PostgresServer, find_postgres
from tests.services.redis import RedisServer, find_redis
from tests.services.server import Server
from tests.services.tables import give_back, postgres_tables
from tests.workers.http.served import IDLE, Gateway, served

from headrace_producers.admin import ensure_topics
from headrace_workers.core.progress import Progress
from headrace_workers.models.embedders.hashed import make_hash_embedder
from headrace_workers.runtime.bridge.bridge import Duty
from headrace_workers.runtime.settings import GatewaySettings, ModelSettings, Settings
from headrace_workers.testing import make_echo_model
from headrace_workers.wiring.build_bridge import build_bridge

EMBEDDER = "hash"  # it has no weights

_NUMBERS = itertools.count(1)
Started = TypeVar("Started", bound=Server)


@pytest.fixture(scope="session")
def deployment(service_folder: Path) -> Iterator[Deployment]:
    """Bridge and workers as processes of their own: the echo model answers, moderated and judged.

    It lives as long as all tests, so its services are its own: others are killed, wiped and silenced meanwhile.
    Who embeds is not started: a test that wants it starts `recall`. Nobody ever runs the model `IDLE`.
    """
    roles = {
        **ROLES,
        "light": ("worker", "--role", "moderate", "--role", "judge"),
        "recall": ("worker", "--role", "recall"),
        "remote": ("worker", "--role", "generate", "--remote"),
    }
    with own_servers(service_folder / "gateway-services") as (kafka, redis, postgres):
        found = over(kafka, redis, postgres, service_folder, "gateway", roles=roles, lease=None)
        found.extra = {name: {"HEADRACE_EMBEDDER": EMBEDDER} for name in ("bridge", "recall")}
        found.prepare()
        make_hash_embedder(found.folder)
        idle = make_echo_model(found.folder, IDLE)
        (idle / "tokenizer_config.json").write_text("{}")
        (idle / "chat_template.jinja").write_text(KNOWS_TOOLS)
        found.start("bridge", "generate", "light")
        yield found
        found.close()


# Of a model that can choose whether to call a tool.
KNOWS_TOOLS = '{% if tools %}<tool_call>{"name": "", "arguments": {}}</tool_call>{% endif %}'


@contextmanager
def own_servers(folder: Path) -> Iterator[tuple[KafkaServer, RedisServer, PostgresServer]]:
    """An embedded Kafka, a Redis and a PostgreSQL in folders under this one."""
    folder.mkdir()
    with ExitStack() as stack:

        def started(find: Callable[[Path], Started | None], name: str) -> Started:
            (folder / name).mkdir()
            server = need(find(folder / name), f"{name} is needed")
            stack.callback(server.stop)
            server.start()
            return server

        yield started(find_tansu, "tansu"), started(find_redis, "redis"), started(find_postgres, "postgres")


def settings_of(deployment: Deployment) -> Settings:
    """What a gateway of this deployment is told. It refuses no job for the age of its queue: jobs for the model `IDLE`
    of earlier tests still wait there.
    """
    return Settings(
        home=deployment.folder,
        kafka=deployment.settings,
        redis=deployment.redis,
        ledger=deployment.ledger,
        parts=(ModelSettings(embedder=EMBEDDER), GatewaySettings(max_queue_age=86_400.0)),
    )


@pytest.fixture(scope="session")
def gateway(deployment: Deployment) -> Iterator[Gateway]:
    with served(settings_of(deployment)) as found:
        yield found


@pytest.fixture(scope="session")
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    """A client of that gateway, of the tenant `default`, which may do all."""
    with gateway.client() as found:
        yield found


@pytest.fixture
def settings(
    embedded_kafka: KafkaServer,
    redis_server: RedisServer,
    postgres: PostgresServer,
    tmp_path: Path,
    fresh_prefix: str,
) -> Iterator[Settings]:
    """A deployment without any process: topics, a ledger, and the echo model.

    The ledger is PostgreSQL's, which refuses more than SQLite. That both do what is asked, the ledger's tests show.
    """
    name = f"alone{next(_NUMBERS)}"
    make_echo_model(tmp_path)
    kafka = embedded_kafka.settings(fresh_prefix)
    ensure_topics(kafka, partitions=1)
    # A machine that stands still for seconds is no outage.
    ledger = f"{postgres_tables(postgres, name)}?connect_timeout=60"
    yield Settings(home=tmp_path, kafka=kafka, redis=redis_server.url, ledger=ledger)
    give_back(postgres, name)


@pytest.fixture
def alone(settings: Settings) -> Iterator[Gateway]:
    """A gateway beside which no process runs."""
    with served(settings) as found:
        yield found


@contextmanager
def bridge_of(settings: Settings) -> Iterator[None]:
    """A bridge on a thread, which takes in what was sent, and relays; nothing is done."""
    stop = threading.Event()
    built = build_bridge(settings, frozenset({Duty.INGEST, Duty.RELAY, Duty.REAP}), Progress())
    thread = threading.Thread(target=built.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def bridge(settings: Settings) -> Callable[[], object]:
    """`with bridge(): …` is the time in which jobs are taken in."""
    return lambda: bridge_of(settings)

